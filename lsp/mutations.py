"""Guarded mutations: prepare-rename, rename, code-action (standard library only).

Ask the server, plan on the bytes on disk, check, show a diff; with ``apply`` write in one transaction and tell the
server. Invariants: nothing is written without ``apply``; every check is named in the bundle and ``edits.safe`` is
their conjunction; a plan is applied only to the contents that it was computed on.
"""

from __future__ import annotations

import keyword
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lsp import assemble
from lsp.edits import Plan, Planner, filtered
from lsp.errors import Code, LanserError
from lsp.host import Host
from lsp.locations import convert, flat, lsp_range
from lsp.positions import Encoding
from lsp.queries import Query
from lsp.ranking import TAU
from lsp.session import Session, as_dict
from lsp.transaction import Transaction
from lsp.workspace import Workspace

STRATEGIES = ("atomic", "3way")


@dataclass(frozen=True)
class Guard:
    """What a mutation may do."""

    apply: bool = False
    """Write; a preview otherwise."""
    allow_dirty: bool = False
    """Write although git has uncommitted changes."""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    """Globs of paths; ``deny`` wins."""
    deny_ambiguous: bool = True
    """Do not write when the selector was resolved with less than full confidence."""
    strategy: Literal["atomic", "3way"] = "atomic"
    """What happens to a file that changes between the plan and the writing of it: everything is refused, or
    ``git apply --3way`` carries the plan over.
    """


async def prepare_rename(session: Session, selector: str, index_io: Encoding = "codepoint") -> dict[str, Any]:
    """The bundle of ``prepare-rename``: what would be renamed there."""
    began = time.monotonic()
    asked = assemble.request("prepare-rename", selector)
    query: Query | None = None
    try:
        query = Query(session, selector, index_io)
        facts = await session.answered(lambda host: _prepare(query, host) if query else _never())
        return assemble.bundle(asked, session, facts=facts, resolution=query.part(), began=began)
    except LanserError as error:
        part = query.part() if query else None
        return assemble.bundle(asked, session, resolution=part, error=error, began=began)


async def rename(
    session: Session, selector: str, name: str, guard: Guard | None = None, index_io: Encoding = "codepoint"
) -> dict[str, Any]:
    """The bundle of ``rename``: every place that the server would change, and whether it was written."""
    if not name.isidentifier() or (keyword.iskeyword(name) and "python" in session.profile.languages.values()):
        wrong = LanserError(Code.BAD_INPUT, f"{name!r} is no name that a symbol can have")
        return assemble.bundle(assemble.request("rename", selector, {"name": name}), session, error=wrong)

    async def ask(query: Query, host: Host) -> Mapping[str, Any]:
        if not host.offers("renameProvider"):
            raise LanserError(Code.UNSUPPORTED_CAP, f"{session.profile.name} does not offer rename")
        if as_dict(host.capabilities.get("renameProvider")).get("prepareProvider"):
            await _prepare(query, host)
        return as_dict(await query.at(host, "textDocument/rename", {"newName": name}))

    return await _mutate(session, "rename", selector, {"name": name}, guard or Guard(), ask, index_io)


async def code_action(
    session: Session,
    selector: str,
    title: str | None = None,
    kind: str | None = None,
    guard: Guard | None = None,
    index_io: Encoding = "codepoint",
) -> dict[str, Any]:
    """The bundle of ``code-action``: without ``title`` the actions offered there, with one its edit."""
    args = {"title": title, "kind": kind}
    if title is None:
        return await _list_actions(session, selector, kind, args, index_io)

    async def ask(query: Query, host: Host) -> Mapping[str, Any]:
        actions = [action for action in await _actions(query, host, kind) if action["title"] == title]
        if not actions:
            raise LanserError(Code.NOT_FOUND, f"no code action {title!r} is offered there; list them without --title")
        return await _edit_of(host, actions[0])

    return await _mutate(session, "code-action", selector, args, guard or Guard(), ask, index_io)


async def _mutate(
    session: Session,
    cmd: str,
    selector: str,
    args: Mapping[str, Any],
    guard: Guard,
    ask: Any,
    index_io: Encoding,
) -> dict[str, Any]:
    began = time.monotonic()
    asked = assemble.request(cmd, selector, {**args, "apply": guard.apply})
    query: Query | None = None
    part: dict[str, Any] | None = None
    try:
        query = Query(session, selector, index_io)
        plan = await session.answered(lambda host: _planned(session, query, host, ask))
        checks, refusal = check(session, query, plan, guard)
        part = edits_part(plan, checks, applied=False)
        if guard.apply:
            if refusal is not None:
                raise refusal
            plan = write(session.workspace, plan, guard.strategy)
            part = edits_part(plan, checks, applied=True)
            await session.start()
        return assemble.bundle(asked, session, facts={}, resolution=query.part(), edits=part, began=began)
    except LanserError as error:
        resolution = query.part() if query else None
        return assemble.bundle(
            asked, session, resolution=resolution, edits=_unsafe(part, error), error=error, began=began
        )


def write(workspace: Workspace, plan: Plan, strategy: str) -> Plan:
    """Write ``plan``; what was written. ``BAD_INPUT`` for an unknown strategy."""
    if strategy not in STRATEGIES:
        raise LanserError(Code.BAD_INPUT, f"--strategy is one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if strategy == "3way":
        from lsp.threeway import rebased

        plan = rebased(workspace, plan)
    Transaction(workspace, plan).apply()
    return plan


def check(session: Session, query: Query, plan: Plan, guard: Guard) -> tuple[dict[str, bool], LanserError | None]:
    """Every safety check by name, and the first refusal. The jail is checked while the plan is made."""
    refusals: dict[str, LanserError | None] = {
        "jail": None,
        "filters": _refusal(lambda: filtered(plan.changed(), guard.allow, guard.deny)),
        "unambiguous": _sure(query, guard),
        "clean": None if guard.allow_dirty else _refusal(lambda: clean(session, plan)),
    }
    return {name: refusal is None for name, refusal in refusals.items()}, next(filter(None, refusals.values()), None)


def clean(session: Session, plan: Plan) -> None:
    """``DIRTY_WORKTREE`` when git has uncommitted changes. A workspace without git has nothing to protect by it."""
    root = str(session.workspace.root)
    command = ["git", "-C", root, "status", "--porcelain", "--untracked-files=no"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout.strip():
        first = done.stdout.strip().splitlines()[0]
        message = f"the work tree has uncommitted changes ({first.strip()}); commit them or give --allow-dirty"
        raise LanserError(Code.DIRTY_WORKTREE, message)


def edits_part(plan: Plan, checks: Mapping[str, bool], *, applied: bool) -> dict[str, Any]:
    """The ``edits`` part of a bundle."""
    return {
        "workspaceEdit": plan.portable(),
        "diff": plan.diff(),
        "files": plan.digests(),
        "applied": applied,
        "safe": all(checks.values()),
        "checks": dict(checks),
    }


def _unsafe(part: Mapping[str, Any] | None, error: LanserError) -> dict[str, Any]:
    """The ``edits`` part of a mutation that failed: a jail break, say, never got as far as a plan."""
    empty = {
        "workspaceEdit": {},
        "diff": "",
        "files": {},
        "applied": False,
        "checks": {"jail": error.code is not Code.JAIL},
    }
    return {**(part or empty), "applied": False, "safe": False}


async def _planned(session: Session, query: Query, host: Host, ask: Any) -> Plan:
    host.edits.clear()
    edit = await ask(query, host)
    return Planner(session.workspace, host.encoding).plan(edit)


async def _prepare(query: Query, host: Host) -> dict[str, Any]:
    provider = as_dict(host.capabilities.get("renameProvider"))
    if not provider.get("prepareProvider"):
        raise LanserError(Code.UNSUPPORTED_CAP, f"{query.session.profile.name} does not offer prepareRename")
    answer = await query.at(host, "textDocument/prepareRename")
    if not answer:
        raise LanserError(Code.NOT_FOUND, "there is nothing there that can be renamed")
    winner = query.locate().winner
    found = answer.get("range", answer) if isinstance(answer, dict) else answer
    if not isinstance(found, dict) or "start" not in found:
        return {"location": {"uri": winner.uri, "range": list(winner.range)}, "placeholder": None}
    text = query.session.document(winner.uri)
    span = convert(text, flat(found), host.encoding)
    return {"location": {"uri": winner.uri, "range": list(span)}, "placeholder": text.slice(span)}


async def _list_actions(
    session: Session, selector: str, kind: str | None, args: Mapping[str, Any], index_io: Encoding
) -> dict[str, Any]:
    began = time.monotonic()
    asked = assemble.request("code-action", selector, args)
    query: Query | None = None

    async def work(host: Host) -> dict[str, Any]:
        assert query is not None
        found = await _actions(query, host, kind)
        listed = [{"title": action["title"], "kind": action.get("kind")} for action in found]
        return {"actions": sorted(listed, key=lambda action: (action["kind"] or "", action["title"]))}

    try:
        query = Query(session, selector, index_io, TAU)
        return assemble.bundle(asked, session, facts=await session.answered(work), resolution=query.part(), began=began)
    except LanserError as error:
        part = query.part() if query else None
        return assemble.bundle(asked, session, resolution=part, error=error, began=began)


async def _actions(query: Query, host: Host, kind: str | None) -> list[dict[str, Any]]:
    if not host.offers("codeActionProvider"):
        raise LanserError(Code.UNSUPPORTED_CAP, f"{query.session.profile.name} does not offer code actions")
    session, winner = query.session, query.locate().winner
    session.documents.open([winner.uri], host.notify)
    text = session.document(winner.uri)
    uri = session.workspace.uri(winner.uri)
    context: dict[str, Any] = {"diagnostics": await _diagnostics_at(query, host, uri)}
    if kind:
        context["only"] = [kind]
    span = lsp_range(text.range_to(winner.range, host.encoding))
    params = {"textDocument": {"uri": uri}, "range": span, "context": context}
    found = await host.request("textDocument/codeAction", params) or []
    return [item for item in found if not item.get("disabled") and _kind_fits(item.get("kind"), kind)]


async def _diagnostics_at(query: Query, host: Host, uri: str) -> list[dict[str, Any]]:
    """The server's diagnostics that touch the resolved lines: quick fixes answer to them."""
    if query.session.profile.diagnostics != "pull":
        push = host.pushes.get(uri)
        items = push.items if push else []
    else:
        items = as_dict(await host.request("textDocument/diagnostic", {"textDocument": {"uri": uri}})).get("items", [])
    first, last = query.locate().winner.range[0], query.locate().winner.range[2]
    return [item for item in items if item["range"]["start"]["line"] <= last and item["range"]["end"]["line"] >= first]


def _kind_fits(found: str | None, wanted: str | None) -> bool:
    return wanted is None or found == wanted or (found or "").startswith(f"{wanted}.")


async def _edit_of(host: Host, action: Mapping[str, Any]) -> Mapping[str, Any]:
    """The edit of an action: its own, the resolved one, or what its command asks us to apply."""
    if not action.get("edit") and as_dict(host.capabilities.get("codeActionProvider")).get("resolveProvider"):
        action = as_dict(await host.request("codeAction/resolve", dict(action)))
    if action.get("edit"):
        return action["edit"]
    command = action.get("command")
    if isinstance(command, dict):
        params = {"command": command["command"], "arguments": command.get("arguments", [])}
        await host.request("workspace/executeCommand", params)
        if host.edits:
            return host.edits.pop()
    raise LanserError(Code.NOT_FOUND, f"the action {action.get('title')!r} changes nothing")


def _sure(query: Query, guard: Guard) -> LanserError | None:
    if not guard.deny_ambiguous or query.resolution is None or query.resolution.confidence == 1.0:
        return None
    text = f"the selector was resolved with confidence {query.resolution.confidence:g} only; name the place exactly"
    return LanserError(Code.AMBIGUOUS, text)


def _refusal(work: Any) -> LanserError | None:
    try:
        work()
    except LanserError as error:
        return error
    return None


async def _never() -> dict[str, Any]:
    raise AssertionError("no query")
