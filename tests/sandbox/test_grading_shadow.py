"""Shadow grades: per-test vectors of trees on the way, one grading a tree, nothing earned by dishonest ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from toy_task import BUGGY, FIXED, make, patch

from sandbox.grading.grade import GradeCache
from sandbox.grading.shadow import digits, listed
from sandbox.local import LocalBackend
from sandbox.protocol import Backend, Sandbox, SandboxError, Spec
from sandbox.task import Verdict


class Counting:
    """Counts the sandboxes that a backend opens."""

    name = "counting"

    def __init__(self, inner: Backend) -> None:
        self._inner, self.opened = inner, 0

    async def open(self, spec: Spec) -> Sandbox:
        self.opened += 1
        return await self._inner.open(spec)

    async def close(self) -> None:
        await self._inner.close()


BROKEN_HIGH = BUGGY.replace("if value > high:\n        return high", "if value > high:\n        return low")
LIES = FIXED + "\nimport _pytest\n"


def test_each_tree_gets_its_vector_and_an_equal_tree_is_graded_once(tmp_path: Path) -> None:
    toy = make(tmp_path)
    patches = [patch(toy.base, {"toy/numbers.py": text}) for text in (BUGGY, BROKEN_HIGH, FIXED, FIXED, LIES)]

    async def play() -> tuple[list[Verdict], int]:
        cache, backend = GradeCache(), Counting(LocalBackend())
        try:
            return list(await asyncio.gather(*(cache.grade(toy, text, backend) for text in patches))), backend.opened
        finally:
            await backend.close()

    verdicts, opened = asyncio.run(play())
    tests = listed(toy.task)
    assert tests == (*toy.task.FAIL_TO_PASS, *toy.task.PASS_TO_PASS)
    assert [digits(tests, verdict) for verdict in verdicts] == ["011", "001", "111", "111", "000"]
    assert verdicts[4].flags == ("touches pytest",) and all(verdicts[4].results.values())
    assert opened == 4


class Refusing:
    name = "refusing"

    async def open(self, spec: Spec) -> Sandbox:
        raise SandboxError("no sandbox today")

    async def close(self) -> None: ...


def test_no_grade_is_no_zero(tmp_path: Path) -> None:
    toy = make(tmp_path)
    verdict = asyncio.run(GradeCache().grade(toy, toy.task.patch, Refusing()))
    with pytest.raises(SandboxError, match="no sandbox today"):
        digits(listed(toy.task), verdict)
