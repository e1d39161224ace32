"""File trees: copied, listed, hashed. Standard library only, because the tool server inside uses it too.

A manifest names what a tree holds, without version control and without what running code leaves behind (byte code, test
caches), so that equal trees have equal manifests whatever was run in them. Hashes are cached by the file's stat; a file
changed within the clock's granularity of being hashed is hashed again.
"""

# Plain system calls: this runs inside, once per file and per command.
# ruff: noqa: PTH101, PTH103, PTH108, PTH112, PTH114, PTH115, PTH118, PTH120, PTH123, PTH211

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

IGNORED_FOLDERS = frozenset(
    (".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".venv")
)
"""Folders that are no part of a tree's content."""
IGNORED_SUFFIXES = (".pyc", ".pyo")
RACY_NS = 100_000_000
"""A change this recent, in nanoseconds, may be followed by another one with the same time stamp: its hash is not
cached."""

Stamp = tuple[int, int, int, int, int]


class Hasher:
    """Manifests of one tree, with the hashes of unchanged files remembered between calls."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: dict[str, tuple[Stamp, str]] = {}

    def manifest(self) -> dict[str, str]:
        """``path -> "mode:sha256"`` with mode ``f`` (file), ``x`` (executable file) or ``l`` (link, hash of its
        target)."""
        found = {path: self._entry(path, entry) for path, entry in walk(self._root)}
        return {path: value for path, value in sorted(found.items()) if value}

    def trust(self, manifest: Mapping[str, str]) -> None:
        """Take the hashes of a tree that this one was just copied from; whoever writes in place must :meth:`forget`."""
        for path, entry in walk(self._root):
            if manifest.get(path, "l")[0] != "l":
                self._known[path] = (_stamp(entry.stat(follow_symlinks=False)), manifest[path].partition(":")[2])

    def forget(self, path: str) -> None:
        """Hash a file anew at the next call."""
        self._known.pop(path, None)

    def _entry(self, path: str, entry: os.DirEntry[str]) -> str:
        try:
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode):
                return f"l:{hashlib.sha256(os.fsencode(os.readlink(entry.path))).hexdigest()}"
            if not stat.S_ISREG(info.st_mode):
                return ""
            mode = "x" if info.st_mode & 0o100 else "f"
            return f"{mode}:{self._digest(path, entry.path, info)}"
        except FileNotFoundError:
            return ""

    def _digest(self, path: str, full: str, info: os.stat_result) -> str:
        stamp = _stamp(info)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        digest = _file_digest(full)
        if time.time_ns() - info.st_ctime_ns > RACY_NS:
            self._known[path] = (stamp, digest)
        return digest


class Listing:
    """A tree's manifest as one reader is told it: whole at first, then what differs from what it was told last."""

    def __init__(self, root: str) -> None:
        self._number = 0
        self.renew(root)

    def renew(self, root: str) -> None:
        """Begin anew with another tree; what was told of the one before is void."""
        self._hasher, self._number, self._told = Hasher(root), self._number + 1, dict[str, str]()

    def since(self, number: int) -> dict[str, Any]:
        """``number`` of this answer; whether it is ``whole``; paths ``changed``, with their entries, and ``gone`` since
        the answer of that number, where it was the last one."""
        found, whole = self._hasher.manifest(), number != self._number
        before = {} if whole else self._told
        self._told, self._number = found, self._number + 1
        changed = {path: value for path, value in found.items() if before.get(path) != value}
        gone = [path for path in before if path not in found]
        return {"number": self._number, "whole": whole, "changed": changed, "gone": gone}


class Listed(NamedTuple):
    """What the reader of a :class:`Listing` knows."""

    number: int
    """Of the answer that told it; 0: nothing was told."""
    manifest: dict[str, str]

    def told(self, answer: dict[str, Any]) -> Listed:
        """After an answer to ``since(self.number)``."""
        kept: dict[str, str] = {} if answer["whole"] else self.manifest
        if answer["changed"] or answer["gone"]:
            gone = {*answer["gone"]}
            left = {path: value for path, value in kept.items() if path not in gone}
            kept = dict(sorted((left | answer["changed"]).items()))
        return Listed(answer["number"], kept)


def _stamp(info: os.stat_result) -> Stamp:
    return (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_dev)


def _file_digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        # The owner may have taken its own right to read: that is part of what the tree is.
        return "unreadable"


def walk(root: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below ``root`` that is not a folder, as (relative path, entry), without the ignored names."""
    stack = [""]
    while stack:
        prefix = stack.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in IGNORED_FOLDERS:
                            stack.append(f"{prefix}{entry.name}/")
                    elif not entry.name.endswith(IGNORED_SUFFIXES):
                        yield prefix + entry.name, entry
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            continue


def inside(root: str, path: str) -> str:
    """The real path of ``path`` (relative to ``root`` or absolute), which must lie inside it. Raises
    ``PermissionError``."""
    if "\0" in path:
        raise PermissionError(errno.EACCES, "a path cannot hold a null character", path)
    base = os.path.realpath(root)
    real = os.path.realpath(os.path.join(base, path))
    if real != base and not real.startswith(base.rstrip("/") + "/"):
        raise PermissionError(errno.EACCES, "the path lies outside the workspace", path)
    return real


def read_file(root: str, path: str) -> bytes:
    """Bytes of a file inside ``root``. Raises the ``OSError`` that says why not."""
    return Path(inside(root, path)).read_bytes()


def write_file(root: str, path: str, data: bytes, executable: bool = False) -> None:
    """Create or replace a file inside ``root``, parents included."""
    target = Path(inside(root, path))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o755 if executable else 0o644)


def copy(source: str, target: str, owner: tuple[int, int] | None = None) -> None:
    """Copy the tree ``source`` to ``target`` (made if absent): contents, modes, times and links; ``.git`` included."""
    os.makedirs(target, exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            _copy_entry(entry, f"{target}/{entry.name}", owner)
    if owner:
        os.chown(target, *owner)


def _copy_entry(entry: os.DirEntry[str], target: str, owner: tuple[int, int] | None) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        if owner:
            os.lchown(target, *owner)
        return
    info = entry.stat(follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        copy(entry.path, target, owner)
        os.chmod(target, stat.S_IMODE(info.st_mode) | 0o700)
    elif stat.S_ISREG(info.st_mode):
        _copy_file(entry.path, target, info, owner)


def _copy_file(source: str, target: str, info: os.stat_result, owner: tuple[int, int] | None) -> None:
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if owner:
            os.fchown(write, *owner)
        done = 0
        while done < info.st_size and (sent := os.sendfile(write, read, done, info.st_size - done)):
            done += sent
        os.fchmod(write, stat.S_IMODE(info.st_mode) & 0o777 | 0o600)
        os.utime(write, ns=(info.st_atime_ns, info.st_mtime_ns))
    finally:
        os.close(read)
        os.close(write)


def remove(folder: str) -> None:
    """Remove a tree whatever modes its folders were given; nothing happens when it is absent."""

    def unlock(function: object, path: str, error: BaseException) -> None:
        if isinstance(error, FileNotFoundError):
            return
        parent = os.path.dirname(path)
        for locked in (parent, path):
            if os.path.isdir(locked) and not os.path.islink(locked):
                os.chmod(locked, 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            os.unlink(path)

    shutil.rmtree(folder, onexc=unlock)
