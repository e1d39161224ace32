"""The engine against a real vLLM server on the embedded model: run by ``make test-vllm``, which prints what it saw."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.policy import Message, Sampled
from agent.trajectory import Key
from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig
from trainers.engine_config import VllmConfig
from trainers.engines.vllm import VllmEngine
from trainers.engines.vllm_api import Draw, Drawn
from trainers.protocol import Row
from trainers.served import served_machine
from trainers.sync import export
from trainers.sync.publish import Publisher, SyncedLearner
from trainers.sync.push import ByFile

pytestmark = [pytest.mark.vllm, pytest.mark.model]
TEMPERATURE = 0.8
PROMPTS = ("Write a haiku about compilers.", "What is 2 + 2?", "def add(a, b):", "Name three colours.")


def saw(text: str) -> None:
    """For the report."""
    print(f"\n    {text}")


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncedLearner]:
    home = tmp_path_factory.mktemp("served")
    config = VllmConfig(
        python=Path(os.environ["REPODOJO_VLLM"]),
        sync="transfer",
        flags=("--enable-lora", "--max-lora-rank", "8", "--max-model-len", "2048"),
        folder=home / "weights",
    )
    began = time.perf_counter()
    machine = served_machine(
        config,
        ModelConfig(),
        OptimConfig(layers=2, lr=1e-3),
        LossConfig(),
        SftConfig(),
        temperature=TEMPERATURE,
        log=home / "vllm.log",
    )
    saw(f"learner loaded and server started in {time.perf_counter() - began:.0f} s")
    assert isinstance(machine.learner, SyncedLearner)
    machine.engine.policy(temperature=0.0)
    try:
        yield machine.learner
    finally:
        machine.engine.close()


def opening(engine: VllmEngine, text: str) -> tuple[int, ...]:
    return engine.chat.open([Message(role="user", text=text)])


def draw(engine: VllmEngine, tokens: int = 32, temperature: float = 0.0, seed: int = 0) -> Draw:
    return Draw(temperature=temperature, seed=seed, max_tokens=tokens, stop=engine.chat.tokenizer.im_end)


def samples(engine: VllmEngine, temperature: float, tokens: int = 32) -> list[Sampled]:
    policy = engine.policy(temperature=temperature)

    async def all_of_them() -> list[Sampled]:
        keys = [Key(seed=0, step=0, prompt=i, sample=0) for i in range(len(PROMPTS))]
        asked = (policy.sample(opening(engine, p), k, 0, tokens) for p, k in zip(PROMPTS, keys, strict=True))
        return list(await asyncio.gather(*asked))

    return asyncio.run(all_of_them())


def greedy(engine: VllmEngine) -> list[tuple[int, ...]]:
    return [one.ids for one in samples(engine, 0.0)]


def logprobs(learner: SyncedLearner, context: Sequence[int], ids: Sequence[int], temperature: float) -> list[float]:
    """Of the same tokens by the network that learns."""
    import torch

    from trainers.model.attention import hidden
    from trainers.model.packing import Packed, pack

    net: Any = learner.publisher.model.net
    line, blocks = pack([[[*context, *ids]]])
    places = torch.arange(len(line))
    with torch.no_grad():
        logits = net.lm_head(hidden(net, torch.tensor(line), places, Packed(blocks), places)) / temperature
    at = torch.arange(len(context) - 1, len(line) - 1)
    return logits.log_softmax(-1)[at, torch.tensor(list(ids))].tolist()


def changed(learner: SyncedLearner, by: float) -> Publisher:
    import torch

    with torch.no_grad():
        for parameter in learner.publisher.model.net.parameters():
            if parameter.requires_grad:
                parameter *= by  # powers of two: exact both ways
    learner.publisher.model.version += 1
    return learner.publisher


def test_token_ids_go_in_and_token_ids_come_out(learner: SyncedLearner) -> None:
    engine = learner.publisher.engine
    for one in samples(engine, TEMPERATURE):
        assert len(one.ids) == len(one.logprobs) and one.version == engine.version
        assert one.text == engine.chat.tokenizer.decode(one.ids)
        assert one.cut == (one.ids[-1] != engine.chat.tokenizer.im_end)


def test_log_probabilities_are_those_of_transformers_at_the_sampling_temperature(learner: SyncedLearner) -> None:
    engine = learner.publisher.engine
    apart = [
        abs(a - b)
        for prompt, one in zip(PROMPTS, samples(engine, TEMPERATURE), strict=True)
        for a, b in zip(one.logprobs, logprobs(learner, opening(engine, prompt), one.ids, TEMPERATURE), strict=True)
    ]
    mean = sum(apart) / len(apart)
    saw(f"log-probabilities of {len(apart)} tokens, vLLM against transformers: mean {mean:.1e}, max {max(apart):.1e}")
    assert max(apart) < 1e-2


def test_greedy_output_is_that_of_the_transformers_engine(learner: SyncedLearner) -> None:
    from trainers.engines.transformers import TransformersEngine

    here = TransformersEngine(learner.publisher.model)
    policy = here.policy(temperature=0.0)
    engine = learner.publisher.engine
    same = 0
    for index, (prompt, ids) in enumerate(zip(PROMPTS, greedy(engine), strict=True)):
        key = Key(seed=0, step=0, prompt=index, sample=0)
        same += asyncio.run(policy.sample(opening(engine, prompt), key, 0, 32)).ids == ids
    here.close()
    saw(f"greedy output equal for {same} of {len(PROMPTS)} prompts, 32 tokens each")
    assert same == len(PROMPTS)


@pytest.mark.parametrize("way", ["transfer", "file"])
def test_greedy_output_changes_with_the_weights_and_returns_with_them(
    learner: SyncedLearner, tmp_path: Path, way: str
) -> None:
    from trainers.sampler import folder

    publisher, ways = learner.publisher, learner.publisher.ways
    if way == "file":
        whole = partial(export.full, publisher.model, folder(ModelConfig()))
        publisher.ways = [ByFile(whole, tmp_path)]
    first = greedy(publisher.engine)
    there = changed(learner, 2.0).publish()
    second = greedy(publisher.engine)
    back = changed(learner, 0.5).publish()
    third = greedy(publisher.engine)
    publisher.ways = ways
    moved = sum(a != b for a, b in zip(first, second, strict=True))
    saw(f"by {way}: {moved} of {len(PROMPTS)} greedy outputs changed, {third == first} they came back; {there:.2f} s")
    saw(f"by {way}: the way back took {back:.2f} s; versions {publisher.engine.version - 1} and after")
    assert first != second and first == third
    assert asyncio.run(publisher.engine.api.version()) == str(publisher.engine.version)
    assert publisher.fallbacks == 0


def test_an_update_in_the_middle_of_a_sample_shows_both_versions(learner: SyncedLearner) -> None:
    engine = learner.publisher.engine
    before = engine.version
    endless = Draw(temperature=0.0, seed=0, max_tokens=256, stop=engine.chat.tokenizer.im_start)

    async def both() -> Sampled:
        asked = asyncio.ensure_future(engine.sample(opening(engine, PROMPTS[0]), endless))
        await asyncio.sleep(1.0)
        await asyncio.to_thread(changed(learner, 2.0).publish)
        return await asked

    got = asyncio.run(both())
    changed(learner, 0.5).publish()
    saw(f"one sample of {len(got.ids)} tokens over an update: (version, tokens) = {got.spans}")
    assert [version for version, _ in got.spans] == [before, before + 1]
    assert got.version == before and sum(tokens for _, tokens in got.spans) == len(got.ids)


def test_a_paused_server_gives_nothing_until_it_is_resumed(learner: SyncedLearner) -> None:
    engine = learner.publisher.engine

    async def held() -> tuple[bool, Drawn]:
        await engine.api.pause("keep")
        context = opening(engine, PROMPTS[1])
        asked = asyncio.ensure_future(engine.api.generate(engine.served, context, draw(engine, 8)))
        await asyncio.sleep(2.0)
        waiting = not asked.done()
        await engine.api.resume()
        return waiting, await asked

    waiting, drawn = asyncio.run(held())
    saw(f"paused: no answer in 2 s ({waiting}); resumed: {len(drawn.ids)} tokens")
    assert waiting and drawn.ids


def test_adapters_are_loaded_and_loaded_again_while_the_server_runs(learner: SyncedLearner, tmp_path: Path) -> None:
    import torch

    from trainers.model.load import load
    from trainers.model.trainable import trainable

    engine, optim = learner.publisher.engine, OptimConfig(layers=2, lora=8)
    tuned = load(ModelConfig())
    trainable(tuned.net, optim)
    plain = greedy(engine)
    found: list[list[tuple[int, ...]]] = []
    for scale in (0.0, 0.05, 0.0):
        with torch.no_grad():
            for name, parameter in tuned.net.named_parameters():
                if ".lora_B" in name:
                    parameter.fill_(scale)
        folder = export.adapter(tuned, optim, "policy", tmp_path / f"adapter-{len(found)}")
        asyncio.run(engine.api.load_adapter("tuned", folder))
        served, engine.served = engine.served, "tuned"
        found.append(greedy(engine))
        engine.served = served
    asyncio.run(engine.api.unload_adapter("tuned"))
    saw(f"adapters: zero ones change nothing ({found[0] == plain}), others do ({found[1] != plain}), and they go back")
    assert found[0] == plain and found[1] != plain and found[2] == plain


def test_what_is_learned_is_what_samples_next(learner: SyncedLearner) -> None:
    engine = learner.publisher.engine
    before = samples(engine, TEMPERATURE)
    rows = [_row(engine, prompt, one, i) for i, (prompt, one) in enumerate(zip(PROMPTS, before, strict=True))]
    numbers = learner.update(rows)
    after = samples(engine, TEMPERATURE)
    apart = [
        abs(a - b)
        for prompt, one in zip(PROMPTS, after, strict=True)
        for a, b in zip(one.logprobs, logprobs(learner, opening(engine, prompt), one.ids, TEMPERATURE), strict=True)
    ]
    saw(f"one update: ratio {numbers['ratio_min']:.4f} to {numbers['ratio_max']:.4f}, then apart by {max(apart):.1e}")
    assert numbers["ratio_min"] > 0.98 and numbers["ratio_max"] < 1.02 and max(apart) < 1e-2
    assert all(one.version == engine.version for one in after)


def test_sleep_and_wake_answer(learner: SyncedLearner) -> None:
    """On a CPU they do nothing."""
    api = learner.publisher.engine.api

    async def nap() -> None:
        await api.sleep()
        await api.wake()

    asyncio.run(nap())
    assert greedy(learner.publisher.engine)


def _row(engine: VllmEngine, prompt: str, one: Sampled, index: int) -> Row:
    context, size = opening(engine, prompt), len(one.ids)
    return Row(
        ids=(*context, *one.ids),
        mask=(False,) * len(context) + (True,) * size,
        logprobs=(0.0,) * len(context) + one.logprobs,
        advantages=(0.0,) * len(context) + (1.0 if index % 2 else -1.0,) * size,
        rollout=str(index),
        group=str(index),
    )


def test_a_server_that_is_killed_while_it_samples_is_started_anew_with_the_weights_of_the_moment(
    learner: SyncedLearner,
) -> None:
    publisher, began = changed(learner, 1.02), time.perf_counter()
    before, keeper = greedy(publisher.engine), publisher.keeper
    assert keeper is not None

    async def killed() -> Sampled:
        key = Key(seed=0, step=0, prompt=0, sample=0)
        policy = publisher.engine.policy(temperature=0.0)
        asked = asyncio.create_task(policy.sample(opening(publisher.engine, PROMPTS[0]), key, 0, 200))
        await asyncio.sleep(0.5)
        os.killpg(keeper.server.process.pid, signal.SIGKILL)
        return await asked

    sampled = asyncio.run(killed())
    assert keeper.restarts == 1 and sampled.version == publisher.model.version
    assert sampled.ids[: len(before[0])] == before[0] and greedy(publisher.engine) == before
    saw(f"killed while it sampled: the same greedy answer from a new server after {time.perf_counter() - began:.0f} s")
