"""What is said of a bundle, wherever it is shown: the words that plain text and a terminal share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lsp.text import decode

REFUSALS = {
    "jail": "outside the workspace",
    "filters": "a path is denied",
    "unambiguous": "the selector is not exact",
    "clean": "uncommitted changes (--allow-dirty)",
}
"""Safety checks that failed, in words."""


def more(bundle: Mapping[str, Any]) -> Iterable[str]:
    """How to get the next page, when there is one."""
    cursor = bundle["meta"]["cursor"]
    if cursor:
        yield f"the first of {bundle['facts']['total']}; go on with --cursor {cursor}"


def nothing(facts: Mapping[str, Any]) -> Iterable[str]:
    """What is said of a list without an entry."""
    for key, said in (("symbols", "no symbols"), ("actions", "no code actions there")):
        if facts.get(key) == []:
            yield said


def counted(number: int, thing: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def shown(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The diagnostics that people want to see: not suppressed, no hints; the new ones when a revision was compared."""
    new = facts.get("new")
    found = facts["diagnostics"] if new is None else new
    return [item for item in found if not item["suppressed"] and item["severity"] != "hint"]


def tally(facts: Mapping[str, Any]) -> Iterable[str]:
    """What a list of diagnostics comes to."""
    targets = facts["targets"]
    yield from (f"{path}: cannot be read as text: it was not checked" for path in targets["unreadable"])
    files = counted(targets["count"] - len(targets["unreadable"]), "file")
    counts = Counter(item["severity"] for item in facts["diagnostics"] if not item["suppressed"])
    more = f" (and {facts['suppressed']} suppressed)" if facts["suppressed"] else ""
    yield f"{_severities(counts)} in {files}{more}"
    if facts.get("new") is not None:
        new = Counter(item["severity"] for item in facts["new"] if not item["suppressed"])
        yield f"new against {facts['base']}: {_severities(new)}"


def _severities(counts: Mapping[str, int]) -> str:
    return f"{counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}"


def outcome(edits: Mapping[str, Any]) -> str:
    """What became of a mutation."""
    files = counted(len(edits["workspaceEdit"].get("changes", {})), "file")
    failed = [REFUSALS.get(str(name), str(name)) for name, passed in edits["checks"].items() if not passed]
    if edits["applied"]:
        return f"written: {files}"
    if failed:
        return f"preview of {files}; --apply would be refused: {', '.join(failed)}"
    return f"preview of {files}; --apply writes"


def source(root: Path, uri: str) -> list[str]:
    """Lines of a file of the workspace; none of one that cannot be read."""
    try:
        return decode((root / uri).read_bytes()).text.splitlines()
    except (OSError, ValueError):
        return []


def place(item: Mapping[str, Any]) -> str:
    """``path:line:column``, 1-based, as compilers write it."""
    return f"{item['uri']}:{item['range'][0] + 1}:{item['range'][1] + 1}"
