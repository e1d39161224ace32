"""Diagnostics of a set of files (standard library only).

Invariants: a diagnostic counts only for the content on disk (pull after the change, or a push that carries our
version); suppressed ones are reported and marked, never dropped; a file that cannot be read is named, never silently
clean.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lsp.errors import Code, LanserError
from lsp.host import Host
from lsp.locations import convert, flat
from lsp.session import Session, as_dict
from lsp.suppress import Suppressions
from lsp.workspace import target_digest

SEVERITIES = ("", "error", "warning", "information", "hint")
BATCH = 16
"""Pull requests in flight at once."""

Diagnostic = dict[str, Any]


async def diagnose(session: Session, paths: Sequence[str] | None = None) -> dict[str, Any]:
    """The facts of ``diag``: diagnostics of ``paths`` (all source files when ``None``), sorted, with counts.

    Keys: diagnostics, counts (by severity), suppressed, targets (count, digest, missing, unreadable).
    """

    async def work(host: Host) -> list[Diagnostic]:
        return await _rounds(session, host, _present(session, paths))

    session.workspace.scan()
    found = await session.answered(work, paths if paths is not None else session.workspace.sources())
    return facts(found, paths if paths is not None else session.workspace.sources(), session)


def facts(found: Iterable[Diagnostic], targets: Sequence[str], session: Session) -> dict[str, Any]:
    """Diagnostics with their counts and the target set."""
    items = sorted(
        found, key=lambda item: (item["uri"], *item["range"], item["severity"], item["code"], item["message"])
    )
    counts = Counter(item["severity"] for item in items)
    present = session.workspace.entries
    return {
        "diagnostics": items,
        "counts": {name: counts[name] for name in SEVERITIES[1:]},
        "suppressed": sum(item["suppressed"] for item in items),
        "targets": {
            "count": len(targets),
            "digest": target_digest(targets),
            "missing": sorted(path for path in targets if path not in present),
            "unreadable": sorted(session.documents.unreadable.intersection(targets)),
        },
    }


def _present(session: Session, paths: Sequence[str] | None) -> list[str]:
    wanted = session.workspace.sources() if paths is None else paths
    return [path for path in wanted if session.documents.get(path) is not None]


async def _rounds(session: Session, host: Host, paths: Sequence[str]) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    for start in range(0, len(paths), BATCH):
        part = paths[start : start + BATCH]
        for items in await asyncio.gather(*(_one(session, host, path) for path in part)):
            found += items
    return found


async def _one(session: Session, host: Host, path: str) -> list[Diagnostic]:
    if session.profile.diagnostics == "pull":
        return await _pull(session, host, path)
    return list(_diagnostics(session, host, path, await _pushed(session, host, path)))


async def _pull(session: Session, host: Host, path: str) -> list[Diagnostic]:
    """Ask now; the server may say that its last answer still holds, which saves reading it again."""
    old = host.pulled.get(path)
    params: dict[str, Any] = {"textDocument": {"uri": session.workspace.uri(path)}}
    if old is not None:
        params["previousResultId"] = old[0]
    answer = as_dict(await host.request("textDocument/diagnostic", params))
    document = session.documents.get(path)
    digest = document.digest if document else ""
    if old is not None and answer.get("kind") == "unchanged":
        raw = old[2]
        items = old[3] if old[1] == digest else list(_diagnostics(session, host, path, raw))
    elif answer.get("kind") == "full":
        raw = answer["items"]
        items = list(_diagnostics(session, host, path, raw))
    else:
        raise LanserError(Code.LS_CRASH, f"the server gave no diagnostic report for {path}")
    host.pulled.pop(path, None)
    if answer.get("resultId"):
        host.pulled[path] = (answer["resultId"], digest, raw, items)
    return items


async def _pushed(session: Session, host: Host, path: str) -> list[dict[str, Any]]:
    profile, uri = session.profile, session.workspace.uri(path)
    document = session.documents.get(path)
    version = document.version if document else 0

    def ready() -> bool:
        push = host.pushes.get(uri)
        if push is None:
            return False
        if profile.diagnostics == "push":
            return push.order > host.marks.get(uri, 0)
        return push.version == version

    if profile.reopen and not (uri in host.pushes and host.pushes[uri].order > host.touched):
        await host.reopen(uri, session.documents.item(path))
    await host.wait(ready, session.options.timeout, f"diagnostics of {path}")
    if profile.quiet:
        await host.rest(uri, profile.quiet)
    return host.pushes[uri].items


def _diagnostics(session: Session, host: Host, path: str, items: list[dict[str, Any]]) -> Iterator[Diagnostic]:
    text = session.document(path)
    hidden = Suppressions(text.text)
    for item in items:
        span = convert(text, flat(item["range"]), host.encoding)
        code = "" if item.get("code") is None else str(item["code"])
        yield {
            "uri": path,
            "range": list(span),
            "severity": SEVERITIES[item.get("severity") or 1],
            "code": code,
            "message": session.scrub(item.get("message", "")),
            "source": item.get("source") or session.profile.name,
            "suppressed": hidden.cover(span[0], span[2], code),
        }
