"""lanser: a language server's facts as deterministic, replayable artifacts (arXiv 2510.22907).

A server is pinned, asked, and its answers become *Analysis Bundles*, *safe edits* and a *process reward*. Nothing
else of this project is needed.

Layers, each importing only those before it:

    errors  canonical  positions  text                       exit codes, hashes, lines and columns, bytes
    folders  ignore  workspace  snapshots                    what is on disk now, and what was
    selectors  modules  symbols  fingerprint                 names of places, and what a Python file defines
    candidates  anchors  ranking  relocate                   where a selector leads that may be stale
    bundle  locations  sarif                                 answers as data
    suppress  evasion                                        no comment hides a diagnostic from the count
    edits  transaction  threeway                             edits, written whole or not at all
    servers  wire  client  host  documents  session          one server, one workspace (raw frames, or pygls)
    assemble  diagnose  queries  mutations  changed          verbs that ask, verbs that write
    verbs  process_reward  trace                             every verb by its name, the reward, the replay
    facts  inside                                            the facade of episodes, and what a tool server asks
    ask  daemon  batch  sdk                                  a warm server for many questions
    options  gate  doctor  wording  render  terminal  cli    the command
    doubles                                                  a server that misbehaves on demand, for tests

Inside a sandbox use the facade, which imports neither pydantic nor pygls (0.1 s of CPU)::

    from lsp.facts import Diagnoser

    meter = Diagnoser("/workspace", extra_paths=["/site"], command=["/opt/ty", "server"], timeout=10)
    bundle = meter.diagnose()  # a plain dict, always; never raises for what the server did
    bundle["facts"]["count"]  # D, suppressed diagnostics included; None, never 0, when the server failed
    bundle["facts"]["suppressed"]  # how many of them are suppressed
    bundle["facts"]["targets"]["digest"]  # the target set, fixed by the first call
    meter.ask("def", selector="src/app.py@L42:C7")
    meter.close()

Invariants:

* An answer is given only for the content that is on disk now, whoever changed it (:mod:`lsp.session`).
* Same snapshot, server, configuration, encoding and request: the same hashed domain, byte for byte, in any folder,
  cold or warm.
* Every failure is a :class:`lsp.errors.LanserError` with an exit code; nothing waits for ever.
* Nothing is written unless asked for, and then inside the workspace only, old or new, never between.
"""
