"""Learning from stored trajectories."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.policy import Sampled
from agent.store import Store
from agent.trajectory import Key, Outcome, Trajectory
from dojo.config import Config
from dojo.errors import UserError
from dojo.sft import sft
from trainers.config import SftConfig
from trainers.doubles import episode, tasks
from trainers.errors import TrainingError
from trainers.learning.imitate import check, choose, imitate
from trainers.learning.learner import TransformersLearner
from trainers.model.load import tiny


def played(task: int, sample: int, *, solved: bool = True, length: int = 4) -> Trajectory:
    key = Key(seed=0, step=0, prompt=task, sample=sample)
    ids = tuple(100 + task + i for i in range(length))
    return episode(
        tasks([f"t{task}"])[0],
        key,
        "double",
        [Sampled(ids=ids, logprobs=(-1.0,) * length, text="", cut=False)],
        solved=solved,
    )


EPISODES = [played(t, s, solved=s != 2, length=3 + s) for t in range(3) for s in range(4)]


def test_the_shortest_resolved_episodes_of_each_task_are_chosen_once() -> None:
    found = choose([*EPISODES, *EPISODES], per_task=2)
    assert [(t.task, t.key.sample) for t in found] == [(f"t{i}", s) for i in range(3) for s in (0, 1)]
    failed = choose(EPISODES, [Outcome.TESTS_FAIL])
    assert [t.key.sample for t in failed] == [2, 2, 2]


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(TrainingError, match="none of the trajectories has the wanted outcome"):
        check(choose(EPISODES, [Outcome.NO_SUBMIT]), 258)
    with pytest.raises(TrainingError, match="another tokenizer"):
        check(choose(EPISODES), 50)


def test_imitation_makes_the_chosen_tokens_likely() -> None:
    config = Config.model_validate({"optim": {"layers": 4}, "sft": {"examples": 96, "lr": 3e-3, "batch": 6}})
    learner = TransformersLearner(tiny(0), config.optim, config.loss, config.sft, 1.0)
    losses = imitate(learner, choose(EPISODES), config.sft, 0, lambda _: None)
    assert len(losses) == 16 and losses[-1] < losses[0] / 2


def test_dojo_sft_leaves_weights_and_refuses_a_folder_in_use(tmp_path: Path) -> None:
    file = Store(tmp_path / "t.jsonl")
    for one in EPISODES:
        file.append(one)
    config = Config.model_validate(
        {"model": {"name": "tiny"}, "optim": {"layers": 2}, "sft": SftConfig(examples=8, batch=4).model_dump()}
    )
    sft(config, [file.path], ["tests_pass"], 4, tmp_path / "out")
    assert (tmp_path / "out/weights.safetensors").is_file()
    with pytest.raises(UserError, match="already in use"):
        sft(config, [file.path], ["tests_pass"], 4, tmp_path / "out")
    with pytest.raises(UserError, match="no run folder or trajectory file"):
        sft(config, [tmp_path / "none"], ["tests_pass"], 4, tmp_path / "other")
