"""Waves, the shelf, and what ends by infrastructure, on the game in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.policy import Policy, PolicyError
from agent.store import Store
from agent.trajectory import Key, Outcome, Trajectory
from sandbox.task import Failure, Task
from trainers.doubles import Game, OutcomeScorer, TableEngine, tasks
from trainers.errors import TrainingError
from trainers.learning.rows import dead, rows
from trainers.loop_config import TrainConfig
from trainers.rollout.scheduler import Request, Scheduler
from trainers.rollout.shelf import Shelf

TASKS = tasks([f"t{i}" for i in range(4)])


class Log:
    """Watches, and remembers what was on disk when it was told."""

    def __init__(self, path: Path) -> None:
        self.path, self.stored, self.keys = path, [], []

    def started(self, key: Key) -> None:
        pass

    def finished(self, trajectory: Trajectory) -> None:
        self.keys.append(trajectory.key)
        self.stored.append(trajectory.key in {t.key for t in Store(self.path).read()})


def requests(samples: int = 4, step: int = 0) -> list[Request]:
    return [
        Request(task, Key(seed=0, step=step, prompt=i, sample=s))
        for i, task in enumerate(TASKS)
        for s in range(samples)
    ]


def play(
    path: Path, game: Game, engine: TableEngine, wanted: list[Request], size: int = 4, **config: float
) -> tuple[list[Trajectory], Log]:
    log = Log(path)
    settings = TrainConfig.model_validate({"group": 4, "wave": 4, **config})
    scheduler = Scheduler(game, settings, log)
    found = asyncio.run(scheduler.play(wanted, Shelf(path), lambda n: engine.wave(n, 1.0), size))
    return found, log


def test_trajectories_come_back_in_the_order_of_their_requests(tmp_path: Path) -> None:
    found, _ = play(tmp_path / "t.jsonl", Game(), TableEngine(), requests())
    assert [t.key for t in found] == [request.key for request in requests()]
    assert [t.task for t in found] == [request.task.instance_id for request in requests()]


def test_a_trajectory_is_on_disk_before_it_is_counted(tmp_path: Path) -> None:
    _, log = play(tmp_path / "t.jsonl", Game(), TableEngine(), requests())
    assert len(log.stored) == 16 and all(log.stored)


def test_stored_episodes_are_read_back_and_not_played_again(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    first, _ = play(path, Game(), TableEngine(), requests())
    again = Game()
    second, log = play(path, again, TableEngine(), requests())
    assert second == first and again.played == [] and len(log.keys) == 16


def test_a_resumed_wave_makes_the_batches_that_it_made_before(tmp_path: Path) -> None:
    whole, engine = TableEngine(batch_effect=1e-3), TableEngine(batch_effect=1e-3)
    calm, _ = play(tmp_path / "calm.jsonl", Game(), whole, requests(), waves=1)
    torn = Store(tmp_path / "torn.jsonl")
    for trajectory in calm[:6]:
        torn.append(trajectory)
    game = Game()
    resumed, _ = play(torn.path, game, engine, requests(), waves=1)
    assert resumed == calm
    assert engine.batches == whole.batches[2:]
    assert len(game.played) == 10


def test_batches_depend_on_the_requests_and_not_on_timing(tmp_path: Path) -> None:
    seen = []
    for name, pause in (("a", 0.0), ("b", 0.004)):
        engine = TableEngine()
        play(tmp_path / f"{name}.jsonl", Game(turn_s=pause), engine, requests(), waves=3)
        seen.append(sorted(engine.batches))
    assert seen[0] == seen[1]


class Counting(Game):
    """Counts the episodes that hold a sandbox, and grades slowly."""

    live = 0
    most = 0
    grading = 0
    overlapped = 0

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        self.live += 1
        self.most = max(self.most, self.live)
        self.overlapped += self.grading > 0

        def told() -> None:
            self.live -= 1
            sampled()

        trajectory = await super().play(task, policy, key, told)
        self.grading += 1
        await asyncio.sleep(0.02)
        self.grading -= 1
        return trajectory


def test_live_episodes_are_bounded_and_grading_overlaps_with_the_next_wave(tmp_path: Path) -> None:
    game = Counting()
    play(tmp_path / "t.jsonl", game, TableEngine(), requests(), waves=2)
    assert game.most <= 8
    assert game.overlapped > 0


def broken(*keys: tuple[int, int]) -> Callable[[Task, Key], bool]:
    return lambda task, key: (key.prompt, key.sample) in keys


def test_infrastructure_is_kept_masked_and_earns_no_credit(tmp_path: Path) -> None:
    found, _ = play(tmp_path / "t.jsonl", Game(broken=broken((0, 1))), TableEngine(), requests())
    group = found[:4]
    assert group[1].outcome is Outcome.INFRA and group[1].failure is Failure.SANDBOX
    credit = OutcomeScorer().score(group)
    assert credit.valid == (True, False, True, True) and credit.turns[1] == (0.0,)
    assert not dead(credit)
    assert {row.rollout for row in rows(group, credit)} == {str(t.key) for t in group if t.key.sample != 1}


def test_too_much_infrastructure_stops_the_run_and_those_episodes_are_played_again(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    game = Game(broken=lambda task, key: key.sample != 0)
    with pytest.raises(TrainingError, match=r"12 of 16 episodes ended by infrastructure \(the sandbox died"):
        play(path, game, TableEngine(), requests(), max_infra=0.5)
    mended = Game()
    found, _ = play(path, mended, TableEngine(), requests())
    assert len(mended.played) == 12 and all(t.outcome is not Outcome.INFRA for t in found)


class Breaking(Game):
    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        if key.sample == 2:
            raise PolicyError("the server is gone")
        return await super().play(task, policy, key, sampled)


def test_what_a_player_raises_ends_the_batch_without_a_hang(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="the server is gone"):
        play(tmp_path / "t.jsonl", Breaking(), TableEngine(), requests())


def test_a_dead_group_gives_no_rows(tmp_path: Path) -> None:
    found, _ = play(tmp_path / "t.jsonl", Game(), TableEngine(), requests())
    group = [found[0]] * 4
    credit = OutcomeScorer().score(group)
    assert dead(credit) and rows(group, credit) == []


def test_only_sampled_tokens_carry_the_advantage_of_their_turn(tmp_path: Path) -> None:
    found, _ = play(tmp_path / "t.jsonl", Game(), TableEngine(), requests())
    group = found[:4]
    credit = OutcomeScorer().score(group)
    for row, turns in zip(rows(group, credit), credit.turns, strict=True):
        assert row.mask == (False, True, False, True)
        assert row.advantages == (0.0, turns[0], 0.0, turns[1])
        assert row.group == "0-0"
