"""``metrics.jsonl``: one JSON object a line, appended and synced; what a kill tore off is dropped on reading.

A step's line is written before the checkpoint that covers it: after a kill the file may be ahead of the weights. A
checkpoint therefore records how many lines it covers, and a resumed run keeps exactly those: no step appears twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Heard = Callable[[int, Mapping[str, Any]], None]
"""Is told the number of a line and what it says."""


class Metrics:
    """The metrics of one run. ``lines`` of them are kept from a file that is already there; ``heard`` is told of every
    new one, with its number."""

    def __init__(self, path: Path, lines: int = 0, heard: Heard | None = None) -> None:
        self.path = path
        self._heard = heard
        kept = read(path)[:lines]
        self.lines = len(kept)
        self._rewrite(kept)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line; on disk when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines += 1
        if self._heard:
            self._heard(self.lines, record)

    def _rewrite(self, records: list[dict[str, Any]]) -> None:
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, in order; ``[]`` when there is none."""
    records: list[dict[str, Any]] = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
