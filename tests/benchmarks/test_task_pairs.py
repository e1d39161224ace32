"""Release pairs: read from a file of measurements, built from the package index, checked on their own Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from benchmarks.everything import Everything
from benchmarks.interpreters import place
from benchmarks.pairs import PYTHON, pair_of
from benchmarks.rows import load_tasks, shipped
from benchmarks.validate import validate
from sandbox.local import LocalBackend
from sandbox.task import Task, TaskError

Lacking = Callable[[str, str], NoReturn]
"""The fixture of tests/conftest.py."""
QUICK = ("markupsafe-2.1.4-to-2.1.5", "parse-1.20.1-to-1.20.2", "wcwidth-0.2.12-to-0.2.13")


def pairs() -> dict[str, Task]:
    return {task.instance_id: task for task in load_tasks("release-pairs")}


def validated(tasks: list[Task], lacking: Lacking) -> dict[str, dict[str, Any]]:
    try:
        place(PYTHON, "local")
    except TaskError as error:
        lacking("interpreter", str(error))

    async def run() -> dict[str, dict[str, Any]]:
        backend = LocalBackend()
        try:
            return {one["instance_id"]: one async for one in validate(tasks, Everything("local"), backend)}
        finally:
            await backend.close()

    found = asyncio.run(run())
    if offline := [one for one in found.values() if "cannot be downloaded" in one["detail"]]:
        lacking("index", offline[0]["detail"])
    return found


def hold(tasks: list[Task], lacking: Lacking) -> None:
    found = validated(tasks, lacking)
    assert len(found) == len(tasks)
    for task in tasks:
        result, pair = found[task.instance_id], pair_of(task)
        assert pair is not None
        assert (result["gold"], result["empty"], result["detail"]) == (1, 0, ""), result
        listed = len(pair.fail_to_pass)
        assert result["fail_to_pass"] == [0, listed, listed]
        assert result["pass_to_pass"] == [pair.n_pass_to_pass] * 3


def test_the_shipped_pairs_load_under_unique_names() -> None:
    found = pairs()
    assert len(found) == 10 and "release-pairs" in shipped()
    assert all(task.FAIL_TO_PASS and task.sha256 and not task.patch for task in found.values())


def test_three_pairs_hold(lacking: Lacking) -> None:
    hold([pairs()[name] for name in QUICK], lacking)


@pytest.mark.slow
def test_all_ten_pairs_hold(lacking: Lacking) -> None:
    hold(list(pairs().values()), lacking)


def test_a_pair_that_does_not_keep_what_it_lists_is_reported(lacking: Lacking) -> None:
    task = pairs()[QUICK[0]]
    told = {**(task.model_extra or {})["pair"], "fail_to_pass": ["tests/test_markupsafe.py::test_adding"]}
    wrong = task.model_copy(update={"FAIL_TO_PASS": tuple(told["fail_to_pass"]), "pair": told})
    (result,) = validated([wrong], lacking).values()
    assert result["gold"] == 0
    assert "test_adding" in result["detail"] and "against the list" in result["detail"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"pairs": [{"package": "x"}]}', "no json"])
def test_a_broken_file_of_pairs_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(TaskError, match=r"broken\.json"):
        load_tasks(file)


def test_pairs_of_another_file_are_read_with_its_own_environment(tmp_path: Path) -> None:
    data = json.loads(shipped()["release-pairs"].read_text())
    data["how"]["test_env_freeze"] = ["pytest==8.3.5"]
    data["pairs"] = data["pairs"][:2]
    (tmp_path / "mine.json").write_text(json.dumps(data))
    first, second = load_tasks(tmp_path / "mine.json")
    assert first.instance_id != second.instance_id
    found = pair_of(first)
    assert found is not None and found.environment == ("pytest==8.3.5",)
