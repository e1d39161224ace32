"""A whole run of a (tiny, random) language model: real episodes, real updates, interrupted and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.config import AgentConfig
from agent.demonstrate import demonstrate
from agent.doubles import ExactGrader, Shelf
from agent.policy import Policy
from agent.trajectory import Key, Trajectory
from rewards.credit import Credit
from sandbox.grading.diff import diff
from sandbox.grading.tree import Entry, write_tree
from sandbox.memory import MemoryBackend
from sandbox.task import Prepared, Task
from trainers.components import Components, WarmStart
from trainers.config import Distill, LossConfig, ModelConfig, OptimConfig, SftConfig
from trainers.doubles import OutcomeScorer
from trainers.engines.transformers import TransformersEngine
from trainers.learning.sft import Demonstrations, demonstration
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.machine import local_machine
from trainers.model.load import tiny
from trainers.record.metrics import read
from trainers.rollout.lessons import lessons
from trainers.rollout.player import EpisodePlayer, player

AGENT = AgentConfig(prompt="compact", max_turns=2, max_tokens=90, format_errors=2, diagnostics=False)
SFT = SftConfig(examples=4, batch=2)
SETTINGS = Settings(
    seed=3,
    train=TrainConfig(steps=3, minutes=None, prompts=2, group=2, wave=4, checkpoint_every=2),
    evaluation=EvalConfig(stages=("after",), samples=1, wave=1),
    text="seed = 3\n",
    picture=False,
)


class Interrupted(BaseException):
    """Stands for whatever takes a process down without a word."""


class Fragile:
    """Plays on until an episode of a step begins, and dies there."""

    def __init__(self, inner: EpisodePlayer, dies: Callable[[Key], bool]) -> None:
        self.inner, self.dies = inner, dies

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        found = await self.inner.play(task, policy, key, sampled)
        if self.dies(key):
            raise Interrupted
        return found

    async def close(self) -> None:
        await self.inner.close()


class Parity:
    """Likes even tokens: contrast that even a random model has."""

    def score(self, group: Sequence[Trajectory]) -> Credit:
        returns = [float(sum(i % 2 == 0 for turn in t.turns for i in turn.sampled)) for t in group]
        advantages = tuple(r - sum(returns) / len(returns) for r in returns)
        return Credit(
            returns=tuple(returns),
            valid=(True,) * len(group),
            trajectory=advantages,
            turns=tuple((a,) * len(t.turns) for a, t in zip(advantages, group, strict=True)),
        )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, ...]:
    return tuple(_prepared(tmp_path_factory.mktemp("tree"), name) for name in ("low", "high"))


def _prepared(folder: Path, name: str) -> Prepared:
    faulty = f"def {name}(x, y):\n    return max(x, min(x, y))\n"
    before, after = ({"m.py": Entry("f", text.encode())} for text in (faulty, faulty.replace("min(x", "max(x")))
    write_tree(before, folder / "base")
    task = Task(
        instance_id=name,
        repo="pack",
        base_commit="0" * 40,
        problem_statement=f"`{name}` in m.py is wrong.",
        patch=diff(before, after),
        FAIL_TO_PASS=("t",),
        PASS_TO_PASS=(),
        focus=f"m.py::{name}",
    )
    return Prepared(task=task, base=folder / "base", tests=folder, site=folder)


def parts(prepared: tuple[Prepared, ...], dies: Callable[[Key], bool]) -> Components:
    def warm_start() -> WarmStart:
        chat = TransformersEngine(tiny()).chat
        played = asyncio.run(demonstrate(prepared, AGENT, chat))
        assert len(played) == len(prepared)
        return Demonstrations([demonstration(one) for one in played], SFT)

    shown = warm_start()
    inner = player(AGENT, MemoryBackend(), Shelf(prepared), ExactGrader(), starts=2, graders=2)
    return Components(
        train=[one.task for one in prepared],
        heldout=[prepared[0].task],
        player=Fragile(inner, dies),
        scorer=Parity(),
        machine=lambda: local_machine(ModelConfig(name="tiny"), OptimConfig(layers=2, lr=1e-3), LossConfig(), SFT),
        warm_start=lambda: shown,
    )


def run(folder: Path, prepared: tuple[Prepared, ...], dies: Callable[[Key], bool] = lambda _: False) -> dict[str, Any]:
    resume = (folder / "config.toml").exists()
    return train(parts(prepared, dies), SETTINGS, folder, resume, Console(quiet=True))


def test_an_interrupted_run_of_a_model_ends_bit_for_bit_as_one_that_was_not(
    tmp_path: Path, prepared: tuple[Prepared, ...]
) -> None:
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    found = run(calm, prepared)
    assert found["training"]["updates"] == 3 and found["warm_start_batches"] == 2
    for step in (0, 2):
        with pytest.raises(BaseException) as seen:
            run(torn, prepared, lambda key, step=step: key.step == step and key.sample == 1)
        assert Interrupted in _kinds(seen.value)
    run(torn, prepared)
    steady = [[{k: v for k, v in r.items() if k != "timing"} for r in read(f / "metrics.jsonl")] for f in (calm, torn)]
    assert steady[0] == steady[1]
    assert _weights(calm) == _weights(torn)


def test_a_model_learns_while_its_episodes_stay_in_flight(tmp_path: Path, prepared: tuple[Prepared, ...]) -> None:
    given = {**SETTINGS.train.model_dump(exclude_none=True), "mode": "async", "staleness": 2, "steps": 4, "wave": 8}
    flying = replace(SETTINGS, train=TrainConfig.model_validate(given))
    found = train(parts(prepared, lambda _: False), flying, tmp_path / "run", False, Console(quiet=True))
    steps = [record for record in read(tmp_path / "run/metrics.jsonl") if record["kind"] == "grpo"]
    assert found["training"]["updates"] == len(steps) == 4
    assert all(step["staleness"]["max"] <= 2 for step in steps)
    assert any(step["staleness"]["max"] > 0 for step in steps), "nothing was in flight over an update"


def test_a_model_learns_from_feedback_where_no_reward_tells_episodes_apart(
    tmp_path: Path, prepared: tuple[Prepared, ...]
) -> None:
    loss = LossConfig(distill=Distill())
    made = replace(
        parts(prepared, lambda _: False),
        scorer=OutcomeScorer(),
        machine=lambda: local_machine(ModelConfig(name="tiny"), OptimConfig(layers=2, lr=1e-3), loss, SFT),
        lessons=lessons,
    )
    train(made, SETTINGS, tmp_path / "run", False, Console(quiet=True))
    steps = [record for record in read(tmp_path / "run/metrics.jsonl") if record["kind"] == "grpo"]
    assert [step["dead_share"] for step in steps] == [1.0] * 3, "a random model submits nothing"
    assert all(step["learner"]["taught_share"] == 1.0 and step["learner"]["grad_norm"] > 0 for step in steps)


def _kinds(error: BaseException) -> set[type[BaseException]]:
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return {type(error)}.union(*(_kinds(one) for one in inner))


def _weights(folder: Path) -> dict[str, bytes]:
    newest = max((folder / "checkpoints").iterdir())
    return {path.name: path.read_bytes() for path in newest.iterdir() if path.name != "state.json"}
