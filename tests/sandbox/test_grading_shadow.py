"""Shadow grades: per-test vectors of trees on the way, one grading a tree, nothing earned by dishonest ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from toy_task import BUGGY, FIXED, make

from sandbox.grading.shadow import Shadow, ShadowGrader
from sandbox.grading.tree import Entry, Tree, manifest, read_tree
from sandbox.local import LocalBackend
from sandbox.protocol import Backend, Sandbox, SandboxError, Spec, tree_hash
from sandbox.task import Prepared


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


def with_text(toy: Prepared, text: str) -> Tree:
    return {**read_tree(toy.base), "toy/numbers.py": Entry("f", text.encode())}


BROKEN_HIGH = BUGGY.replace("if value > high:\n        return high", "if value > high:\n        return low")
LIES = FIXED + "\nimport _pytest\n"


def test_each_tree_gets_its_vector_and_an_equal_tree_is_graded_once(tmp_path: Path) -> None:
    toy = make(tmp_path)
    trees = [with_text(toy, text) for text in (BUGGY, BROKEN_HIGH, FIXED, FIXED, LIES)]

    async def play() -> tuple[list[Shadow], int]:
        backend = Counting(LocalBackend())
        try:
            grader = ShadowGrader(backend)
            return list(await asyncio.gather(*(grader.grade(toy, tree) for tree in trees))), backend.opened
        finally:
            await backend.close()

    shadows, opened = asyncio.run(play())
    assert [shadow.passed for shadow in shadows] == ["011", "001", "111", "111", "000"]
    assert shadows[0].tests == (*toy.task.FAIL_TO_PASS, *toy.task.PASS_TO_PASS)
    assert [shadow.tree for shadow in shadows] == [tree_hash(manifest(tree)) for tree in trees]
    assert shadows[4].verdict.flags == ("touches pytest",)
    assert opened == 4


class Refusing:
    name = "refusing"

    async def open(self, spec: Spec) -> Sandbox:
        raise SandboxError("no sandbox today")

    async def close(self) -> None: ...


def test_no_grade_is_no_zero(tmp_path: Path) -> None:
    toy = make(tmp_path)
    with pytest.raises(SandboxError, match="no sandbox today"):
        asyncio.run(ShadowGrader(Refusing()).grade(toy, with_text(toy, FIXED)))
