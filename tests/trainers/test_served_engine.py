"""The client of a vLLM server against a double of it over a real socket, its faults included."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.chat import ByteTokenizer, Chat
from agent.policy import Message, PolicyError, Sampled
from agent.trajectory import End, Facts, Key, Trajectory, Turn
from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig
from trainers.engine_config import VllmConfig
from trainers.engines.double import MODEL, Double
from trainers.engines.http import Client, ServerError
from trainers.engines.vllm import VllmEngine
from trainers.engines.vllm_api import Api, Draw
from trainers.errors import TrainingError
from trainers.model.load import Model, tiny
from trainers.served import ADAPTER, served_machine
from trainers.sync.publish import Publisher, SyncedLearner

CHAT = Chat(ByteTokenizer())
OPENING = CHAT.open([Message(role="user", text="2 + 2?")])


@pytest.fixture
def server() -> Iterator[Double]:
    with Double() as running:
        yield running


def key(sample: int = 0) -> Key:
    return Key(seed=0, step=0, prompt=0, sample=sample)


def engine(server: Double, **changes: object) -> VllmEngine:
    config = VllmConfig.model_validate({"url": server.url, "request_s": 5, "sync_s": 5} | changes)
    return VllmEngine(Api(Client(server.url, config.request_s), config.sync_s), CHAT, config, "tiny", MODEL)


def sample(on: VllmEngine, temperature: float = 0.0, sample: int = 0, tokens: int = 12) -> Sampled:
    return asyncio.run(on.policy(temperature=temperature).sample(OPENING, key(sample), 0, tokens))


def machine(server: Double, tmp_path: Path, optim: OptimConfig | None = None, **changes: object) -> SyncedLearner:
    config = VllmConfig.model_validate(
        {"url": server.url, "request_s": 5, "sync_s": 5, "folder": tmp_path / "weights"} | changes
    )
    made = served_machine(
        config, ModelConfig(name="tiny"), optim or OptimConfig(layers=2), LossConfig(), SftConfig(), seed=1
    )
    assert isinstance(made.learner, SyncedLearner)
    return made.learner


def moved(learner: SyncedLearner, by: float) -> Publisher:
    """Weights that learned something, without learning."""
    import torch

    publisher = learner.publisher
    with torch.no_grad():
        for parameter in publisher.model.net.parameters():
            if parameter.requires_grad:
                parameter *= by  # powers of two: exact both ways
    publisher.model.version += 1
    return publisher


# -- samples


def test_a_sample_is_token_ids_with_the_log_probabilities_they_were_drawn_with(server: Double) -> None:
    got = sample(engine(server), temperature=0.7)
    ids = list(OPENING)
    for token, logprob in zip(got.ids, got.logprobs, strict=True):
        scaled = [x / 0.7 for x in server.brain.logits(ids, None)]
        assert logprob == pytest.approx(scaled[token] - math.log(sum(map(math.exp, scaled))), abs=1e-9)
        ids.append(token)


def test_a_request_draws_the_same_again_and_another_sample_another(server: Double) -> None:
    on = engine(server)
    assert sample(on, 1.0) == sample(on, 1.0)
    assert sample(on, 1.0).ids != sample(on, 1.0, sample=1).ids


def test_a_sample_that_reached_its_limit_is_cut_and_one_with_its_end_token_is_not(server: Double) -> None:
    assert sample(engine(server), tokens=3).cut
    found = [sample(engine(server), 5.0, i, 200) for i in range(20)]
    whole = [one for one in found if not one.cut]
    assert whole and all(one.ids[-1] == ByteTokenizer.im_end for one in whole)


def test_missing_log_probabilities_are_nan_and_counted(server: Double) -> None:
    server.faults.nan_every = 3
    on = engine(server)
    got = sample(on, 1.0, tokens=9)
    assert [math.isnan(x) for x in got.logprobs] == [i % 3 == 0 for i in range(len(got.ids))]
    assert on.missing == sum(math.isnan(x) for x in got.logprobs) > 0


def test_a_trajectory_with_unknown_log_probabilities_is_read_back_from_disk() -> None:
    turn = Turn(
        prompt=(1,), sampled=(2, 3), logprobs=(math.nan, -1.5), text="", facts=Facts(format_ok=True, tool_ok=True)
    )
    sealed = Trajectory(task="t", key=key(), policy="p", turns=(turn,), end=End.TURNS).seal()
    back = Trajectory.model_validate_json(sealed.model_dump_json())
    assert math.isnan(back.turns[0].logprobs[0]) and back.turns[0].logprobs[1] == -1.5
    assert back.seal().digest == sealed.digest


# -- faults


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"dead": True}, "cannot be reached"),
        ({"slow_s": 9.0}, "did not answer POST /inference/v1/generate within 0.2 s"),
        ({"garbage": True}, "not JSON"),
        ({"refused": frozenset({"/inference/v1/generate"})}, "status 500"),
        ({"absent": frozenset({"/inference/v1/generate"})}, "--enable-scale-out"),
    ],
)
def test_a_server_that_fails_is_one_sentence_and_the_call_returns(
    server: Double, fault: dict[str, object], says: str
) -> None:
    on = engine(server, request_s=0.2 if "slow_s" in fault else 5)
    for name, value in fault.items():
        setattr(server.faults, name, value)
    with pytest.raises(PolicyError, match=says) as seen:
        sample(on)
    assert server.url in str(seen.value) and "\n" not in str(seen.value)


def test_a_server_that_is_gone_is_one_sentence() -> None:
    with Double() as server:
        on = engine(server)
    with pytest.raises(PolicyError, match="is it running"):
        sample(on)


def test_a_server_whose_log_probabilities_are_of_another_distribution_is_refused_at_start(
    server: Double, tmp_path: Path
) -> None:
    server.faults.raw = True
    with pytest.raises(TrainingError, match="processed_logprobs"):
        machine(server, tmp_path)


def test_weights_that_this_run_never_sent_are_refused(server: Double, tmp_path: Path) -> None:
    learner = machine(server, tmp_path)
    on = learner.publisher.engine
    assert sample(on).version == 0
    server.faults.label = "default"
    with pytest.raises(PolicyError, match="never sent"):
        sample(on)


# -- weights


@pytest.mark.parametrize("way", ["file", "transfer"])
def test_greedy_output_changes_with_the_weights_and_returns_with_them(server: Double, tmp_path: Path, way: str) -> None:
    learner = machine(server, tmp_path, sync=way)
    first = sample(learner.publisher.engine)
    moved(learner, 2.0).publish()
    second = sample(learner.publisher.engine)
    moved(learner, 0.5).publish()
    third = sample(learner.publisher.engine)
    assert first.ids != second.ids and first.ids == third.ids
    assert [first.version, second.version, third.version] == [0, 1, 2]
    assert learner.publisher.fallbacks == 0
    assert ("/update_weights" in server.calls) == (way == "transfer")


def test_an_update_in_the_middle_of_a_sample_freezes_it_and_both_versions_show(server: Double, tmp_path: Path) -> None:
    learner = machine(server, tmp_path)
    on = learner.publisher.engine
    on.policy(temperature=0.0)
    server.token_s = 0.002

    async def both() -> Sampled:
        asked = asyncio.ensure_future(on.sample(OPENING, _draw(60)))
        while server.busy == 0:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(moved(learner, 2.0).publish)
        return await asked

    got = asyncio.run(both())
    assert got.version == 0 and len(got.ids) == 60
    assert [tokens for _, tokens in got.spans] and sum(tokens for _, tokens in got.spans) == 60
    assert [version for version, _ in got.spans] == [0, 1]


def test_a_transfer_that_fails_goes_by_disk_and_the_server_samples_on(server: Double, tmp_path: Path) -> None:
    learner = machine(server, tmp_path, sync="transfer")
    server.faults.refused = frozenset({"/update_weights"})
    before = sample(learner.publisher.engine)
    moved(learner, 2.0).publish()
    assert learner.publisher.fallbacks == 1
    assert sample(learner.publisher.engine).ids != before.ids


def test_an_update_that_fails_every_way_raises_and_leaves_the_server_running(server: Double, tmp_path: Path) -> None:
    learner = machine(server, tmp_path)
    on = learner.publisher.engine
    sample(on)
    server.faults.refused = frozenset({"/collective_rpc"})
    with pytest.raises(ServerError, match="v1 did not get to the server"):
        moved(learner, 2.0).publish()
    server.faults.refused = frozenset()
    assert asyncio.run(on.sample(OPENING, _draw(4))).version == 0


def test_a_server_that_keeps_old_weights_is_found_out(server: Double, tmp_path: Path) -> None:
    learner = machine(server, tmp_path)
    sample(learner.publisher.engine)
    server.faults.label = "0"
    with pytest.raises(ServerError, match="holds weights '0' instead of '1'"):
        moved(learner, 2.0).publish()


def test_adapters_are_loaded_again_while_the_server_runs(server: Double, tmp_path: Path) -> None:
    learner = machine(server, tmp_path, OptimConfig(layers=2, lora=4), sync="lora")
    on = learner.publisher.engine
    first = sample(on)
    moved(learner, 2.0).publish()
    second = sample(on)
    moved(learner, 0.5).publish()
    assert first.ids == sample(on).ids != second.ids
    assert server.models == [MODEL, ADAPTER] and "/collective_rpc" not in server.calls


def test_a_server_that_loads_no_adapters_is_refused_with_the_way_out(server: Double, tmp_path: Path) -> None:
    server.faults.absent = frozenset({"/v1/load_lora_adapter"})
    with pytest.raises(ServerError, match=r"has no /v1/load_lora_adapter; start it with .* --enable-lora"):
        machine(server, tmp_path, OptimConfig(layers=2, lora=4), sync="lora")


def test_a_server_on_the_same_gpu_sleeps_during_an_update_and_is_awake_for_the_next_sample(
    server: Double, tmp_path: Path
) -> None:
    learner = machine(server, tmp_path, share=True, pause="wait")
    sample(learner.publisher.engine)
    learner.publisher.rest()
    assert server.asleep
    moved(learner, 2.0).publish()
    assert not server.asleep and sample(learner.publisher.engine).version == 1
    learner.publisher.rest()
    learner.publisher.publish()
    assert not server.asleep and sample(learner.publisher.engine).version == 1


def test_exported_weights_are_those_of_the_network_with_adapters_merged(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from trainers.model.trainable import trainable
    from trainers.sync import export

    model, plain = tiny(1), tiny(1)
    trainable(model.net, OptimConfig(layers=1, lora=4))
    with torch.no_grad():
        for name, parameter in model.net.named_parameters():
            if ".lora_" in name:
                parameter += 0.1
    (tmp_path / "source").mkdir()
    folder = export.full(model, tmp_path / "source", tmp_path / "full")
    plain.net.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert torch.allclose(_logits(model), _logits(plain), atol=1e-5)
    assert not torch.allclose(_logits(tiny(1)), _logits(plain), atol=1e-3)


def _logits(model: Model) -> Any:
    import torch

    from trainers.model.attention import hidden
    from trainers.model.packing import Packed, pack

    line, blocks = pack([[list(OPENING)]])
    places = torch.arange(len(line))
    with torch.no_grad():
        return model.net.lm_head(hidden(model.net, torch.tensor(line), places, Packed(blocks), places))


def _draw(tokens: int) -> Draw:
    return Draw(temperature=0.0, seed=0, max_tokens=tokens, stop=-1)
