"""The red team's table: who pays which attack.

``python tests/sandbox/red_table.py`` prints the table of ``docs/grading.md``.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import red_deeds
from red_deeds import DEEDS, naive_pays
from red_team import ATTACKS, HONEST, ORACLE, Changes, naive, ours, swebench
from toy_task import make

from sandbox.grading.patch import PatchError
from sandbox.local import LocalBackend
from sandbox.protocol import Backend
from sandbox.task import Prepared, Verdict


def cell(paid: bool | None) -> str:
    return "n/a" if paid is None else "**paid**" if paid else "-"


def our_cell(verdict: Verdict) -> str:
    if verdict.grade and verdict.flags:
        return f"flagged ({', '.join(verdict.flags)})"
    return "**paid**" if verdict.grade else f"- ({verdict.status.value})"


def with_oracle(prepared: Prepared) -> Prepared:
    return prepared.model_copy(update={"task": prepared.task.model_copy(update={"oracle": ORACLE})})


async def paid(grader: Any, prepared: Prepared, changes: Changes, backend: Backend) -> bool | None:
    """Whether a grader pays; ``None`` where its tree cannot hold the patch."""
    try:
        return await grader(prepared, changes, backend)
    except (PatchError, OSError):
        return None


HEAD = ("| attack | naive | SWE-bench 5.0.2 | ours | ours with a value oracle |", "| --- | --- | --- | --- | --- |")


async def rows(prepared: Prepared, folder: Path, backend: Backend) -> AsyncIterator[str]:
    """Every row of the table, as it is known."""
    for name, changes in [("an honest fix", HONEST), *((name, one.changes) for name, one in ATTACKS.items())]:
        cells = [cell(await paid(grader, prepared, changes, backend)) for grader in (naive, swebench)]
        cells += [our_cell(await ours(one, changes, backend)) for one in (prepared, with_oracle(prepared))]
        yield f"| {name} | {' | '.join(cells)} |"
    tree = red_deeds.careless(prepared, folder)
    for name, deed in DEEDS.items():
        cells = [cell(await pays(prepared, tree, deed.script, backend)) for pays in (naive_pays, red_deeds.swebench)]
        for one in (prepared, with_oracle(prepared)):
            cells.append(our_cell(await red_deeds.ours(one, deed.script, backend)))
        yield f"| {name} | {' | '.join(cells)} |"


def documented(text: str) -> Iterator[tuple[str, str]]:
    """(attack, our cell) of the table in ``docs/grading.md``."""
    for line in text.splitlines():
        cells = [part.strip() for part in line.strip().strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 5 and cells[0] not in ("attack", "---"):
            yield cells[0], cells[3]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend()
        try:
            print("\n".join(HEAD))
            async for row in rows(make(Path(folder)), Path(folder), backend):
                print(row, flush=True)
        finally:
            await backend.close()


if __name__ == "__main__":
    asyncio.run(main())
