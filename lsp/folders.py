"""The folders of a workspace and the files in them, a folder listed again only when it changed (standard library only).

A folder's time stamps change whenever a name in it is made, removed or replaced, so one whose stat is what it was holds
the names that it held; what the files hold is their own stat's business. Invariant: names are taken from memory only
where that is known to be true: on a file system that keeps the stamps of folders (:data:`TRUSTED`), when the stamp
was old enough at the listing that no later change can carry it, and while the rules that held then still hold.
"""

# Plain system calls: this runs once per file and per question.
# ruff: noqa: PTH116

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsp.ignore import NEVER, NO_RULES, Rules, read_rules

RACY_NS = 50_000_000
"""A time stamp younger than this at the scan is not trusted: twelve ticks of a 250 Hz clock."""
TRUSTED = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"})
"""File systems whose folders are known to change their stamps with their names. A folder of any other one (network,
FUSE, FAT) is listed at every scan.
"""
MOUNTS = Path("/proc/self/mountinfo")

Signature = tuple[int, int, int, int, int]
File = tuple[str, str, bool]
"""Relative path, full path, whether it is a symbolic link."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder as last listed."""

    signature: Signature | None
    """``None`` where the listing cannot be used again."""
    above: Rules
    own: tuple[str, Signature | None] | None
    """Its ``.gitignore`` and that one's signature, ``None`` while that is too young to be trusted."""
    rules: Rules
    """What holds in it."""
    folders: tuple[tuple[str, str], ...]
    """Relative and full path of those to enter."""
    files: tuple[File, ...]


class Folders:
    """The tree below ``root``. A link to a folder is not entered, a file that a link puts outside is not there."""

    def __init__(self, root: Path, wanted: Callable[[str], bool]) -> None:
        """``wanted`` tells by its name whether a file counts."""
        self._root = str(root)
        self._wanted = wanted
        self._known: dict[str, Folder] = {}
        self._devices: dict[int, bool] = {}

    def files(self, now: int) -> Iterator[tuple[str, str, os.stat_result]]:
        """Relative path, full path and stat of every file that counts; ``now`` is when the scan began, in ns."""
        fresh: dict[str, Folder] = {}
        stack = [("", self._root, NO_RULES)]
        while stack:
            base, full, above = stack.pop()
            folder = self._folder(base, full, above, now)
            if folder is None:
                continue
            fresh[base] = folder
            for path, place, link in folder.files:
                info = self._stat(place, link)
                if info is not None:
                    yield path, place, info
            rules = folder.rules
            stack += [(path, place, rules) for path, place in folder.folders]
        self._known = fresh

    def _folder(self, base: str, full: str, above: Rules, now: int) -> Folder | None:
        known = self._known.get(base)
        try:
            info = os.lstat(full)
            if known is not None and known.signature == signed(info) and known.above is above and self._ruled(known):
                return known
            return self._list(base, full, above, info, now)
        except OSError:
            return None

    def _list(self, base: str, full: str, above: Rules, info: os.stat_result, now: int) -> Folder:
        """``info`` is from before the listing: a change during it makes the next scan list again."""
        with os.scandir(full) as found:
            items = list(found)
        own, rules = self._ignoring(base, items, above, now)
        folders: list[tuple[str, str]] = []
        files: list[File] = []
        for item in items:
            name = item.name
            path = f"{base}/{name}" if base else name
            if item.is_dir(follow_symlinks=False):
                if name not in NEVER and not rules.ignore(path, folder=True):
                    folders.append((path, item.path))
            elif self._wanted(name) and not rules.ignore(path, folder=False):
                files.append((path, item.path, item.is_symlink()))
        lasting = not young(info, now) and self._trusted(info.st_dev)
        return Folder(signed(info) if lasting else None, above, own, rules, tuple(folders), tuple(files))

    def _ruled(self, known: Folder) -> bool:
        """Whether the folder's own ``.gitignore`` is the one that was read."""
        if known.own is None:
            return True
        path, signature = known.own
        info = self._stat(path, link=True)
        return info is not None and signed(info) == signature

    def _ignoring(
        self, base: str, items: list[os.DirEntry[str]], above: Rules, now: int
    ) -> tuple[tuple[str, Signature | None] | None, Rules]:
        """A folder's own rules, read again only when the file changed, and all that hold there."""
        file = next((item for item in items if item.name == ".gitignore"), None)
        info = self._stat(file.path, link=True) if file is not None else None
        if file is None or info is None:
            return None, above
        own = (file.path, None if young(info, now) else signed(info))
        known = self._known.get(base)
        if known is not None and known.above is above and known.own == own and own[1] is not None:
            return own, known.rules
        return own, Rules(above.rules + read_rules(file.path, base))

    def _stat(self, path: str, link: bool) -> os.stat_result | None:
        try:
            if link and not inside(self._root, os.path.realpath(path)):
                return None
            info = os.stat(path)
        except OSError:
            return None
        return info if stat.S_ISREG(info.st_mode) else None

    def _trusted(self, device: int) -> bool:
        if device not in self._devices:
            self._devices[device] = kind_of(device) in TRUSTED
        return self._devices[device]


def kind_of(device: int) -> str:
    """The type of the file system with this device number; empty where the kernel does not tell."""
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    found = (line.partition(" - ")[2] for line in lines if line.split()[2] == name)
    return next(found, "").partition(" ")[0]


def inside(root: str | os.PathLike[str], path: str) -> bool:
    """Whether ``path`` (already resolved) is ``root`` or below it."""
    return os.path.commonpath([root, path]) == os.fspath(root)


def signed(info: os.stat_result) -> Signature:
    """What tells one state of a file from another without reading it."""
    return (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino, info.st_dev)


def young(info: os.stat_result, now: int) -> bool:
    """Whether a write that follows within the clock's granularity could leave the same stamps."""
    return max(info.st_mtime_ns, info.st_ctime_ns) > now - RACY_NS
