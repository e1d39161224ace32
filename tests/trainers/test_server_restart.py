"""A server that belongs to the run and dies: started anew with the weights of the moment, so many times and no more."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from agent.chat import ByteTokenizer, Chat
from agent.policy import Message, Policy, PolicyError, Sampled
from agent.store import Store
from agent.trajectory import Key, Trajectory
from sandbox.task import Task
from trainers.components import Components, Machine
from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig
from trainers.doubles import Game, OutcomeScorer, tasks
from trainers.engine_config import VllmConfig
from trainers.engines.vllm import VllmEngine
from trainers.errors import TrainingError
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.record.metrics import read
from trainers.served import served_machine
from trainers.sync.publish import Publisher, SyncedLearner

ROOT = Path(__file__).parents[2]
OPENING = Chat(ByteTokenizer()).open([Message(role="user", text="2 + 2?")])
SCRIPT = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from trainers.engines.double import main
main(sys.argv[1:])
"""


def config(home: Path, **changes: object) -> VllmConfig:
    """An environment whose ``vllm`` is the double, and a server of it for each run."""
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / "vllm").write_text(SCRIPT)
    (home / "bin" / "vllm").chmod(0o755)
    given = {"python": home / "bin" / "python", "folder": home / "weights", "sync": "transfer", "sync_s": 20}
    return VllmConfig.model_validate({**given, "restarts": 2, **changes})


def machine(home: Path, **changes: object) -> Machine:
    optim = OptimConfig(layers=1)
    log = home / "vllm.log"
    return served_machine(
        config(home, **changes), ModelConfig(name="tiny"), optim, LossConfig(), SftConfig(), seed=1, log=log
    )


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Publisher]:
    made = machine(tmp_path)
    assert isinstance(made.learner, SyncedLearner)
    yield made.learner.publisher
    made.engine.close()


def kill(publisher: Publisher) -> None:
    assert publisher.keeper is not None
    os.killpg(publisher.keeper.server.process.pid, signal.SIGKILL)


async def drawn(engine: VllmEngine, tokens: int = 40, seed: int = 0) -> Sampled:
    key = Key(seed=seed, step=0, prompt=0, sample=0)
    return await engine.policy(temperature=1.0).sample(OPENING, key, 0, tokens)


def test_samples_in_flight_are_asked_for_again_and_come_from_the_weights_of_the_moment(started: Publisher) -> None:
    started.model.version = 3
    calm = asyncio.run(drawn(started.engine))
    assert calm.version == 3

    async def killed() -> list[Sampled]:
        asking = [asyncio.create_task(drawn(started.engine)) for _ in range(3)]
        await asyncio.sleep(0.1)
        kill(started)
        return await asyncio.gather(*asking)

    assert asyncio.run(killed()) == [calm] * 3
    assert started.restarts == 1, "three samples that were lost at once are one restart"


def test_an_update_that_finds_the_server_dead_gets_there_all_the_same(started: Publisher) -> None:
    asyncio.run(drawn(started.engine, 1))
    kill(started)
    started.model.version += 1
    started.publish()
    assert started.restarts == 1 and started.sent == 1
    assert asyncio.run(drawn(started.engine, 1)).version == 1


def test_a_server_that_keeps_dying_is_one_sentence(started: Publisher) -> None:
    for _ in range(2):
        kill(started)
        asyncio.run(drawn(started.engine, 1))
    kill(started)
    with pytest.raises(PolicyError, match=r"ended with code -9 and was started anew 2 times already \(engine.restarts"):
        asyncio.run(drawn(started.engine, 1))


class Deadly(Game):
    """The server dies in the middle of an episode."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.publisher = at, list[Publisher]()

    async def play(self, task: Task, policy: Policy, key: Key, *rest: object) -> Trajectory:
        if len(self.played) == self.at:
            kill(self.publisher[-1])
        return await super().play(task, policy, key, *rest)  # type: ignore[arg-type]


def run(home: Path, game: Deadly, resume: bool = False, **changes: object) -> list[int]:
    """The steps that a run made."""
    values = {"steps": 3, "minutes": None, "prompts": 2, "group": 2, "wave": 4}
    settings = Settings(3, TrainConfig.model_validate(values), EvalConfig(stages=()), "seed = 3\n", picture=False)

    def made() -> Machine:
        found = machine(home, **changes)
        assert isinstance(found.learner, SyncedLearner)
        game.publisher.append(found.learner.publisher)
        return found

    parts = Components(tasks([*"abcdef"]), [], game, OutcomeScorer(), made)
    train(parts, settings, home / "run", resume, Console(quiet=True))
    return [line["step"] for line in read(home / "run" / "metrics.jsonl") if line["kind"] == "grpo"]


def test_a_run_outlives_its_server(tmp_path: Path) -> None:
    game = Deadly(at=6)
    assert run(tmp_path, game) == [1, 2, 3]
    assert game.publisher[0].restarts == 1


def test_a_run_whose_server_is_not_started_anew_stops_in_one_sentence_and_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"ended with code -9.*--resume .*nothing finished is lost"):
        run(tmp_path, Deadly(at=6), restarts=0)
    stored = {trajectory.key for trajectory in Store(tmp_path / "run" / "trajectories.jsonl").read()}
    game = Deadly(at=10**6)
    assert run(tmp_path, game, resume=True, restarts=0) == [1, 2, 3]
    assert len(stored) >= 4 and not stored & set(game.played), "finished episodes were played again"
