"""Reading a patch and putting it onto a tree in memory, exactly or not at all.

Git's extended format and plain unified diffs are read. Nothing is guessed: a hunk that does not sit at its line raises,
because a graded patch was made from the very tree that it is put onto. A path that leaves the tree or enters ``.git``
is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sandbox.grading.gitformat import MODES, decode_literal, unquote
from sandbox.grading.tree import Entry, Mode, Tree

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_KINDS: dict[str, Mode] = {"100644": "f", "100664": "f", "100755": "x", "120000": "l"}


class PatchError(ValueError):
    """A patch that cannot be read or does not fit the tree. The message says where."""


class UnsafePath(PatchError):
    """A path that leaves the tree or enters version control: no accident of an honest diff."""


@dataclass
class Hunk:
    """Lines to be found at ``start`` (counted from 0) and what replaces them."""

    start: int
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


@dataclass
class Change:
    """What a patch does to one file. ``old`` is ``None`` for a new file, ``new`` for a deleted one."""

    old: str | None
    new: str | None
    mode: Mode | None = None
    """The new mode, where the patch names one."""
    copied: bool = False
    """Whether ``old`` stays (a copy) although ``new`` has another name."""
    hunks: list[Hunk] = field(default_factory=list)
    literal: bytes | None = None

    @property
    def path(self) -> str:
        """The path that is written, or deleted."""
        return self.new or self.old or ""


def apply(tree: Tree, patch: str) -> dict[str, Entry]:
    """``tree`` with ``patch`` applied; ``tree`` is left as it is. Raises :class:`PatchError`."""
    return apply_changes(tree, parse(patch))


def apply_changes(tree: Tree, changes: list[Change]) -> dict[str, Entry]:
    """:func:`apply` of changes that are parsed already."""
    out = dict(tree)
    for change in changes:
        _apply_one(tree, out, change)
    for change in changes:
        if change.new in out and any(parent in out for parent in _parents(change.path)):
            raise PatchError(f"{change.path}: a folder of this path is a file")
    return out


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _apply_one(tree: Tree, out: dict[str, Entry], change: Change) -> None:
    moved = change.old is not None and change.new is not None and change.old != change.new
    source = None if change.old is None else (tree if moved else out).get(change.old)
    if change.old is not None and source is None:
        raise PatchError(f"{change.old}: no such file")
    if (change.old is None or moved) and change.new in out:
        raise PatchError(f"{change.new}: is there already")
    data = _content(change, source.data if source else b"")
    if change.old is not None and not change.copied:
        out.pop(change.old, None)
    if change.new is not None:
        out[change.new] = Entry(change.mode or (source.mode if source else "f"), data)
    elif data:
        raise PatchError(f"{change.old}: deleted, but the patch leaves {len(data)} bytes of it")


def _content(change: Change, data: bytes) -> bytes:
    if change.literal is not None:
        return change.literal
    if not change.hunks:
        return data
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise PatchError(f"{change.path}: a text patch for a file that is no text") from error
    kept = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    out: list[str] = []
    at = 0
    for hunk in change.hunks:
        if hunk.start < at or kept[hunk.start : hunk.start + len(hunk.old)] != hunk.old:
            raise PatchError(f"{change.path}: the hunk at line {hunk.start + 1} does not fit")
        out += kept[at : hunk.start] + hunk.new
        at = hunk.start + len(hunk.old)
    return "".join(out + kept[at:]).encode()


def parse(patch: str) -> list[Change]:
    """The changes of a patch, in order. Raises :class:`PatchError`."""
    lines = patch.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    changes: list[Change] = []
    at = 0
    while at < len(lines):
        if lines[at].startswith("diff --git "):
            change, at = _git_section(lines, at)
        elif lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            change, at = _body(lines, at, Change(None, None), named=False)
        else:
            at += 1
            continue
        changes.append(_checked(change))
    if not changes and patch.strip():
        raise PatchError("the patch names no file")
    return changes


def _git_section(lines: list[str], at: int) -> tuple[Change, int]:
    """The extended header, then the body."""
    change = Change(*_header_names(lines[at][len("diff --git ") :]))
    at += 1
    while at < len(lines) and not lines[at].startswith(("diff --git ", "--- ", "@@ ", "GIT binary patch")):
        line = lines[at]
        if line.startswith("Binary files ") and line.endswith(" differ"):
            raise PatchError(f"{change.path}: the patch does not carry the bytes of a binary file")
        if not _extended(change, line):
            break
        at += 1
    return _body(lines, at, change, named=True)


def _extended(change: Change, line: str) -> bool:
    """One line of the extended header; ``False`` for a line that is none."""
    key, _, value = line.rpartition(" ")
    if key in ("new file mode", "new mode"):
        change.mode = _mode(value)
        change.old = None if key == "new file mode" else change.old
    elif key == "deleted file mode":
        change.new = None
    elif line.startswith(("rename from ", "copy from ")):
        change.old = _plain(line.partition("from ")[2])
        change.copied = line.startswith("copy")
    elif line.startswith(("rename to ", "copy to ")):
        change.new = _plain(line.partition("to ")[2])
    else:
        return line.startswith(("index ", "old mode ", "similarity index ", "dissimilarity index "))
    return True


def _mode(text: str) -> Mode:
    if text not in _KINDS:
        raise PatchError(f"unknown file mode {text}: {', '.join(MODES.values())} are known")
    return _KINDS[text]


def _body(lines: list[str], at: int, change: Change, *, named: bool) -> tuple[Change, int]:
    if at < len(lines) and lines[at].startswith("GIT binary patch"):
        return _binary(lines, at + 1, change)
    if at + 1 < len(lines) and lines[at].startswith("--- ") and lines[at + 1].startswith("+++ "):
        old, new = _side(lines[at][4:]), _side(lines[at + 1][4:])
        if not named:
            change.old, change.new = old, new
        elif (old or change.old, new or change.new) != (change.old, change.new):
            raise PatchError(f"{change.path}: the header names another file")
        at += 2
    while at < len(lines) and (match := _HUNK.match(lines[at])):
        hunk, at = _hunk(lines, at + 1, match, change.path)
        change.hunks.append(hunk)
    return change, at


def _hunk(lines: list[str], at: int, match: re.Match[str], path: str) -> tuple[Hunk, int]:
    """One hunk: the counts say where it ends, so that no content can be taken for a header."""
    start, old, new = int(match[1]), int(match[2] or 1), int(match[4] or 1)
    hunk = Hunk(start - 1 if old else start)
    while len(hunk.old) < old or len(hunk.new) < new or (at < len(lines) and lines[at].startswith("\\")):
        if at >= len(lines):
            raise PatchError(f"{path}: a hunk ends early")
        sign, text = lines[at][:1] or " ", lines[at][1:]
        if sign == "\\":
            _unend(hunk, lines[at - 1][:1] or " ")
        elif sign not in "+- ":
            raise PatchError(f"{path}: a line of a hunk begins with {sign!r}")
        if sign in "- ":
            hunk.old.append(text + "\n")
        if sign in "+ ":
            hunk.new.append(text + "\n")
        at += 1
    if len(hunk.old) != old or len(hunk.new) != new:
        raise PatchError(f"{path}: a hunk holds other lines than it counts")
    return hunk, at


def _unend(hunk: Hunk, sign: str) -> None:
    """Take the newline off the line before a "no newline" mark."""
    for side in ([hunk.old] if sign in "- " else []) + ([hunk.new] if sign in "+ " else []):
        if side:
            side[-1] = side[-1].removesuffix("\n")


def _binary(lines: list[str], at: int, change: Change) -> tuple[Change, int]:
    kind, _, size = (lines[at] if at < len(lines) else "").partition(" ")
    if kind != "literal" or not size.isdigit():
        raise PatchError(f"{change.path}: only literal binary patches can be read")
    end = next((row for row in range(at + 1, len(lines)) if not lines[row]), len(lines))
    try:
        change.literal = decode_literal(int(size), lines[at + 1 : end])
    except ValueError as error:
        raise PatchError(f"{change.path}: {error}") from error
    end += 1
    if end < len(lines) and lines[end].startswith(("literal ", "delta ")):
        end = next((row for row in range(end, len(lines)) if not lines[row]), len(lines)) + 1
    return change, end


def _header_names(rest: str) -> tuple[str, str]:
    """The two names of a ``diff --git`` line. Without quotes both are equal in length: renames are told by lines of
    their own.
    """
    try:
        if rest.startswith('"'):
            old, tail = unquote(rest)
            new = unquote(tail.strip())[0] if tail.strip().startswith('"') else tail.strip()
        elif rest.endswith('"') and ' "' in rest:
            old, quoted = rest.split(' "', 1)
            new = unquote('"' + quoted)[0]
        else:
            half = len(rest) // 2
            old, new = (rest[:half], rest[half + 1 :]) if rest[2:half] == rest[half + 3 :] else rest.split(" b/", 1)
            new = new if new.startswith("b/") else f"b/{new}"
    except ValueError as error:
        raise PatchError(f"cannot read the names in: diff --git {rest[:120]}") from error
    return old.removeprefix("a/"), new.removeprefix("b/")


def _side(text: str) -> str | None:
    """The name on a ``---`` or ``+++`` line."""
    name = _plain(text.split("\t", 1)[0] if not text.startswith('"') else text)
    return None if name == "/dev/null" else name.partition("/")[2] if name.startswith(("a/", "b/")) else name


def _plain(text: str) -> str:
    try:
        return unquote(text)[0] if text.startswith('"') else text
    except ValueError as error:
        raise PatchError(str(error)) from error


def _checked(change: Change) -> Change:
    names = [name for name in (change.old, change.new) if name is not None]
    for name in names:
        parts = name.split("/")
        if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or "\0" in name:
            raise UnsafePath(f"{name!r}: not a path inside the tree")
    if not names:
        raise PatchError("a section of the patch names no file")
    return change
