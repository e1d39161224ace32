"""The ``lanser`` command: selectors in, facts out.

Light to start: neither asyncio nor pygls nor pydantic is imported until a command needs it. Invariants: with ``--json``
stdout holds one bundle and nothing else; the exit status is the bundle's code; a user never sees a traceback.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lsp.errors import Code, LanserError
from lsp.options import Common, complain, execute, finish, guarded, leave

app = typer.Typer(
    name="lanser",
    help="Ask a language server about code: by selectors that survive edits, "
    "with deterministic answers and safe edits.\n\n"
    "A SELECTOR is one of  src/app.py@L42:C7   py://pkg.mod#Class.method:body   ast://[module=m]/[def=f]   "
    'anchor://src/app.py#"some text".\n\n'
    "\b\nExamples:\n"
    "  lanser def py://pkg.mod#Class.method\n"
    "  lanser refs src/app.py@L42:C7 --json\n"
    "  lanser diag --changed origin/main --fail-on new-errors\n"
    "  lanser rename py://pkg.mod#old_name new_name --apply",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
trace_app = typer.Typer(help="Recorded commands: list, show, replay without a server.", no_args_is_help=True)
schema_app = typer.Typer(help="JSON Schema of bundles, and checks against it.", no_args_is_help=True)
daemon_app = typer.Typer(help="A warm server behind a private socket.", no_args_is_help=True)
app.add_typer(trace_app, name="trace")
app.add_typer(schema_app, name="schema")
app.add_typer(daemon_app, name="daemon")

Selector = Annotated[str, typer.Argument(help="Where: see lanser --help.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One Analysis Bundle on stdout, nothing else.")]
Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The folder that is analysed.")]
Server = Annotated[str, typer.Option("--server", "-s", help="A shipped profile, or a .toml file.")]
IndexIo = Annotated[str, typer.Option("--index-io", help="What columns count: codepoint, utf-8 or utf-16.")]
TraceFile = Annotated[Path | None, typer.Option("--trace-file", help="Append every frame to this file.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that one request may take.")]
NoDaemon = Annotated[bool, typer.Option("--no-daemon", help="Do not use a running daemon.")]
Changed = Annotated[
    str | None, typer.Option("--changed", metavar="[REV]", help="Files that differ from REV, by default HEAD.")
]
Apply = Annotated[bool, typer.Option("--apply/--dry-run", help="Write; the default is a preview.")]
AllowDirty = Annotated[bool, typer.Option("--allow-dirty", help="Write although git has uncommitted changes.")]
Allow = Annotated[list[str] | None, typer.Option("--allow", help="Only paths that match this glob.")]
Deny = Annotated[list[str] | None, typer.Option("--deny", help="No path that matches this glob.")]
Strategy = Annotated[
    str, typer.Option("--strategy", help="When a file changes meanwhile: atomic refuses, 3way merges by git.")
]
DenyAmbiguous = Annotated[
    bool,
    typer.Option("--deny-apply-on-ambiguous/--allow-apply-on-ambiguous", help="Write only where SELECTOR is exact."),
]

DEFAULT_SERVER = "basedpyright"


@app.callback(invoke_without_command=True)
def version(shown: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if shown:
        import importlib.metadata

        print(f"lanser {importlib.metadata.version('repodojo')}")
        raise typer.Exit


def _query(cmd: str, args: dict[str, Any], common: Common) -> None:
    finish(guarded(lambda: execute(cmd, args, common)), common)


def _selector_verb(cmd: str, summary: str, *aliases: str) -> None:
    def verb(
        selector: Selector,
        as_json: Json = False,
        workspace: Workspace = ".",
        server: Server = DEFAULT_SERVER,
        index_io: IndexIo = "codepoint",
        trace_file: TraceFile = None,
        timeout: Timeout = 30.0,
        no_daemon: NoDaemon = False,
    ) -> None:
        common = Common(as_json, workspace, server, index_io, trace_file, timeout, no_daemon)
        _query(cmd, {"selector": selector}, common)

    for name in (cmd, *aliases):
        app.command(name, help=summary, hidden=name != cmd)(verb)


_selector_verb("def", "Where the thing at SELECTOR is defined.", "definition")


def refs(
    selector: Selector,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many places.")] = None,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended: meta.cursor.")] = None,
    as_json: Json = False,
    workspace: Workspace = ".",
    server: Server = DEFAULT_SERVER,
    index_io: IndexIo = "codepoint",
    trace_file: TraceFile = None,
    timeout: Timeout = 30.0,
    no_daemon: NoDaemon = False,
) -> None:
    common = Common(as_json, workspace, server, index_io, trace_file, timeout, no_daemon)
    page = {key: value for key, value in (("limit", limit), ("cursor", cursor)) if value is not None}
    _query("refs", {"selector": selector, **page}, common)


app.command("refs", help="Every place that refers to it.")(refs)
app.command("references", hidden=True)(refs)

_selector_verb("hover", "Its type and documentation.")
_selector_verb("locate", "Where SELECTOR leads now, without asking a server.")
_selector_verb("prepare-rename", "What a rename there would rename.")


@app.command(help="Symbols of a file, or of the workspace by --query.")
def symbols(
    path: Annotated[str | None, typer.Argument(help="A file of the workspace.")] = None,
    query: Annotated[str, typer.Option("--query", "-q", help="Part of a name, for the whole workspace.")] = "",
    as_json: Json = False,
    workspace: Workspace = ".",
    server: Server = DEFAULT_SERVER,
    timeout: Timeout = 30.0,
    no_daemon: NoDaemon = False,
) -> None:
    common = Common(as_json, workspace, server, "codepoint", None, timeout, no_daemon)
    if not path and not query:
        guarded(lambda: _refuse("symbols needs a file of the workspace, or --query and a part of a name"))
    _query("symbols", {"path": path} if path else {"query": query}, common)


def diag(
    paths: Annotated[list[str] | None, typer.Argument(help="Files or folders; everything without any.")] = None,
    changed: Annotated[
        str | None, typer.Option("--changed", metavar="[REV]", help="Files that differ from REV, by default HEAD.")
    ] = None,
    fail_on: Annotated[str | None, typer.Option("--fail-on", help="errors, warnings or new-errors: exit 1.")] = None,
    form: Annotated[str, typer.Option("--format", help="text, json or sarif.")] = "text",
    as_json: Json = False,
    workspace: Workspace = ".",
    server: Server = DEFAULT_SERVER,
    trace_file: TraceFile = None,
    timeout: Timeout = 30.0,
    no_daemon: NoDaemon = False,
) -> None:
    from lsp.gate import diagnostics

    common = Common(as_json or form == "json", workspace, server, "codepoint", trace_file, timeout, no_daemon)
    args = {"paths": paths or []} | ({"changed": changed} if changed else {})
    diagnostics(args, common, fail_on, form)


app.command("diag", help="Diagnostics, of the whole workspace or of what changed.")(diag)
app.command("diagnostics", hidden=True)(diag)


@app.command(help="Rename what SELECTOR names, everywhere. A preview unless --apply.")
def rename(
    selector: Selector,
    name: Annotated[str, typer.Argument(help="The new name.", show_default=False)],
    write: Apply = False,
    allow_dirty: AllowDirty = False,
    allow: Allow = None,
    deny: Deny = None,
    deny_ambiguous: DenyAmbiguous = True,
    strategy: Strategy = "atomic",
    as_json: Json = False,
    workspace: Workspace = ".",
    server: Server = DEFAULT_SERVER,
    index_io: IndexIo = "codepoint",
    trace_file: TraceFile = None,
    timeout: Timeout = 30.0,
    no_daemon: NoDaemon = False,
) -> None:
    guard = _guard(write, allow_dirty, allow, deny, deny_ambiguous) | {"strategy": strategy}
    common = Common(as_json, workspace, server, index_io, trace_file, timeout, no_daemon)
    _query("rename", {"selector": selector, "name": name, **guard}, common)


@app.command(
    "code-action",
    short_help="Quick fixes and refactorings there.",
    help="Quick fixes and refactorings there; with --title apply one. A preview unless --apply.",
)
def code_action(
    selector: Selector,
    title: Annotated[
        str | None, typer.Option("--title", help="The action to take; without it they are listed.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Such as quickfix or source.organizeImports.")] = None,
    write: Apply = False,
    allow_dirty: AllowDirty = False,
    allow: Allow = None,
    deny: Deny = None,
    deny_ambiguous: DenyAmbiguous = True,
    strategy: Strategy = "atomic",
    as_json: Json = False,
    workspace: Workspace = ".",
    server: Server = DEFAULT_SERVER,
    index_io: IndexIo = "codepoint",
    trace_file: TraceFile = None,
    timeout: Timeout = 30.0,
    no_daemon: NoDaemon = False,
) -> None:
    guard = _guard(write, allow_dirty, allow, deny, deny_ambiguous) | {"strategy": strategy}
    common = Common(as_json, workspace, server, index_io, trace_file, timeout, no_daemon)
    _query("code-action", {"selector": selector, "title": title, "kind": kind, **guard}, common)


def _guard(write: bool, dirty: bool, allow: list[str] | None, deny: list[str] | None, sure: bool) -> dict[str, Any]:
    guard = {"apply": write, "allow_dirty": dirty, "deny_ambiguous": sure}
    return {**guard, "allow": allow or [], "deny": deny or []}


@app.command(
    short_help="The process reward of a series of bundles.",
    help="The process reward of a series of bundles (JSONL files in order), pr-v2 by default.",
)
def reward(
    bundles: Annotated[list[Path], typer.Argument(help="JSONL files of bundles, oldest first.", show_default=False)],
    version: Annotated[str, typer.Option("--version", help="pr-v1 or pr-v2.")] = "pr-v2",
) -> None:
    from lsp.gate import print_rewards

    guarded(lambda: print_rewards(bundles, version))


@app.command(
    short_help="Answer JSONL requests over one warm server.",
    help="Answer JSONL requests from stdin, one bundle a line, over one warm server.",
)
def batch(workspace: Workspace = ".", server: Server = DEFAULT_SERVER, timeout: Timeout = 30.0) -> None:
    import asyncio

    from lsp.options import run_batch

    guarded(lambda: asyncio.run(run_batch(workspace, server, timeout)))


@app.command(
    short_help="What each supported server can do here.",
    help="Each supported server: found or not, version, what it offers, measured cold start.",
)
def doctor(as_json: Json = False) -> None:
    import asyncio

    from lsp.doctor import examine_all, lines

    rows = guarded(lambda: asyncio.run(examine_all()))
    print(json.dumps(rows) if as_json else "\n".join(lines(rows)))


@trace_app.command("list", help="The commands of a trace file.")
def trace_list(path: Path) -> None:
    from lsp.trace import read

    for number, trace in enumerate(guarded(lambda: read(path)), start=1):
        selector = trace.meta["args"].get("selector") or ""
        print(f"{number}  {trace.meta['cmd']} {selector}  {len(trace.frames)} frames  {trace.bundle['bundleId']}")


@trace_app.command("show", help="The frames of one command of a trace file.")
def trace_show(path: Path, number: Annotated[int, typer.Argument(help="As trace list counts.")] = 1) -> None:
    from lsp.trace import read

    traces = guarded(lambda: read(path))
    if not 1 <= number <= len(traces):
        guarded(lambda: _refuse(f"{path} holds {len(traces)} commands, not {number}"))
    for way, body in traces[number - 1].frames:
        print("-->" if way == "send" else "<--", body)


@trace_app.command("replay", help="Rebuild the recorded bundles with no server installed.")
def trace_replay(path: Path, workspace: Workspace = ".") -> None:
    import asyncio

    from lsp.trace import read, replay

    async def run() -> list[dict[str, Any]]:
        return [await replay(trace, Path(workspace)) for trace in read(path)]

    for bundle in guarded(lambda: asyncio.run(run())):
        print(json.dumps(bundle, ensure_ascii=False))


@schema_app.command("export", help="Print the JSON Schemas.")
def schema_export(name: Annotated[str, typer.Argument(help="bundle, selector or batch-request.")] = "bundle") -> None:
    from lsp.bundle import schemas

    known = schemas()
    if name not in known:
        guarded(lambda: _refuse(f"no schema {name!r}; there are {', '.join(known)}"))
    print(json.dumps(known[name], indent=2))


@schema_app.command("validate", help="Check bundles (JSON or JSONL) and their ids; exit 1 when one is wrong.")
def schema_validate(path: Annotated[Path | None, typer.Argument(help="A file; stdin without one.")] = None) -> None:
    from lsp.gate import validate_lines

    raise typer.Exit(guarded(lambda: validate_lines(path, batch=False)))


@schema_app.command("validate-batch", help="Check batch requests (JSONL); exit 1 when one is wrong.")
def schema_validate_batch(
    path: Annotated[Path | None, typer.Argument(help="A file; stdin without one.")] = None,
) -> None:
    from lsp.gate import validate_lines

    raise typer.Exit(guarded(lambda: validate_lines(path, batch=True)))


@daemon_app.command("start", help="Start it, or say that it runs.")
def daemon_start(workspace: Workspace = ".", server: Server = DEFAULT_SERVER, timeout: Timeout = 30.0) -> None:
    from lsp.ask import start

    print(json.dumps(guarded(lambda: start(workspace, server, timeout))))


@daemon_app.command("status", help="What the daemon has done so far; exit 3 when there is none.")
def daemon_status(workspace: Workspace = ".", server: Server = DEFAULT_SERVER, timeout: Timeout = 30.0) -> None:
    _daemon("status", workspace, server, timeout)


@daemon_app.command("stop", help="End it; exit 3 when there is none.")
def daemon_stop(workspace: Workspace = ".", server: Server = DEFAULT_SERVER, timeout: Timeout = 30.0) -> None:
    _daemon("stop", workspace, server, timeout)


def _daemon(cmd: str, workspace: str, server: str, timeout: float) -> None:
    from lsp.ask import ask, socket_path

    reply = guarded(lambda: ask(socket_path(workspace, server, timeout), {"cmd": cmd}, timeout))
    if reply is None:
        complain(
            Code.NOT_FOUND.label, "no daemon runs for this workspace, server and timeout; `lanser daemon start` does"
        )
        raise typer.Exit(Code.NOT_FOUND.exit_code)
    print(json.dumps(reply))


def _refuse(message: str) -> None:
    raise LanserError(Code.BAD_INPUT, message)


def with_revision(args: Sequence[str]) -> list[str]:
    """``args`` with the revision that ``--changed`` means without one: HEAD."""
    made = list[str]()
    for arg, after in zip(args, [*args[1:], "--"], strict=False):
        made += [arg, "HEAD"] if arg == "--changed" and after.startswith("-") else [arg]
    return made


def main() -> None:
    """Entry point: wrong usage exits 79, so that a script can tell it from a selector that does not parse (2)."""
    # A time limit of a job ends us by SIGTERM: the server is stopped and its folder removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        status = app(with_revision(sys.argv[1:]), standalone_mode=False)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        leave(0)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        said: str = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        print(said if said.startswith("Usage:") else f"lanser: {said}", file=sys.stderr)
        sys.exit(Code.BAD_INPUT.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
