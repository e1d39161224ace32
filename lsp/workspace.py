"""The files of a workspace and what they hold now (standard library only).

Invariants:

* :meth:`Workspace.scan` finds every change of content since the last scan, whoever made it. A file is hashed again
  when its stat changed, and also while its time stamp is too young to be told from a write that follows within the
  clock's granularity (git calls such entries racy).
* Only regular files below the root count; a symbolic link to a folder is not entered, one that leads outside is not
  read.
* What ``.gitignore`` leaves out is not indexed, nor is anything in :data:`lsp.ignore.NEVER`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from lsp.errors import Code, LanserError
from lsp.ignore import NEVER, NO_RULES, Rules, read_rules

RACY_NS = 50_000_000
"""A time stamp younger than this at the scan is not trusted: twelve ticks of a 250 Hz clock."""
SUFFIX = ".lanser-tmp"
"""Ends the name of a file that a transaction is writing."""
JOURNAL = ".lanser-journal"
"""What a transaction under way, or one that was killed, has at the root."""

Signature = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Entry:
    """One file as last seen."""

    signature: Signature
    digest: str
    """``sha256:...`` of the bytes."""
    racy: bool


@dataclass(frozen=True)
class Changes:
    """Difference between two states, as sorted relative paths."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.created or self.changed or self.deleted)


@dataclass
class Workspace:
    """A folder, looked at through the suffixes and configuration files that a server cares about."""

    root: Path
    suffixes: tuple[str, ...]
    config_files: frozenset[str] = frozenset()
    """Names of files that configure the server, wherever they lie."""
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    _rules: dict[str, tuple[Signature | None, Rules, Rules]] = field(default_factory=dict[str, Any])
    """By folder: signature of its ``.gitignore`` (``None`` while that is too young to be trusted), the rules above it,
    and all that hold there.
    """

    def __post_init__(self) -> None:
        self.root = Path(os.path.realpath(self.root))
        if not self.root.is_dir():
            raise LanserError(Code.BAD_INPUT, f"the workspace {self.root} is not a folder; name one with --workspace")

    def scan(self) -> None:
        """Bring :attr:`entries` up to the disk."""
        now = time.time_ns()
        fresh: dict[str, Entry] = {}
        for path, full, info in self._walk(now):
            entry = _entry(full, info, self.entries.get(path), now)
            if entry is not None:
                fresh[path] = entry
        self.entries = fresh

    def sources(self) -> list[str]:
        """Relative paths of the source files, sorted."""
        return sorted(path for path in self.entries if path.endswith(self.suffixes))

    def configs(self) -> dict[str, str]:
        """Relative path to digest of the configuration files."""
        return {path: entry.digest for path, entry in sorted(self.entries.items()) if self.is_config(path)}

    def is_config(self, path: str) -> bool:
        return path.rpartition("/")[2] in self.config_files

    def digest(self) -> str:
        """Name of the whole content: SHA-256 over sorted paths and digests."""
        whole = hashlib.sha256()
        for path in sorted(self.entries):
            whole.update(f"{path}\0{self.entries[path].digest}\n".encode("utf-8", "surrogateescape"))
        return f"sha256:{whole.hexdigest()}"

    def uri(self, path: str) -> str:
        return path_to_uri(f"{self.root}/{path}")

    def relative(self, uri: str) -> str | None:
        """The relative path that ``uri`` names; ``None`` when it lies outside."""
        full = uri_to_path(uri)
        if full is None:
            return None
        for candidate in (os.path.normpath(full), os.path.realpath(full)):
            rest = os.path.relpath(candidate, self.root)
            if rest != ".." and not rest.startswith("../"):
                return rest
        return None

    def read(self, path: str) -> bytes:
        """Bytes of a file below the root. ``NOT_FOUND`` when there is none."""
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise LanserError(Code.NOT_FOUND, f"cannot read {path}: {error.strerror}") from error

    def _walk(self, now: int) -> Iterator[tuple[str, str, os.stat_result]]:
        stack = [("", str(self.root), NO_RULES)]
        while stack:
            base, folder, rules = stack.pop()
            try:
                with os.scandir(folder) as found:
                    items = list(found)
            except OSError:
                continue
            rules = self._ignoring(base, items, rules, now)
            for item in items:
                name = item.name
                path = f"{base}/{name}" if base else name
                if item.is_dir(follow_symlinks=False):
                    if name not in NEVER and not rules.ignore(path, folder=True):
                        stack.append((path, item.path, rules))
                elif (name.endswith(self.suffixes) or name in self.config_files) and not rules.ignore(path, False):
                    info = self._stat(item)
                    if info is not None:
                        yield path, item.path, info

    def _ignoring(self, base: str, items: list[os.DirEntry[str]], above: Rules, now: int) -> Rules:
        """The rules of a folder: those above it with its own, which are read again only when the file changed."""
        file = next((item for item in items if item.name == ".gitignore"), None)
        info = self._stat(file) if file is not None else None
        if file is None or info is None:
            return above
        known = self._rules.get(base)
        if known is not None and known[1] is above and known[0] == _signature(info):
            return known[2]
        made = Rules(above.rules + read_rules(file.path, base))
        self._rules[base] = (None if _young(info, now) else _signature(info), above, made)
        return made

    def _stat(self, item: os.DirEntry[str]) -> os.stat_result | None:
        try:
            if item.is_symlink() and not inside(self.root, os.path.realpath(item.path)):
                return None
            info = item.stat()
        except OSError:
            return None
        return info if stat.S_ISREG(info.st_mode) else None


def inside(root: str | os.PathLike[str], path: str) -> bool:
    """Whether ``path`` (already resolved) is ``root`` or below it."""
    return os.path.commonpath([root, path]) == os.fspath(root)


def path_to_uri(path: str) -> str:
    return "file://" + quote(path, safe="/~-._")


def uri_to_path(uri: str) -> str | None:
    """The path of a ``file:`` URI; ``None`` for other schemes."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def target_digest(paths: Iterable[str]) -> str:
    """Name of a set of files."""
    return f"sha256:{hashlib.sha256(chr(10).join(sorted(paths)).encode('utf-8', 'surrogateescape')).hexdigest()}"


def _signature(info: os.stat_result) -> Signature:
    return (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino, info.st_dev)


def _young(info: os.stat_result, now: int) -> bool:
    return max(info.st_mtime_ns, info.st_ctime_ns) > now - RACY_NS


def _entry(full: str, info: os.stat_result, old: Entry | None, now: int) -> Entry | None:
    signature = _signature(info)
    if old is not None and old.signature == signature and not old.racy:
        return old
    try:
        with Path(full).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
    return Entry(signature, f"sha256:{digest}", _young(info, now))


def compare(old: Mapping[str, str], new: Mapping[str, str]) -> Changes:
    """What leads from ``old`` to ``new``, both path to digest."""
    return Changes(
        created=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(path for path in new.keys() & old.keys() if new[path] != old[path])),
        deleted=tuple(sorted(old.keys() - new.keys())),
    )
