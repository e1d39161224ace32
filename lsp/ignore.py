"""``.gitignore`` rules, enough to leave out what nobody asked to index (standard library only).

Patterns follow gitignore(5): ``*``, ``?``, ``[...]``, ``**``, a leading ``/`` or a slash inside anchors to the file's
folder, a trailing ``/`` means folders only, ``!`` takes back; the last match wins. Some folders are never entered,
with or without a ``.gitignore``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

NEVER = frozenset(
    {".git", ".hg", ".svn", ".jj", "__pycache__", "node_modules", "site-packages"}
    | {".venv", "venv", ".tox", ".nox", ".eggs", ".idea", ".vscode", ".ipynb_checkpoints"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
)
"""Folders that are never part of a workspace."""
KEPT = 200_000
"""Verdicts that are remembered."""


@dataclass(frozen=True)
class Rule:
    """One line of a ``.gitignore`` that lies in folder ``base`` (relative, ``""`` is the root)."""

    base: str
    regex: re.Pattern[str]
    folders_only: bool
    keep: bool

    def matches(self, path: str, folder: bool) -> bool:
        if self.folders_only and not folder:
            return False
        prefix = f"{self.base}/" if self.base else ""
        return path.startswith(prefix) and self.regex.fullmatch(path[len(prefix) :]) is not None


class Rules:
    """The rules that hold in a folder, those of the folders above first. Remembers its verdicts: equal rules and
    paths have equal ones.
    """

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.rules = rules
        self._known: dict[tuple[str, bool], bool] = {}

    def ignore(self, path: str, folder: bool) -> bool:
        """Whether the last rule that matches ``path`` ignores it."""
        if not self.rules:
            return False
        if (known := self._known.get((path, folder))) is not None:
            return known
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[path, folder] = verdict = ignored(self.rules, path, folder)
        return verdict


NO_RULES = Rules()


def read_rules(file: str, base: str) -> tuple[Rule, ...]:
    """The rules of the ``.gitignore`` at ``file``, which lies in folder ``base``; none when it cannot be read."""
    try:
        text = Path(file).read_text("utf-8", "replace")
    except OSError:
        return ()
    return tuple(rule for line in text.splitlines() if (rule := parse(line, base)) is not None)


def parse(line: str, base: str) -> Rule | None:
    """One line as a rule; ``None`` for blanks, comments and patterns that cannot match."""
    line = line.rstrip() if not line.endswith("\\ ") else line
    keep = line.startswith("!")
    body = line[1:] if keep else line
    if not body or line.startswith("#"):
        return None
    folders_only = body.endswith("/")
    body = body.rstrip("/")
    anchored = "/" in body
    try:
        regex = re.compile(("" if anchored else "(?:.*/)?") + translate(body.lstrip("/")))
    except re.error:
        return None
    return Rule(base, regex, folders_only, keep)


@lru_cache(1024)
def translate(pattern: str) -> str:
    """A glob with gitignore's ``**`` as a regular expression."""
    out, i = "", 0
    while i < len(pattern):
        rest = pattern[i:]
        if rest.startswith("**/"):
            out, i = out + "(?:.*/)?", i + 3
        elif rest == "**":
            out, i = out + ".*", i + 2
        elif rest[0] == "*":
            out, i = out + "[^/]*", i + 1
        elif rest[0] == "?":
            out, i = out + "[^/]", i + 1
        elif rest[0] == "[" and (end := pattern.find("]", i + 2)) > 0:
            inner = pattern[i + 1 : end].replace("\\", "\\\\")
            out, i = out + f"[{'^' + inner[1:] if inner[0] == '!' else inner}]", end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            out, i = out + re.escape(rest[1]), i + 2
        else:
            out, i = out + re.escape(rest[0]), i + 1
    return out


def ignored(rules: Iterable[Rule], path: str, folder: bool) -> bool:
    """Whether the last rule that matches ``path`` ignores it."""
    verdict = False
    for rule in rules:
        if rule.matches(path, folder):
            verdict = not rule.keep
    return verdict
