"""Recordings, endpoints, and pairs of settings that cannot work."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from agent.chat import ByteTokenizer, Chat
from agent.policy import Message, Policy, PolicyError, Sampled
from agent.store import Store
from agent.trajectory import End, Facts, Key, Trajectory, Turn
from trainers.config import Correction, LossConfig, ModelConfig, OptimConfig
from trainers.engine_config import EngineConfig, OpenAIConfig, RecordedConfig
from trainers.engines.double import Double
from trainers.engines.http import ServerError
from trainers.engines.openai import OpenAIEngine, messages
from trainers.engines.pairs import check_sampling, check_training
from trainers.engines.recorded import RecordedEngine, Recording
from trainers.errors import TrainingError
from trainers.loop_config import TrainConfig
from trainers.sampler import sampler

CHAT = Chat(ByteTokenizer())
OPENING = CHAT.open([Message(role="system", text="You count."), Message(role="user", text="1 <|im_end|> 2")])


@pytest.fixture
def server() -> Iterator[Double]:
    with Double() as running:
        yield running


def key(sample: int = 0) -> Key:
    return Key(seed=0, step=-1, prompt=0, sample=sample)


def ask(policy: Policy, context: tuple[int, ...] = OPENING, turn: int = 0, tokens: int = 9) -> Sampled:
    return asyncio.run(policy.sample(context, key(), turn, tokens))


# -- endpoints


def endpoint(server: Double, **changes: Any) -> OpenAIEngine:
    config = OpenAIConfig.model_validate({"url": f"{server.url}/v1", "model": "big", "request_s": 5} | changes)
    return OpenAIEngine(config, CHAT, first_s=0.01)


def test_an_endpoint_sees_the_messages_that_the_context_was_made_of(server: Double) -> None:
    seen: list[list[dict[str, str]]] = []
    server.answer = lambda said: seen.append(said) or "three"
    policy = endpoint(server).policy(temperature=0.5)
    first = ask(policy)
    context = (*OPENING, *first.ids, *policy.reply([Message(role="user", text="and?")], first.cut))
    ask(policy, context, turn=1)
    opening = [{"role": "system", "content": "You count."}, {"role": "user", "content": "1 <|im_end|> 2"}]
    answered = [{"role": "assistant", "content": "three"}, {"role": "user", "content": "and?"}]
    assert seen == [opening, opening + answered]


def test_an_answer_of_an_endpoint_has_no_log_probabilities(server: Double) -> None:
    server.answer = lambda _: "one two three"
    whole, cut = (ask(endpoint(server).policy(temperature=0.0), tokens=n) for n in (9, 2))
    assert (whole.text, whole.cut, cut.text, cut.cut) == ("one two three", False, "one two", True)
    assert whole.ids == CHAT.answer("one two three") and all(math.isnan(x) for x in whole.logprobs)


def test_a_busy_endpoint_is_asked_again_and_a_refusal_is_not(server: Double) -> None:
    server.faults.busy = 3
    assert ask(endpoint(server).policy(temperature=0.0)).text == "as you say"
    assert len(server.calls) == 4
    server.faults.absent = frozenset({"/v1/chat/completions"})
    with pytest.raises(ServerError, match="status 404"):
        ask(endpoint(server).policy(temperature=0.0))
    assert len(server.calls) == 5


def test_text_that_spells_a_control_token_stays_text() -> None:
    assert messages(CHAT, OPENING)[1]["content"] == "1 <|im_end|> 2"


# -- recordings


def test_what_was_recorded_is_played_back(server: Double, tmp_path: Path) -> None:
    live = Recording(endpoint(server), tmp_path / "samples.jsonl")
    server.answer = lambda said: f"{len(said)} messages"
    first = ask(live.policy(temperature=0.7))
    back = ask(RecordedEngine(tmp_path / "samples.jsonl", CHAT).policy(temperature=0.0))
    assert (back.ids, back.text, back.cut) == (first.ids, first.text, first.cut)
    assert all(math.isnan(x) for x in back.logprobs)


def test_stored_trajectories_are_recordings_across_forks(tmp_path: Path) -> None:
    facts = Facts(format_ok=True, tool_ok=True)
    turns = (
        Turn(prompt=OPENING, sampled=(5, 6), logprobs=(-1.0, -2.0), text="a", facts=facts),
        Turn(prompt=(7,), sampled=(8,), logprobs=(-0.5,), text="b", facts=facts),
        Turn(prompt=(1, 2, 3), sampled=(9,), logprobs=(-0.1,), text="c", fork=True, facts=facts),
    )
    Store(tmp_path / "trajectories.jsonl").append(
        Trajectory(task="t", key=key(), policy="p", turns=turns, end=End.TURNS)
    )
    policy = RecordedEngine(tmp_path, CHAT).policy(temperature=0.0)
    contexts = [OPENING, (*OPENING, 5, 6, 7), (1, 2, 3)]
    assert [ask(policy, context, i).text for i, context in enumerate(contexts)] == ["a", "b", "c"]
    with pytest.raises(PolicyError, match="turn 1 of episode 0--1-0-0 drifted"):
        ask(policy, (*OPENING, 5, 7, 7), 1)
    with pytest.raises(PolicyError, match="nothing was recorded for turn 3"):
        ask(policy, OPENING, 3)


@pytest.mark.parametrize("content", [None, "no json\n", '{"key": 1, "context": ""}\n'])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "samples.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TrainingError, match=r"engine.path = .*samples.jsonl"):
        RecordedEngine(path, CHAT)


def test_a_machine_that_only_samples_refuses_to_learn_and_to_load(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("")
    made = sampler(RecordedConfig(path=tmp_path / "samples.jsonl"), ModelConfig(name="tiny"))
    for refused in (made.learner.update, made.learner.imitate):
        with pytest.raises(TrainingError, match="holds no weights of ours"):
            refused([])
    with pytest.raises(TrainingError, match="--policy model"):
        made.learner.load(tmp_path)


def test_an_endpoint_that_is_not_there_is_refused_before_any_episode() -> None:
    with Double() as server:
        given = OpenAIConfig(url=server.url + "/v1", model="x")
        sampler(given, ModelConfig(name="tiny"))
    with pytest.raises(ServerError, match=r"the endpoint at .* cannot be reached \(.*\); is it running\?"):
        sampler(given, ModelConfig(name="tiny"))


# -- impossible pairs

VLLM = {"kind": "vllm", "url": "http://localhost:1"}


def engine(**values: Any) -> EngineConfig:
    return TypeAdapter[EngineConfig](EngineConfig).validate_python(values)


@pytest.mark.parametrize(
    ("values", "optim", "loss", "train", "says"),
    [
        ({"kind": "openai", "url": "http://x/v1", "model": "m"}, {}, {}, {}, "'openai' cannot train"),
        ({"kind": "recorded", "path": "runs/a"}, {}, {}, {}, "'recorded' cannot train"),
        ({"kind": "vllm", "python": "/nowhere/python"}, {}, {}, {}, "no environment with vLLM"),
        (VLLM | {"sync": "lora"}, {}, {}, {}, "optim.lora is unset"),
        (VLLM | {"top_p": 0.9}, {}, {"correction": Correction()}, {}, "importance correction"),
        (VLLM | {"top_k": 50}, {}, {}, {}, "ratios compare with the whole"),
        (VLLM | {"sync": "transfer", "backend": "nccl"}, {"lora": 8}, {}, {}, "set engine.sync to 'lora'"),
        (VLLM | {"share": True, "pause": "wait"}, {}, {}, {"mode": "async"}, "'async' samples then"),
    ],
)
def test_a_pair_that_cannot_train_is_refused_with_the_way_out(
    values: dict[str, Any], optim: dict[str, Any], loss: dict[str, Any], train: dict[str, Any], says: str
) -> None:
    with pytest.raises(TrainingError, match=says) as seen:
        check_training(
            engine(**values),
            ModelConfig(),
            OptimConfig.model_validate(optim),
            LossConfig.model_validate(loss),
            TrainConfig.model_validate(train),
        )
    assert "set " in str(seen.value) or "use " in str(seen.value) or "install" in str(seen.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (VLLM | {"flags": ["--x"]}, "engine.url names one that runs"),
        (VLLM | {"backend": "nccl"}, "set engine.sync to 'transfer'"),
        (VLLM | {"share": True}, "set engine.pause to 'wait'"),
        ({"kind": "vllm", "url": "localhost:8000"}, "String should match pattern"),
        ({"kind": "vlm"}, "'transformers', 'vllm', 'openai', 'recorded'"),
    ],
)
def test_settings_that_exclude_each_other_are_refused_when_they_are_read(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        engine(**values)


def test_a_server_cannot_be_started_on_a_model_without_a_folder() -> None:
    with pytest.raises(TrainingError, match=r"engine\.url"):
        check_sampling(engine(kind="vllm"), ModelConfig(name="tiny"))


def test_the_usual_engine_trains_and_so_does_a_server() -> None:
    for values in ({"kind": "transformers"}, VLLM, VLLM | {"sync": "lora"}):
        check_training(
            engine(**values), ModelConfig(), OptimConfig(lora=8), LossConfig(), TrainConfig.model_validate({})
        )
