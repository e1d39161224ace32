"""Real episodes under the limits of a run: the scaffold, sandboxes in memory, a language model's engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.doubles import ExactGrader, Shelf
from agent.policy import Policy
from agent.scripted import scripted
from agent.store import Store
from agent.trajectory import Key, Outcome, Trajectory
from sandbox.grading.diff import diff
from sandbox.grading.tree import Entry, write_tree
from sandbox.memory import MemoryBackend, MemorySandbox
from sandbox.protocol import Backend, Spec
from sandbox.task import Prepared, Status, Task, Verdict
from trainers.engines.transformers import TransformersEngine
from trainers.loop_config import TrainConfig
from trainers.model.load import tiny
from trainers.rollout.player import BoundedGrader, BoundedStarts, EpisodePlayer, player
from trainers.rollout.scheduler import Request, Scheduler
from trainers.rollout.shelf import Shelf as StoredShelf

FAULTY = "def clamp(x, low, high):\n    return max(low, max(x, high))\n"
AGENT = AgentConfig(prompt="compact", max_turns=3, max_tokens=24, format_errors=3, diagnostics=False)


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    before, after = ({"core.py": Entry("f", text.encode())} for text in (FAULTY, FAULTY.replace("max(x", "min(x")))
    write_tree(before, tmp_path / "base")
    (tmp_path / "tests").mkdir()
    task = Task(
        instance_id="clamp",
        repo="pack",
        base_commit="0" * 40,
        problem_statement="`clamp` in core.py is wrong.",
        patch=diff(before, after),
        FAIL_TO_PASS=("t",),
        PASS_TO_PASS=(),
        focus="core.py::clamp",
    )
    return Prepared(task=task, base=tmp_path / "base", tests=tmp_path / "tests", site=tmp_path / "tests")


@pytest.fixture
def backend() -> Iterator[MemoryBackend]:
    found = MemoryBackend()
    yield found
    asyncio.run(found.close())


class Failing:
    """A grader whose infrastructure fails so many times."""

    def __init__(self, times: int) -> None:
        self.left, self.calls, self.inner = times, 0, ExactGrader()

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
        self.calls += 1
        if self.left:
            self.left -= 1
            return Verdict(status=Status.INFRA, detail="the grading sandbox died")
        return await self.inner(prepared, patch)


def gold(prepared: Prepared) -> Policy:
    return scripted("gold", prepared, AGENT.model_copy(update={"max_tokens": 2000}))


def episode(made: EpisodePlayer, prepared: Prepared, policy: Policy, told: list[str]) -> Trajectory:
    key = Key(seed=0, step=0, prompt=0, sample=0)
    return asyncio.run(made.play(prepared.task, policy, key, lambda: told.append("sampled")))


def build(backend: Backend, prepared: Prepared, grader: Failing | ExactGrader) -> EpisodePlayer:
    settings = AGENT.model_copy(update={"max_tokens": 2000})
    return player(settings, backend, Shelf((prepared,)), grader, starts=1, graders=1)


def test_a_grading_that_infrastructure_ended_is_made_again(prepared: Prepared, backend: MemoryBackend) -> None:
    grader = Failing(1)
    found = episode(build(backend, prepared, grader), prepared, gold(prepared), [])
    assert found.outcome is Outcome.TESTS_PASS and grader.calls == 2


def test_a_grader_that_never_works_makes_the_episode_infrastructure(prepared: Prepared, backend: MemoryBackend) -> None:
    found = episode(build(backend, prepared, Failing(99)), prepared, gold(prepared), [])
    assert found.outcome is Outcome.INFRA


def test_the_scheduler_is_told_before_the_grading_that_the_episode_samples_no_more(
    prepared: Prepared, backend: MemoryBackend
) -> None:
    told: list[str] = []

    class Noting(ExactGrader):
        async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
            told.append("graded")
            return await super().__call__(prepared, patch)

    episode(build(backend, prepared, Noting()), prepared, gold(prepared), told)
    assert told == ["sampled", "graded"]


class SlowStart(MemoryBackend):
    starting = 0
    most = 0

    async def open(self, spec: Spec) -> MemorySandbox:
        self.starting += 1
        self.most = max(self.most, self.starting)
        await asyncio.sleep(0.01)
        self.starting -= 1
        return await super().open(spec)


def test_sandboxes_that_start_together_are_bounded(prepared: Prepared) -> None:
    async def burst() -> int:
        slow = SlowStart()
        bounded = BoundedStarts(slow, 2)
        await asyncio.gather(*(bounded.open(Spec(tree=prepared.base)) for _ in range(6)))
        await bounded.close()
        return slow.most

    assert asyncio.run(burst()) == 2


def test_gradings_at_the_same_time_are_bounded(prepared: Prepared) -> None:
    class Counting(ExactGrader):
        now = 0
        most = 0

        async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.005)
            self.now -= 1
            return await super().__call__(prepared, patch)

    counting = Counting()

    async def burst() -> None:
        bounded = BoundedGrader(counting, 2)
        await asyncio.gather(*(bounded(prepared, f"patch {i}") for i in range(6)))

    asyncio.run(burst())
    assert counting.most == 2


class Silent:
    def started(self, key: Key) -> None:
        pass

    def finished(self, trajectory: Trajectory) -> None:
        pass


def group(path: Path, prepared: Prepared, backend: MemoryBackend) -> list[Trajectory]:
    engine = TransformersEngine(tiny(3))
    made = player(AGENT, backend, Shelf((prepared,)), ExactGrader(), starts=2, graders=2)
    scheduler = Scheduler(made, TrainConfig(group=4, wave=4), Silent())
    wanted = [Request(prepared.task, Key(seed=1, step=0, prompt=i, sample=s)) for i in range(2) for s in range(4)]
    try:
        return asyncio.run(scheduler.play(wanted, StoredShelf(path), lambda n: engine.wave(n, 1.0), 4))
    finally:
        engine.close()


def test_a_language_model_samples_the_same_again_in_a_resumed_wave(
    tmp_path: Path, prepared: Prepared, backend: MemoryBackend
) -> None:
    calm = group(tmp_path / "calm.jsonl", prepared, backend)
    assert all(t.outcome is Outcome.NO_SUBMIT and len(t.turns) == 3 for t in calm)
    torn = Store(tmp_path / "torn.jsonl")
    for trajectory in (calm[0], calm[2], calm[5]):
        torn.append(trajectory)
    assert group(torn.path, prepared, backend) == calm
