"""Workspace edits: from LSP's form to new file contents and a diff, without touching the disk (standard library only).

Invariants: an edit is planned on the bytes whose digests the plan carries, so that applying it to anything else can
be refused; text edits of one file are applied from the end to the start, overlapping ones and ones beyond the file
are refused; encoding, byte order mark and line endings of a file survive; every path is inside the workspace after
symbolic links are resolved.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsp.canonical import digest_bytes
from lsp.errors import Code, LanserError
from lsp.locations import flat
from lsp.positions import Encoding, Range, Text
from lsp.suppress import unmask
from lsp.text import decode
from lsp.workspace import Workspace, uri_to_path

TextEdit = tuple[Range, str]
"""A range in code points and its new text."""


@dataclass
class Plan:
    """New contents of files. ``None`` is a file that is not there."""

    before: dict[str, bytes | None] = field(default_factory=dict[str, bytes | None])
    after: dict[str, bytes | None] = field(default_factory=dict[str, bytes | None])
    edits: dict[str, list[TextEdit]] = field(default_factory=dict[str, list[TextEdit]])
    renames: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def digests(self) -> dict[str, str]:
        """Digest of what each file held when the plan was made; ``absent`` for one that was not there."""
        return {path: "absent" if data is None else digest_bytes(data) for path, data in sorted(self.before.items())}

    def changed(self) -> list[str]:
        """Paths whose content the plan changes, sorted."""
        return sorted(path for path, data in self.after.items() if data != self.before[path])

    def diff(self) -> str:
        """A unified diff that ``git apply`` takes."""
        return "".join(file_diff(path, self.before[path], self.after[path]) for path in self.changed())

    def portable(self) -> dict[str, Any]:
        """The edit in LSP's form with relative URIs and ranges in code points, for a bundle."""
        changes = {
            path: [{"range": list(span), "newText": text} for span, text in sorted(found)]
            for path, found in sorted(self.edits.items())
        }
        return {"changes": changes, "renames": [{"oldUri": old, "newUri": new} for old, new in self.renames]}


class Planner:
    """Turns a WorkspaceEdit into a plan on the workspace's bytes."""

    def __init__(self, workspace: Workspace, encoding: Encoding) -> None:
        self._workspace = workspace
        self._encoding: Encoding = encoding
        self._plan = Plan()

    def plan(self, edit: Mapping[str, Any]) -> Plan:
        """The plan of ``edit``. ``JAIL``, ``APPLY_CONFLICT``, ``BAD_INPUT`` or ``FS_PERMISSIONS``."""
        for uri, edits in (edit.get("changes") or {}).items():
            self._text(uri, edits)
        for change in edit.get("documentChanges") or []:
            self._change(change)
        return self._plan

    def _change(self, change: Mapping[str, Any]) -> None:
        options = change.get("options") or {}
        match change.get("kind"):
            case None:
                self._text(change["textDocument"]["uri"], change["edits"])
            case "create":
                self._create(self._path(change["uri"]), options)
            case "rename":
                self._rename(self._path(change["oldUri"]), self._path(change["newUri"]), options)
            case "delete":
                self._delete(self._path(change["uri"]), options)
            case other:
                raise LanserError(Code.BAD_INPUT, f"an edit of unknown kind {other!r}")

    def _text(self, uri: str, edits: Sequence[Mapping[str, Any]]) -> None:
        path = self._path(uri)
        data = self._load(path)
        if data is None:
            raise LanserError(Code.APPLY_CONFLICT, f"the edit changes {path}, which is not there")
        try:
            found = decode(data)
        except UnicodeError as error:
            raise LanserError(Code.APPLY_CONFLICT, f"{path} cannot be decoded: {error}") from error
        text = Text(found.text)
        mine = [(self._range(text, path, item["range"]), unmask(item["newText"])) for item in edits]
        try:
            self._plan.after[path] = found.encode(apply_edits(text, mine, path))
        except UnicodeEncodeError as error:
            raise LanserError(
                Code.APPLY_CONFLICT, f"{path} is {found.encoding}, which cannot hold the new text"
            ) from error
        self._plan.edits.setdefault(path, []).extend(mine)

    def _range(self, text: Text, path: str, span: Mapping[str, Any]) -> Range:
        there = flat(span)
        last = (text.lines - 1, len(text.line(text.lines - 1)))
        # One line past the end with column 0 is how many servers write "the end of the file".
        if there[2:] == (text.lines, 0):
            there = (*there[:2], *text.to_encoding(last, self._encoding))
        here = text.range_from(there, self._encoding)
        if text.range_to(here, self._encoding) != there or there[2] >= text.lines:
            raise LanserError(Code.APPLY_CONFLICT, f"an edit of {path} reaches beyond the text, at line {there[2] + 1}")
        return here

    def _create(self, path: str, options: Mapping[str, Any]) -> None:
        if self._load(path) is not None and not options.get("overwrite"):
            if options.get("ignoreIfExists"):
                return
            raise LanserError(Code.APPLY_CONFLICT, f"the edit creates {path}, which exists")
        self._plan.after[path] = b""

    def _rename(self, old: str, new: str, options: Mapping[str, Any]) -> None:
        data = self._load(old)
        if data is None:
            raise LanserError(Code.APPLY_CONFLICT, f"the edit renames {old}, which is not a file")
        if old.casefold() == new.casefold() and case_insensitive((self._workspace.root / old).parent):
            raise LanserError(Code.FS_PERMISSIONS, f"{old} and {new} are one file on this case-insensitive file system")
        if self._load(new) is not None and not options.get("overwrite"):
            raise LanserError(Code.APPLY_CONFLICT, f"the edit renames {old} to {new}, which exists")
        self._plan.after[new], self._plan.after[old] = data, None
        self._plan.renames.append((old, new))

    def _delete(self, path: str, options: Mapping[str, Any]) -> None:
        if self._load(path) is None and not options.get("ignoreIfNotExists"):
            raise LanserError(Code.APPLY_CONFLICT, f"the edit deletes {path}, which is not a file")
        self._plan.after[path] = None

    def _load(self, path: str) -> bytes | None:
        """What the file holds as of the plan so far."""
        if path not in self._plan.after:
            full = self._workspace.root / path
            if full.is_dir():
                raise LanserError(Code.BAD_INPUT, f"{path} is a folder; lanser edits files")
            try:
                data = full.read_bytes() if full.exists() else None
            except OSError as error:
                raise LanserError(Code.FS_PERMISSIONS, f"cannot read {path}: {error.strerror}") from error
            self._plan.before[path] = self._plan.after[path] = data
        return self._plan.after[path]

    def _path(self, uri: str) -> str:
        full = uri_to_path(uri)
        if full is None:
            raise LanserError(Code.JAIL, f"the edit names {uri}, which is not a local file")
        return jailed(self._workspace, full)


def jailed(workspace: Workspace, full: str) -> str:
    """``full`` relative to the workspace with every link of its folder resolved. ``JAIL`` outside, and for links and
    ``.git``.
    """
    place = Path(os.path.normpath(full))
    real = Path(os.path.realpath(place.parent)) / place.name
    rest = os.path.relpath(real, workspace.root)
    if rest in (".", "..") or rest.startswith("../") or rest.split("/")[0] == ".git":
        raise LanserError(Code.JAIL, f"the edit touches {full}, which lies outside the workspace")
    if real.is_symlink():
        raise LanserError(Code.JAIL, f"the edit touches {rest}, which is a symbolic link")
    return rest


def filtered(paths: Iterable[str], allow: Sequence[str], deny: Sequence[str]) -> None:
    """``JAIL`` when a path matches a ``deny`` glob, or there are ``allow`` globs and it matches none."""
    for path in paths:
        if any(matches(path, glob) for glob in deny):
            raise LanserError(Code.JAIL, f"the edit touches {path}, which --deny excludes")
        if allow and not any(matches(path, glob) for glob in allow):
            raise LanserError(Code.JAIL, f"the edit touches {path}, which no --allow includes")


def matches(path: str, glob: str) -> bool:
    """A glob over the whole path; a folder's name means all below it."""
    glob = glob.removeprefix("./").rstrip("/")
    return fnmatch.fnmatchcase(path, glob) or path.startswith(f"{glob}/")


def apply_edits(text: Text, edits: Iterable[TextEdit], path: str = "the file") -> str:
    """``text`` with all edits, whose ranges refer to the original. ``APPLY_CONFLICT`` when two overlap."""
    spans = [(text.offset(span[:2]), text.offset(span[2:]), order, new) for order, (span, new) in enumerate(edits)]
    spans.sort(key=lambda item: item[:3])
    out, at = list[str](), 0
    for start, end, _, new in spans:
        if start < at or end < start:
            line = text.position(start)[0] + 1
            raise LanserError(Code.APPLY_CONFLICT, f"two edits of {path} overlap at line {line}")
        out += [text.text[at:start], new]
        at = end
    return "".join([*out, text.text[at:]])


def file_diff(path: str, before: bytes | None, after: bytes | None) -> str:
    """The unified diff of one file, as git writes it."""
    if any(b"\0" in (data or b"") for data in (before, after)):
        return f"diff --git a/{path} b/{path}\nBinary files a/{path} and b/{path} differ\n"
    old, new = _lines(before), _lines(after)
    names = (f"a/{path}" if before is not None else "/dev/null", f"b/{path}" if after is not None else "/dev/null")
    head = f"diff --git a/{path} b/{path}\n"
    head += "new file mode 100644\n" if before is None else "deleted file mode 100644\n" if after is None else ""
    # The names of both contents are what lets `git apply --3way` carry the patch over to a file that has changed.
    head += f"index {blob_name(before)}..{blob_name(after)}\n"
    body = difflib.unified_diff(old, new, *names)
    return head + "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in body)


def blob_name(data: bytes | None) -> str:
    """What git calls a file's content."""
    if data is None:
        return "0" * 40
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data), usedforsecurity=False).hexdigest()


def case_insensitive(folder: Path) -> bool:
    """Whether names in ``folder`` that differ in case are one file."""
    try:
        names = {item.name for item in folder.iterdir()}
    except OSError:
        return False
    for name in names:
        swapped = name.swapcase()
        if swapped != name and swapped not in names:
            return (folder / swapped).exists()
    return False


def _lines(data: bytes | None) -> list[str]:
    if data is None:
        return []
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    parts = text.split("\n")
    return [f"{line}\n" for line in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
