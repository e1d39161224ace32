"""Whole runs of the game in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from agent.store import Store
from agent.trajectory import Key, Outcome
from sandbox.task import Task
from trainers.components import Components
from trainers.doubles import Game, TableEngine, components
from trainers.errors import TrainingError
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.record.metrics import read

QUIET = Console(quiet=True)


def settings(steps: int | None = 3, seed: int = 1, **train_settings: Any) -> Settings:
    given = {"steps": steps, "minutes": None, "prompts": 3, "group": 4, "wave": 8, **train_settings}
    evaluation = EvalConfig(samples=4, wave=8)
    return Settings(seed, TrainConfig.model_validate(given), evaluation, f"seed = {seed}\n", picture=False)


def run(folder: Path, parts: Components, config: Settings, resume: bool = False) -> dict[str, Any]:
    return train(parts, config, folder, resume, QUIET)


def grpo(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read(folder / "metrics.jsonl") if record["kind"] == "grpo"]


def test_training_raises_the_resolve_rate_of_tasks_it_never_saw(tmp_path: Path) -> None:
    found = run(tmp_path / "run", components(train=12, heldout=8), settings(steps=25))
    rates = {stage: result["rates"]["tests_pass"]["value"] for stage, result in found["evaluations"].items()}
    assert rates["after"] > rates["before"] + 0.3
    assert found["resolve_differences"]["after - before"]["low"] > 0
    assert "rose" in found["finding"] and "beyond its 95 % interval" in found["finding"]


def test_every_evaluation_plays_the_same_tasks_with_the_same_keys(tmp_path: Path) -> None:
    run(tmp_path / "run", components(), settings())
    keys = [
        [
            (t.task, t.key)
            for t in sorted(Store(tmp_path / "run" / f"evals-{stage}.jsonl").read(), key=lambda t: str(t.key))
        ]
        for stage in ("before", "warm", "after")
    ]
    assert keys[0] == keys[1] == keys[2] and len(keys[0]) == 16
    trained = {t.task for t in Store(tmp_path / "run" / "trajectories.jsonl").read()}
    assert not trained & {task for task, _ in keys[0]}


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / name, components(), settings(seed=seed))
    stored = {n: {t.digest for t in Store(tmp_path / n / "trajectories.jsonl").read()} for n in "abc"}
    assert stored["a"] == stored["b"] != stored["c"]


def test_steps_consume_the_frozen_order_without_a_gap(tmp_path: Path) -> None:
    run(tmp_path / "run", components(train=5), settings(steps=4))
    assert [p for record in grpo(tmp_path / "run") for p in record["prompts"]] == list(range(12))


def test_infrastructure_failures_are_masked_counted_and_never_a_zero(tmp_path: Path) -> None:
    game = Game(broken=lambda task, key: key.step >= 0 and key.sample == 0)
    found = run(tmp_path / "run", components(game=game), settings(steps=2))
    for record in grpo(tmp_path / "run"):
        assert record["outcomes"]["infra"] == 3 and record["rates"]["infra"] == 0.25
        assert sum(rate for name, rate in record["rates"].items() if name != "infra") == pytest.approx(1)
    assert found["training"]["rates"]["infra"] == 0.25
    whole = components(game=Game())
    run(tmp_path / "whole", whole, settings(steps=2))
    first, other = grpo(tmp_path / "run")[0], grpo(tmp_path / "whole")[0]
    assert first["reward"] * 9 == pytest.approx(other["reward"] * 12 - _worth(tmp_path / "whole"))


def _worth(folder: Path) -> float:
    """What the episodes that the other run lost were worth in this one."""
    worth = {Outcome.NO_SUBMIT: 0, Outcome.EMPTY_PATCH: 1 / 3, Outcome.TESTS_FAIL: 2 / 3, Outcome.TESTS_PASS: 1}
    stored = Store(folder / "trajectories.jsonl").read()
    return sum(worth[t.outcome] for t in stored if t.key.step == 0 and t.key.sample == 0)


def test_dead_groups_are_counted_and_a_step_of_them_updates_nothing(tmp_path: Path) -> None:
    engine = TableEngine()
    engine.table.logits[-1][:] = [-60.0, 60.0]
    parts = components(engine=engine, batches=0)
    found = run(tmp_path / "run", parts, settings(steps=2))
    assert found["training"]["dead_share"] == 1.0 and found["training"]["updates"] == 0
    assert engine.version == 0


def test_tasks_without_contrast_rest_when_asked_to(tmp_path: Path) -> None:
    engine = TableEngine()
    engine.table.logits[-1][:] = [-60.0, 60.0]
    run(tmp_path / "run", components(train=3, engine=engine, batches=0), settings(steps=2, rest=1))
    assert [record["prompts"] for record in grpo(tmp_path / "run")] == [[0, 1, 2], [6, 7, 8]]


class Clock:
    """Every episode takes a second, nothing else takes any."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def tick(self, task: Task, key: Key) -> bool:
        self.now += 1.0
        return False


def budgeted(folder: Path, minutes: float) -> tuple[dict[str, Any], float]:
    """A run on that clock: 16 s an evaluation, 12 s a step."""
    clock = Clock()
    timed = replace(settings(steps=None, minutes=minutes), clock=clock)
    return run(folder, components(game=Game(broken=clock.tick)), timed), clock.now


def test_a_budget_fits_as_many_steps_as_leave_time_for_the_last_evaluation(tmp_path: Path) -> None:
    # 200 s less two evaluations, the reserve of 20 s and 1.1 evaluations: 130.4 s, ten steps and not eleven.
    found, seconds = budgeted(tmp_path / "run", 200 / 60)
    assert found["training"]["steps"] == 10
    assert seconds == 3 * 16 + 10 * 12 <= 200


def test_a_budget_too_small_for_any_step_still_makes_every_evaluation(tmp_path: Path) -> None:
    found, _ = budgeted(tmp_path / "run", 0.5)
    assert found["training"]["steps"] == 0 and found["warm_start_batches"] == 0
    assert set(found["evaluations"]) == {"before", "warm", "after"}


def test_time_used_before_an_interruption_counts(tmp_path: Path) -> None:
    clock = Clock()
    timed = replace(settings(steps=None, minutes=200 / 60), clock=clock)

    def tick(task: Task, key: Key) -> bool:
        clock.tick(task, key)
        return key.step >= 5

    with pytest.raises(TrainingError):
        run(tmp_path / "run", components(game=Game(broken=tick)), timed)
    found = run(tmp_path / "run", components(game=Game(broken=clock.tick)), timed, resume=True)
    assert found["training"]["steps"] == 10


def test_a_finished_run_that_is_resumed_gives_its_summary_again(tmp_path: Path) -> None:
    first = run(tmp_path / "run", components(), settings())
    game = Game()
    again = run(tmp_path / "run", components(game=game), settings(), resume=True)
    assert game.played == [] and again["evaluations"] == first["evaluations"]


def test_a_dead_sandbox_engine_is_one_sentence_and_the_run_resumes_when_it_is_back(tmp_path: Path) -> None:
    game = Game(broken=lambda task, key: key.step >= 1)
    with pytest.raises(TrainingError, match="12 of 12 episodes ended by infrastructure") as sentence:
        run(tmp_path / "run", components(game=game), settings(), resume=False)
    assert "\n" not in str(sentence.value)
    assert not (tmp_path / "run" / "summary.json").exists()
    run(tmp_path / "run", components(), settings(), resume=True)
    run(tmp_path / "calm", components(), settings())
    stored = [{t.digest for t in Store(tmp_path / n / "trajectories.jsonl").read()} for n in ("run", "calm")]
    assert stored[0] == stored[1]


def test_a_run_without_training_tasks_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no training task"):
        run(tmp_path / "run", components(train=0), settings())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"minutes": None}, "never end"),
        ({"wave": 12}, "whole groups"),
        ({"group": 1}, "greater than or equal to 2"),
        ({"promts": 3}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        TrainConfig.model_validate(given)


def test_the_log_holds_plain_lines_of_every_phase(tmp_path: Path) -> None:
    run(tmp_path / "run", components(), settings())
    log = (tmp_path / "run" / "log.txt").read_text()
    for words in ("evaluation before", "warm start: 4 of 4 batches", "step 3: reward", "report: "):
        assert words in log
    assert "\x1b" not in log
