"""lanser: a language server's facts as deterministic, replayable artifacts (arXiv 2510.22907).

A server is pinned, asked, and its answers become *Analysis Bundles*, *safe edits* and a *process reward*. Nothing
else of this project is needed.

Layers, each importing only those before it:

* plain data, standard library only: :mod:`lsp.errors` (exit codes), :mod:`lsp.canonical` (JCS, ids),
  :mod:`lsp.positions`, :mod:`lsp.text`, :mod:`lsp.workspace` (what is on disk), :mod:`lsp.suppress`,
  :mod:`lsp.process_reward`;
* types, with pydantic: :mod:`lsp.bundle`, :mod:`lsp.selectors`;
* the server: :mod:`lsp.wire` (raw frames) or :mod:`lsp.client` (pygls), :mod:`lsp.servers` (profiles),
  :mod:`lsp.host`, :mod:`lsp.session`;
* verbs: :mod:`lsp.diagnose`, :mod:`lsp.queries`, :mod:`lsp.facts` (an episode's facts), :mod:`lsp.cli` (the command).

Inside a sandbox use the facade, which imports neither pydantic nor pygls (0.1 s of CPU)::

    from lsp.facts import Diagnoser

    meter = Diagnoser("/workspace", extra_paths=["/site"], command=["/opt/ty", "server"], timeout=10)
    bundle = meter.diagnose()                # a plain dict, always; never raises for what the server did
    bundle["facts"]["count"]                 # D, suppressed diagnostics included; None when the server failed:
    missing, never 0 bundle["facts"]["suppressed"]            # how many of them are suppressed
    bundle["facts"]["targets"]["digest"]     # the target set, fixed by the first call meter.ask("def",
    selector="src/app.py@L42:C7") meter.close()

Invariants:

* An answer is given only for the content that is on disk now, whoever changed it (:mod:`lsp.session`).
* Same snapshot, server, configuration, encoding and request: the same hashed domain, byte for byte, in any folder,
  cold or warm.
* Every failure is a :class:`lsp.errors.LanserError` with an exit code; nothing waits for ever.
* Nothing is written unless asked for, and then inside the workspace only, old or new, never between.
"""
