"""Finished trajectories on disk: one sealed record a line, and large facts beside them.

* **On disk before it is counted** (invariant 10): :meth:`Store.append` writes a whole line, flushes and syncs. A kill
  can tear only the last line; it was never counted, so reading skips it and the next append removes it.
* **Sealed**: a record's digest is checked when it is read. A record that was changed, or has another schema version, is
  refused with the line's number.
* :class:`SideFiles` keeps large facts by content: equal values are stored once and cannot change under their name.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.scored import Scored, decode
from agent.trajectory import SCHEMA, Key, Trajectory

_HEAD = f'{{"schema_version":{SCHEMA},'.encode()
_BUFFER = 1 << 17
"""Bytes read at a time: records are tens of kilobytes long."""


class StoreError(Exception):
    """A trajectory file cannot be used. The message is one sentence for a user."""


class Store:
    """A JSONL file of trajectories. One writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mended = False

    def append(self, trajectory: Trajectory) -> None:
        """Store one trajectory, sealed if it is not yet; it is on disk when this returns. Raises ``OSError``."""
        sealed = trajectory if trajectory.digest else trajectory.seal()
        if not self._mended:
            self._mend()
        fresh = not self.path.exists()
        with self.path.open("ab") as file:
            file.write(sealed.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            _sync_folder(self.path.parent)

    def read(self) -> Iterator[Trajectory]:
        """The trajectories in order; none when there is no file. Raises :class:`StoreError`."""
        for number, line in self._lines():
            yield _parse(Trajectory.model_validate_json, line, f"{self.path}, line {number}")

    def groups(self) -> Iterator[list[Scored]]:
        """Groups of one task, step and prompt as they become whole, members by sample, as scoring reads them.

        Episodes finish in any order. A first pass counts each group's members, so that the second one holds a group
        only until its last: memory does not grow with the file. A key that was stored twice keeps its first record.
        """
        left = Counter(_group(line) for _, line in self._lines())
        held: dict[bytes, dict[Key, Scored]] = {}
        for number, line in self._lines():
            group = _group(line)
            trajectory = _parse(decode, line, f"{self.path}, line {number}")
            held.setdefault(group, {}).setdefault(trajectory.key, trajectory)
            left[group] -= 1
            if not left[group]:
                yield sorted(held.pop(group).values(), key=lambda one: one.key.sample)

    def index(self) -> dict[Key, Trajectory]:
        """The trajectories by key; a key that was stored twice keeps its first record."""
        found: dict[Key, Trajectory] = {}
        for trajectory in self.read():
            found.setdefault(trajectory.key, trajectory)
        return found

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """The whole lines with their numbers, from 1."""
        if not self.path.exists():
            return
        with self.path.open("rb", buffering=_BUFFER) as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                yield number, line

    def _mend(self) -> None:
        """Remove a torn last line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            with self.path.open("r+b") as file:
                file.truncate(_whole(file.read()))
        self._mended = True


class SideFiles:
    """JSON values named by their content, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, value: Mapping[str, Any]) -> str:
        """Store a value; its name, ``sha256:...`` over its canonical JSON."""
        data = _canonical(value)
        name = _name(data)
        path = self._path(name)
        if not path.exists():
            _write_whole(path, data)
        return name

    def get(self, name: str) -> dict[str, Any]:
        """The value of a name. Raises :class:`StoreError` when it is absent or is not what its name says."""
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            raise StoreError(f"there is no side file {name} in {self._folder}") from None
        if name != _name(data):
            raise StoreError(f"the side file {name} in {self._folder} was changed; delete it and replay the run")
        return json.loads(data)

    def _path(self, name: str) -> Path:
        digest = name.removeprefix("sha256:")
        return self._folder / digest[:2] / f"{digest}.json"


def content_name(value: Mapping[str, Any]) -> str:
    """The name under which :class:`SideFiles` keeps a value."""
    return _name(_canonical(value))


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _name(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _parse[T: (Trajectory, Scored)](read: Callable[[bytes], T], line: bytes, where: str) -> T:
    known = line.startswith(_HEAD)
    try:
        if not known and (version := _version(line)) != SCHEMA:
            raise StoreError(f"{where} has schema version {version}, this program reads {SCHEMA}")
        trajectory = read(line)
    except (ValueError, ValidationError):
        raise StoreError(f"{where} is not a trajectory; restore the file or remove that line") from None
    if not _sealed(line, trajectory.digest):
        raise StoreError(f"{where} was changed after it was sealed; restore the file or remove that line")
    return trajectory


def _group(line: bytes) -> bytes:
    """What the records of one group share: the line's start, up to the sample. Quotes within the task's name are
    escaped."""
    return line[: line.find(b',"sample":')]


def _version(line: bytes) -> object:
    record = json.loads(line)
    return record.get("schema_version") if isinstance(record, dict) else None


def _sealed(line: bytes, named: str) -> bool:
    """Whether the digest is that of the line as it stands, which is how :meth:`Trajectory.seal` made it: a field that
    a later version adds does not break the seal of an older record.
    """
    at = line.rfind(b'"digest":"')
    made = hashlib.sha256(memoryview(line)[: max(at, 0)])
    made.update(b'"digest":""}')
    digest = made.hexdigest()
    return line[at:] == f'"digest":"sha256:{digest}"}}\n'.encode() and named == f"sha256:{digest}"


def _whole(data: bytes) -> int:
    """Length of the whole lines."""
    return data.rfind(b"\n") + 1


def _write_whole(path: Path, data: bytes) -> None:
    """Complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
