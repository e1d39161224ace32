"""Rows: JSONL in SWE-bench's schema, ours and SWE-bench's own, and files of release pairs, through one loader."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sandbox.task import Task, TaskError

DATA = Path(__file__).with_name("data")
Split = Literal["train", "heldout"]
Level = Literal["starter", "standard"]


def shipped() -> dict[str, Path]:
    """The sets that come with the package, by name."""
    return {file.stem: file for file in sorted([*DATA.glob("*.jsonl"), *DATA.glob("*-pairs.json")])}


def load_tasks(rows: str | Path, split: Split | None = None, level: Level | None = None) -> list[Task]:
    """Tasks of a shipped set (by name) or of a file, in the order of the file.

    Raises :class:`TaskError`: an unknown name or file, a broken row (with its line), an instance named twice.
    """
    file = _file(rows)
    tasks = _read(file)
    return [task for task in tasks if (split is None or task.split == split) and (level is None or task.level == level)]


def _read(file: Path) -> list[Task]:
    if file.suffix == ".json":
        from benchmarks.pairs import read_pairs

        return read_pairs(file)
    tasks: dict[str, Task] = {}
    for number, line in _lines(file):
        task = _row(file, number, line)
        if task.instance_id in tasks:
            raise TaskError(f"{file}, line {number}: the instance {task.instance_id} is there twice")
        tasks[task.instance_id] = task
    return list(tasks.values())


def dump_row(task: Task) -> str:
    """One row as a line of JSON, without fields that hold nothing; it loads back to an equal task."""
    return json.dumps(task.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def write_rows(file: Path, tasks: Sequence[Task]) -> None:
    """Write a file of rows, whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    part.write_text("".join(f"{dump_row(task)}\n" for task in tasks), encoding="utf-8")
    part.replace(file)


def _file(rows: str | Path) -> Path:
    sets = shipped()
    if str(rows) in sets:
        return sets[str(rows)]
    file = Path(rows)
    if file.is_file():
        return file
    raise TaskError(f"there is no set of tasks '{rows}' and no such file; the shipped sets are {', '.join(sets)}")


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        # Only a newline ends a row: str.splitlines would also cut at characters that JSON leaves as they are.
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TaskError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _row(file: Path, number: int, line: str) -> Task:
    try:
        fields: Any = json.loads(line)
    except ValueError as error:
        raise TaskError(f"{file}, line {number}: not valid JSON ({error})") from None
    try:
        return Task.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "row"
        raise TaskError(f"{file}, line {number}: {where}: {first['msg']}") from None
    except ValueError as error:
        # A list of tests that is a string, but no JSON list.
        raise TaskError(f"{file}, line {number}: a list of tests is no JSON list ({error})") from None
