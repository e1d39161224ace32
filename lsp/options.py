"""What every ``lanser`` command has in common: options, where the answer comes from, how it ends (standard library
only).

Every command imports this: what only some of them need is imported where they do.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lsp.errors import Code, LanserError

ENCODINGS = ("codepoint", "utf-8", "utf-16")


@dataclass(frozen=True)
class Common:
    """Options that every verb takes."""

    as_json: bool
    workspace: str
    server: str
    index_io: str
    trace_file: Path | None
    timeout: float
    no_daemon: bool


def execute(cmd: str, args: Mapping[str, Any], common: Common) -> dict[str, Any]:
    """The bundle of one command: from the daemon when one runs, else from a server of our own."""
    if common.index_io not in ENCODINGS:
        raise LanserError(Code.BAD_INPUT, f"--index-io is one of {', '.join(ENCODINGS)}, not {common.index_io!r}")
    asked = {**args, "index_io": common.index_io} if common.index_io != "codepoint" else dict(args)
    if not common.no_daemon and common.trace_file is None:
        from lsp.ask import ask, socket_path

        path = socket_path(common.workspace, common.server, common.timeout)
        if path.exists() and (reply := ask(path, {"cmd": cmd, "args": asked}, common.timeout + 60)) is not None:
            return reply
    import asyncio

    return asyncio.run(_alone(cmd, asked, common))


async def _alone(cmd: str, args: dict[str, Any], common: Common) -> dict[str, Any]:
    from lsp.host import Options
    from lsp.session import Session
    from lsp.trace import Recorder
    from lsp.verbs import call

    recorder = Recorder() if common.trace_file else None
    # One question does not pay for importing pygls (0.8 s): the raw-frame client asks it.
    async with Session(common.workspace, common.server, Options(timeout=common.timeout, tap=recorder)) as session:
        bundle = await call(session, cmd, args)
        if recorder is not None and common.trace_file is not None:
            recorder.save(common.trace_file, session, cmd, args, bundle)
        return bundle


async def run_batch(workspace: str, server: str, timeout: float) -> None:
    """``lanser batch``."""
    from lsp.batch import run
    from lsp.client import PyglsClient
    from lsp.host import Options
    from lsp.session import Session

    async with Session(workspace, server, Options(timeout=timeout, connect=PyglsClient.start)) as session:
        await run(session, sys.stdin, sys.stdout)


def finish(bundle: Mapping[str, Any], common: Common) -> NoReturn:
    """Print the bundle and exit with its code."""
    if common.as_json:
        print(json.dumps(bundle, ensure_ascii=False))
    elif bundle["status"] == "error":
        complain(bundle["error"]["code"], bundle["error"]["message"])
    else:
        from lsp.render import show

        show(bundle)
    leave(bundle["meta"]["exit_code"])


def guarded[T](work: Callable[[], T]) -> T:
    """Run ``work``; a :class:`LanserError` becomes one sentence and its exit code."""
    try:
        return work()
    except LanserError as error:
        if "--json" in sys.argv:
            from lsp import assemble

            print(json.dumps(assemble.bundle(assemble.request("lanser"), None, error=error), ensure_ascii=False))
        else:
            complain(error.code.label, error.message)
        leave(error.code.exit_code)


def complain(code: str, message: str) -> None:
    print(f"lanser: {code}: {message}", file=sys.stderr)


def leave(status: int) -> NoReturn:
    """Exit; a reader that went away (``| head``) is no failure of ours."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(status)
