"""Apply a plan: all of it or none, whatever is killed when (standard library only).

The journal, written and synced before the first file is touched, holds for each file its old content and the digest
of the new one. Each new content goes to a temporary file in the same folder, is synced, and replaces the old by
``rename(2)``; the folder is synced. Removing the journal is the commit.

Invariants:

* After a crash, :func:`recover` rolls back what the journal names: the workspace is as before, or, when the journal
  was gone, as after. Every session calls it before it looks at the workspace.
* Of two transactions on one workspace the second waits; one under way is never rolled back.
* A file that is not what the plan was computed on stops everything before anything is written (``CONTENT_MODIFIED``).
* Mode bits survive; nothing is written through a symbolic link that appeared after the plan was made.

Every effect goes through a :class:`Files`, so that a test can stop the process at each one.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from lsp.canonical import digest_bytes
from lsp.edits import Plan, jailed
from lsp.errors import Code, LanserError
from lsp.workspace import JOURNAL, SUFFIX, Workspace

NO_FOLLOW = os.O_CLOEXEC | os.O_NOFOLLOW


class Files:
    """The system calls that a transaction makes, one method each, and what is made of them."""

    def create(self, path: str) -> int:
        """A handle on a new file that nobody else can read yet."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)

    def put(self, handle: int, data: memoryview) -> int:
        """How many bytes of ``data`` were written."""
        return os.write(handle, data)

    def chmod(self, handle: int, mode: int) -> None:
        os.fchmod(handle, mode)

    def open_folder(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync(self, handle: int) -> None:
        os.fsync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def rename(self, old: str, new: str) -> None:
        Path(old).rename(new)

    def remove(self, path: str) -> None:
        Path(path).unlink()

    def make_folder(self, path: str) -> None:
        Path(path).mkdir()

    def write(self, path: str, data: bytes, mode: int) -> None:
        """Create ``path`` with ``data`` and sync it."""
        handle = self.create(path)
        try:
            view = memoryview(data)
            while view:
                view = view[self.put(handle, view) :]
            self.chmod(handle, mode)
            self.sync(handle)
        finally:
            self.close(handle)

    def sync_folder(self, path: str) -> None:
        handle = self.open_folder(path)
        try:
            self.sync(handle)
        finally:
            self.close(handle)

    def make_folders(self, path: str) -> None:
        """``path`` and the folders above it, where they are missing."""
        missing = [folder for folder in (Path(path), *Path(path).parents) if not folder.is_dir()]
        for folder in reversed(missing):
            self.make_folder(str(folder))


@contextlib.contextmanager
def alone(root: str, *, wait: bool) -> Generator[bool]:
    """Hold the workspace against other transactions; whether that was possible. The kernel lets go when we die.

    A file system that knows no locks holds nobody off.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        free = True
    except BlockingIOError:
        free = False
    except OSError:
        free = True
    try:
        yield free
    finally:
        os.close(handle)


class Transaction:
    """One plan on its way to the disk."""

    def __init__(self, workspace: Workspace, plan: Plan, files: Files | None = None) -> None:
        self._root = str(workspace.root)
        self._workspace = workspace
        self._plan = plan
        self._files = files or Files()

    def apply(self) -> None:
        """Write the plan. ``CONTENT_MODIFIED``, ``JAIL`` or ``FS_PERMISSIONS``; the workspace is then as it was."""
        with alone(self._root, wait=True):
            roll_back(self._workspace, self._files)
            changed = self._plan.changed()
            if changed:
                self._write(changed)

    def _write(self, changed: list[str]) -> None:
        self._check(changed)
        self._journal(changed)
        try:
            for path in changed:
                self._replace(path)
        except OSError as error:
            roll_back(self._workspace, self._files)
            raise LanserError(Code.FS_PERMISSIONS, f"cannot write {error.filename}: {error.strerror}") from error
        except LanserError:
            roll_back(self._workspace, self._files)
            raise
        self._files.remove(f"{self._root}/{JOURNAL}")
        self._files.sync_folder(self._root)

    def _check(self, changed: list[str]) -> None:
        for path in changed:
            full = f"{self._root}/{path}"
            if jailed(self._workspace, full) != path:
                raise LanserError(Code.JAIL, f"{path} now leads elsewhere")
            found = _read(full)
            if found != self._plan.before[path]:
                raise LanserError(Code.CONTENT_MODIFIED, f"{path} was changed since the edit was computed; ask again")
            if found is not None and not stat.S_IMODE(os.lstat(full).st_mode) & stat.S_IWUSR:
                raise LanserError(Code.FS_PERMISSIONS, f"{path} is read-only")
            folder = Path(full).parent
            if folder.is_dir() and not os.access(folder, os.W_OK):
                raise LanserError(Code.FS_PERMISSIONS, f"the folder of {path} is read-only")

    def _journal(self, changed: list[str]) -> None:
        entries = [self._entry(path) for path in changed]
        body = json.dumps({"version": 1, "files": entries}).encode()
        place = f"{self._root}/{JOURNAL}"
        try:
            self._files.write(f"{place}{SUFFIX}", body, 0o600)
            self._files.rename(f"{place}{SUFFIX}", place)
            self._files.sync_folder(self._root)
        except OSError as error:
            raise LanserError(Code.FS_PERMISSIONS, f"cannot write the journal: {error.strerror}") from error

    def _entry(self, path: str) -> dict[str, Any]:
        before, after = self._plan.before[path], self._plan.after[path]
        return {
            "path": path,
            "before": None if before is None else base64.b64encode(before).decode(),
            "after": None if after is None else digest_bytes(after),
            "mode": _mode(f"{self._root}/{path}"),
        }

    def _replace(self, path: str) -> None:
        full, after = f"{self._root}/{path}", self._plan.after[path]
        folder = str(Path(full).parent)
        if after is None:
            self._files.remove(full)
        else:
            self._files.make_folders(folder)
            if jailed(self._workspace, full) != path:
                raise LanserError(Code.JAIL, f"{path} now leads elsewhere")
            if _read(full) != self._plan.before[path]:
                raise LanserError(Code.CONTENT_MODIFIED, f"{path} was changed while the edit was applied")
            self._files.write(f"{full}{SUFFIX}", after, self._mode_of(path))
            self._files.rename(f"{full}{SUFFIX}", full)
        self._files.sync_folder(folder)

    def _mode_of(self, path: str) -> int:
        """The file's own mode; a renamed file keeps that of its old name; a new one gets the usual."""
        source = next((old for old, new in self._plan.renames if new == path), path)
        return _mode(f"{self._root}/{source}") or 0o644


def recover(workspace: Workspace, files: Files | None = None) -> bool:
    """Roll back what a killed transaction left. Whether there was anything to do.

    Safe to call at any time, and to be killed in: one that is still under way is let alone.
    """
    with alone(str(workspace.root), wait=False) as free:
        return free and roll_back(workspace, files)


def roll_back(workspace: Workspace, files: Files | None = None) -> bool:
    """:func:`recover` for who holds the workspace."""
    files = files or Files()
    root = str(workspace.root)
    place = f"{root}/{JOURNAL}"
    with contextlib.suppress(FileNotFoundError):
        files.remove(f"{place}{SUFFIX}")
    body = _read(place)
    if body is None:
        return False
    for entry in json.loads(body)["files"]:
        _restore(workspace, entry, files)
    files.remove(place)
    files.sync_folder(root)
    return True


def _restore(workspace: Workspace, entry: Mapping[str, Any], files: Files) -> None:
    full = f"{workspace.root}/{entry['path']}"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        files.remove(f"{full}{SUFFIX}")
    now = _read(full)
    before = None if entry["before"] is None else base64.b64decode(entry["before"])
    # Only what the transaction itself wrote is taken back: a file that someone else changed since is theirs.
    if now == before or (None if now is None else digest_bytes(now)) != entry["after"]:
        return
    if before is None:
        files.remove(full)
    else:
        files.write(f"{full}{SUFFIX}", before, entry["mode"] or 0o644)
        files.rename(f"{full}{SUFFIX}", full)
    files.sync_folder(str(Path(full).parent))


def _read(path: str) -> bytes | None:
    """Bytes of a regular file that is no link; ``None`` when there is none. ``JAIL`` for a link."""
    try:
        handle = os.open(path, os.O_RDONLY | NO_FOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        code = Code.JAIL if Path(path).is_symlink() else Code.FS_PERMISSIONS
        raise LanserError(code, f"cannot open {path}: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        return file.read()


def _mode(path: str) -> int | None:
    try:
        return stat.S_IMODE(os.lstat(path).st_mode)
    except OSError:
        return None
