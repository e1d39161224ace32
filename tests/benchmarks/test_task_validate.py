"""Validation grades both ends of a task with the real grader and says what is wrong with a bad one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from benchmarks.validate import validate
from sandbox.choose import choose
from sandbox.config import SandboxConfig
from sandbox.task import Prepared, Task, TaskError
from tests.sandbox import toy_task


class Folders:
    """A source that has its tasks' folders ready."""

    def __init__(self, *prepared: Prepared) -> None:
        self._prepared = {one.task.instance_id: one for one in prepared}

    def prepare(self, task: Task) -> Prepared:
        if task.instance_id not in self._prepared:
            raise TaskError(f"{task.instance_id} cannot be built")
        return self._prepared[task.instance_id]


def variant(prepared: Prepared, name: str, **changes: object) -> Prepared:
    return prepared.model_copy(update={"task": prepared.task.model_copy(update={"instance_id": name, **changes})})


def test_gold_grades_one_and_the_empty_patch_zero_or_the_task_is_reported(tmp_path: Path) -> None:
    good = toy_task.make(tmp_path)
    useless = variant(good, "useless", patch="")
    easy = variant(good, "easy", FAIL_TO_PASS=good.task.PASS_TO_PASS[:1], PASS_TO_PASS=good.task.PASS_TO_PASS[1:])
    leaky = variant(good, "leaky", hidden=("tests/test_visible.py",))
    lost = variant(good, "lost")
    more = variant(good, "more", PASS_TO_PASS=(*good.task.PASS_TO_PASS, "[100%]"))
    source = Folders(good, useless, easy, leaky, variant(good, "more"))
    tasks = [one.task for one in (good, useless, easy, leaky, lost, more)]
    backend, _ = choose(SandboxConfig.model_validate({"backend": "local", "unsafe_local": True}))

    async def run() -> dict[str, dict[str, Any]]:
        try:
            return {result["instance_id"]: result async for result in validate(tasks, source, backend)}
        finally:
            await backend.close()

    found = asyncio.run(run())
    assert {name: (result["gold"], result["empty"]) for name, result in found.items()} == {
        "toy-1": (1, 0),
        "useless": (0, 0),
        "easy": (1, 1),
        "leaky": (0, 0),
        "lost": (0, 0),
        "more": (1, 0),
    }
    assert (found["toy-1"]["left_out"], found["more"]["left_out"]) == (0, 1)
    assert found["more"]["detail"] == "1 listed tests are left out: [100%]"
    assert found["toy-1"]["detail"] == ""
    assert "test_visible.py lies in the base tree" in found["leaky"]["detail"]
    assert found["lost"]["detail"] == "lost cannot be built"
    assert "do not pass" in found["useless"]["detail"]
