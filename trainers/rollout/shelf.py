"""The finished trajectories of one file, by key: what a resumed run need not play again.

The file is an :class:`agent.store.Store`: appended and synced line by line, tolerant of a torn last line.
"""

from __future__ import annotations

from pathlib import Path

from agent.store import Store
from agent.trajectory import Key, Trajectory


class Shelf:
    """A trajectory file with an index. ``since`` keeps only steps from that one on in memory; the file keeps all."""

    def __init__(self, path: Path, since: int | None = None) -> None:
        self._store = Store(path)
        found = self._store.read() if path.exists() else ()
        self._index = {t.key: t for t in found if since is None or t.key.step >= since}

    def get(self, key: Key) -> Trajectory | None:
        """The trajectory stored under a key."""
        return self._index.get(key)

    def append(self, trajectory: Trajectory) -> None:
        """Store one; on disk when this returns."""
        self._store.append(trajectory)
        self._index[trajectory.key] = trajectory

    def forget(self, step: int) -> None:
        """Drop a step that is done from memory. Later ones, left by a kill before their checkpoint, stay."""
        self._index = {key: trajectory for key, trajectory in self._index.items() if key.step > step}

    def release(self, prompt: int) -> None:
        """Drop a prompt that was learned from out of memory."""
        self._index = {key: trajectory for key, trajectory in self._index.items() if key.prompt != prompt}

    def stored(self, prompt: int) -> list[Trajectory]:
        """The trajectories of a prompt that are in memory."""
        return [trajectory for key, trajectory in self._index.items() if key.prompt == prompt]


def lines(path: Path) -> int:
    """Whole lines of a file; 0 when there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0
