"""The files of a workspace and what they hold now (standard library only).

Invariants:

* :meth:`Workspace.scan` finds every change of content since the last scan, whoever made it. A file is hashed again
  when its stat changed, and also while its time stamp is too young to be told from a write that follows within the
  clock's granularity (git calls such entries racy).
* Only regular files below the root count; a symbolic link to a folder is not entered, one that leads outside is not
  read.
* What ``.gitignore`` leaves out is not indexed, nor is anything in :data:`lsp.ignore.NEVER` (:mod:`lsp.folders` finds
  the files).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from lsp.errors import Code, LanserError
from lsp.folders import Folders, Signature, signed, young

SUFFIX = ".lanser-tmp"
"""Ends the name of a file that a transaction is writing."""
JOURNAL = ".lanser-journal"
"""What a transaction under way, or one that was killed, has at the root."""


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
    """What was there at the last scan; another dict only when something differs, never changed in place."""

    def __post_init__(self) -> None:
        self.root = Path(os.path.realpath(self.root))
        if not self.root.is_dir():
            raise LanserError(Code.BAD_INPUT, f"the workspace {self.root} is not a folder; name one with --workspace")
        self._folders = Folders(self.root, lambda name: name.endswith(self.suffixes) or name in self.config_files)
        self._names: _Names | None = None

    def scan(self) -> None:
        """Bring :attr:`entries` up to the disk."""
        now = time.time_ns()
        fresh: dict[str, Entry] = {}
        for path, full, info in self._folders.files(now):
            entry = _entry(full, info, self.entries.get(path), now)
            if entry is not None:
                fresh[path] = entry
        if fresh != self.entries:
            self.entries = fresh

    def sources(self) -> list[str]:
        """Relative paths of the source files, sorted."""
        return list(self._named().sources)

    def configs(self) -> dict[str, str]:
        """Relative path to digest of the configuration files."""
        return dict(self._named().configs)

    def is_config(self, path: str) -> bool:
        return path.rpartition("/")[2] in self.config_files

    def digest(self) -> str:
        """Name of the whole content: SHA-256 over sorted paths and digests."""
        return self._named().digest

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

    def _named(self) -> _Names:
        """What follows from :attr:`entries`, made once for each state of them."""
        if self._names is None or self._names.entries is not self.entries:
            configs = {path: entry.digest for path, entry in sorted(self.entries.items()) if self.is_config(path)}
            sources = tuple(sorted(path for path in self.entries if path.endswith(self.suffixes)))
            self._names = _Names(self.entries, sources, configs, _digest(self.entries))
        return self._names


@dataclass(frozen=True)
class _Names:
    """What is asked of one state of the entries again and again."""

    entries: Mapping[str, Entry]
    sources: tuple[str, ...]
    configs: Mapping[str, str]
    digest: str


def path_to_uri(path: str) -> str:
    return "file://" + quote(path, safe="/~-._")


def uri_to_path(uri: str) -> str | None:
    """The path of a ``file:`` URI; ``None`` for other schemes."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def target_digest(paths: Iterable[str]) -> str:
    """Name of a set of files."""
    return f"sha256:{hashlib.sha256(chr(10).join(sorted(paths)).encode('utf-8', 'surrogateescape')).hexdigest()}"


def _digest(entries: Mapping[str, Entry]) -> str:
    whole = hashlib.sha256()
    for path in sorted(entries):
        whole.update(f"{path}\0{entries[path].digest}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{whole.hexdigest()}"


def _entry(full: str, info: os.stat_result, old: Entry | None, now: int) -> Entry | None:
    signature = signed(info)
    if old is not None and old.signature == signature and not old.racy:
        return old
    try:
        with Path(full).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
    return Entry(signature, f"sha256:{digest}", young(info, now))


def compare(old: Mapping[str, str], new: Mapping[str, str]) -> Changes:
    """What leads from ``old`` to ``new``, both path to digest."""
    return Changes(
        created=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(path for path in new.keys() & old.keys() if new[path] != old[path])),
        deleted=tuple(sorted(old.keys() - new.keys())),
    )
