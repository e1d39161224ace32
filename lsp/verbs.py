"""Every verb by its name: one call, plain data in, one bundle out (standard library only).

The command line, ``batch`` and the daemon all go through :func:`call`, so that they cannot differ. Invariant: a
bundle is always returned; what no code of ours foresaw is ``E/INTERNAL`` with the exception's name, never a
traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lsp import assemble
from lsp.errors import Code, LanserError
from lsp.queries import ALIASES, run_verb
from lsp.session import Session

MUTATIONS = ("prepare-rename", "rename", "code-action")
QUERIES = ("def", "refs", "hover", "symbols", "diag", "locate")
GUARD = ("apply", "allow_dirty", "allow", "deny", "deny_ambiguous", "strategy")


async def call(session: Session, cmd: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The bundle of ``cmd``. ``args`` hold ``selector`` and what else the verb takes."""
    cmd = ALIASES.get(cmd, cmd)
    try:
        if cmd in MUTATIONS:
            return await _mutate(session, cmd, dict(args))
        if cmd == "diag" and args.get("changed") is not None:
            from lsp.changed import diagnose_changed

            return await diagnose_changed(session, args["changed"], args.get("paths"))
        return await run_verb(session, cmd, args)
    except LanserError as error:
        failure = error
    except Exception as error:
        failure = LanserError(Code.INTERNAL, f"{type(error).__name__}: {error}; please report this")
    return assemble.bundle(assemble.request(cmd, args.get("selector")), session, error=failure)


async def _mutate(session: Session, cmd: str, args: dict[str, Any]) -> dict[str, Any]:
    from lsp.mutations import Guard, code_action, prepare_rename, rename

    selector = args.get("selector")
    if not selector:
        raise LanserError(Code.BAD_INPUT, f"{cmd} needs a selector")
    picked: dict[str, Any] = {key: args[key] for key in GUARD if key in args}
    picked |= {key: tuple(picked[key]) for key in ("allow", "deny") if key in picked}
    guard = Guard(**picked)
    index_io = args.get("index_io", "codepoint")
    if cmd == "prepare-rename":
        return await prepare_rename(session, selector, index_io)
    if cmd == "code-action":
        return await code_action(session, selector, args.get("title"), args.get("kind"), guard, index_io)
    if not args.get("name"):
        raise LanserError(Code.BAD_INPUT, "rename needs a new name")
    return await rename(session, selector, args["name"], guard, index_io)
