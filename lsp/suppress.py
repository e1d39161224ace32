"""Suppression comments: hidden from the server, so that what they suppress is still counted (standard library only).

A comment such as ``# type: ignore`` makes a diagnostic disappear without making the code right. The server is given
the text with the colon of each such comment replaced by a semicolon: same length, same positions, no suppression. A
diagnostic on such a line is then reported and marked ``suppressed``. File-wide directives (``# pyright: basic``, ``#
mypy: ignore-errors``) are the project's configuration: they are hidden only when the configuration is pinned.
"""

from __future__ import annotations

import re

_IGNORE = re.compile(
    r"(#\s*(?:type|ty|pyright|pyrefly|mypy))(\s*:)(\s*(?:ignore(?!\w)|ignore-errors)(?:\[([^\]\n]*)\])?)", re.IGNORECASE
)
_DIRECTIVE = re.compile(r"(#\s*(?:pyright|pyrefly|mypy|ty))(\s*:)")
_MASKED = re.compile(
    r"(#\s*(?:type|ty|pyright|pyrefly|mypy))(\s*;)(\s*(?:ignore|basic|standard|strict|disable|report\w+))",
    re.IGNORECASE,
)
_WEAK = re.compile(r"\bAny\b|\bcast\s*\(|\bno_type_check\b|\bTYPE_CHECKING\b")


def mask(text: str, pinned: bool) -> str:
    """``text`` without the power of its suppression comments; every position is kept."""
    if "#" not in text:
        return text
    masked = _IGNORE.sub(lambda match: match[1] + match[2].replace(":", ";") + match[3], text)
    return _DIRECTIVE.sub(lambda match: match[1] + match[2].replace(":", ";"), masked) if pinned else masked


def unmask(text: str) -> str:
    """Text that the server made from masked text, with the comments as they were."""
    return _MASKED.sub(lambda match: match[1] + match[2].replace(";", ":") + match[3], text)


class Suppressions:
    """The suppression comments of one text, found once."""

    def __init__(self, text: str) -> None:
        lines = text.splitlines() if _IGNORE.search(text) else []
        self._lines = {number: rules for number, line in enumerate(lines) if (rules := _rules(line)) is not None}
        top = next(
            (n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines)
        )
        self._whole = [rules for number, rules in self._lines.items() if number < top]

    def cover(self, first: int, last: int, code: str) -> bool:
        """Whether a comment on the first or last line of a diagnostic, or one before all code, suppresses ``code``."""
        near = [self._lines[number] for number in (first, last) if number in self._lines]
        return any(not rules or code in rules for rules in (*near, *self._whole))


def _rules(line: str) -> frozenset[str] | None:
    """The codes that the comments of ``line`` suppress, empty for all; ``None`` without a comment."""
    named = frozenset[str]()
    found = False
    for match in _IGNORE.finditer(line):
        found = True
        # The codes in `type: ignore[...]` are another checker's: servers treat the comment as a blanket one.
        if not match[4] or "type" in match[1].lower():
            return frozenset()
        named |= {rule.strip() for rule in match[4].split(",")}
    return named if found else None


def weakenings(text: str) -> int:
    """How often ``text`` asks the type checker to look away: ``Any``, ``cast(``, ``no_type_check``,
    ``TYPE_CHECKING``.
    """
    return len(_WEAK.findall(text))
