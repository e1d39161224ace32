"""The engine that samples: exact log-probabilities over several turns, draws that depend on the key alone, lockstep."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent.chat import ByteTokenizer
from agent.policy import Message, PolicyError, Sampled
from agent.trajectory import Key
from trainers.engines.draw import draw, uniform
from trainers.engines.transformers import OpenWave, TransformersEngine
from trainers.model.attention import hidden
from trainers.model.load import Model, tiny
from trainers.model.packing import Packed, common, pack

T = 0.7
Played = tuple[Key, int, list[int], Sampled]


@cache
def model(double: bool = True) -> Model:
    return tiny(2, double=double)


def keys(prompts: int = 2, samples: int = 3) -> list[Key]:
    return [Key(seed=4, step=1, prompt=p, sample=s) for p in range(prompts) for s in range(samples)]


def prompt(key: Key) -> list[int]:
    return list(f"prompt number {key.prompt}".encode()) + [7] * (5 * key.prompt)


async def episode(wave: OpenWave, key: Key, turns: int = 3) -> list[Played]:
    """Turns of unequal length; sample 1 rewrites history before its last turn, sample 2 leaves early."""
    context, played = prompt(key), list[Played]()
    for turn in range(turns - (key.sample == 2)):
        sampled = await wave.policy.sample(context, key, turn, 4 + 3 * key.sample)
        played.append((key, turn, context, sampled))
        context = context + list(sampled.ids) + [65 + turn] * (1 + key.sample)
        if key.sample == 1 and turn == 1:
            context = [*context[:9], 3, *context[12:]]
    wave.leave(key)
    return played


def play(of: Model, chosen: Sequence[Key], temperature: float = T) -> list[Played]:
    engine = TransformersEngine(of)

    async def all_of_them() -> list[list[Played]]:
        wave = engine.wave(len(chosen), temperature)
        return await asyncio.gather(*(episode(wave, key) for key in chosen))

    try:
        return [played for one in asyncio.run(all_of_them()) for played in one]
    finally:
        engine.close()


def every_token(of: Model, ids: list[int], temperature: float) -> torch.Tensor:
    """Log-probabilities of the whole vocabulary behind each token of a row."""
    line, blocks = pack([[ids]])
    everywhere = torch.arange(len(line))
    states = hidden(of.net, torch.tensor(line), everywhere, Packed(blocks), everywhere)
    return torch.log_softmax(of.net.lm_head(states) / temperature, -1)


def recomputed(of: Model, context: Sequence[int], sampled: Sequence[int], temperature: float) -> list[float]:
    """Log-probabilities by one pass over the whole row, without any cache."""
    logs = every_token(of, [*context, *sampled], temperature)
    return [logs[len(context) + i - 1, token].item() for i, token in enumerate(sampled)]


@pytest.mark.parametrize(("double", "bound"), [(True, 1e-9), (False, 1e-5)])
def test_sampling_with_cached_keys_over_several_turns_equals_recomputing_everything(double: bool, bound: float) -> None:
    played = play(model(double), keys())
    assert len(played) == 2 * (3 + 3 + 2)
    for _, _, context, sampled in played:
        expected = recomputed(model(double), context, sampled.ids, T)
        assert max(abs(a - b) for a, b in zip(expected, sampled.logprobs, strict=True)) < bound


def test_an_episode_that_asks_first_when_others_are_at_later_turns_changes_nothing() -> None:
    """Its slot is new and comes to the front, while those in front wait."""
    engine, (early, late) = TransformersEngine(model()), keys(1, 2)

    async def staggered() -> list[Played]:
        wave, played = engine.wave(1, T), list[Played]()
        context = prompt(early)
        for key, turn in ((early, 0), (late, 0), (early, 1)):
            row = context if key == early else prompt(late)
            played.append((key, turn, row, await wave.policy.sample(row, key, turn, 5)))
            context = [*context, *played[0][3].ids, 66] if key == early else context
        return played

    played = asyncio.run(staggered())
    engine.close()
    for _, _, context, sampled in played:
        assert list(sampled.logprobs) == pytest.approx(recomputed(model(), context, sampled.ids, T), abs=1e-9)


def test_a_sample_does_not_depend_on_which_others_share_its_batch() -> None:
    together = {(key, turn): sampled.ids for key, turn, _, sampled in play(model(), keys())}
    alone = {(key, turn): sampled.ids for one in keys() for key, turn, _, sampled in play(model(), [one])}
    assert alone == together


def test_the_same_wave_samples_the_same_again_to_the_last_bit() -> None:
    assert play(model(False), keys()) == play(model(False), keys())


def test_samples_of_a_group_differ_and_turns_draw_anew() -> None:
    first = {key: sampled.ids[:4] for key, turn, _, sampled in play(model(), keys(1, 6)) if turn == 0}
    assert len(set(first.values())) == 6


def test_greedy_takes_the_most_likely_token_with_its_log_probability_at_temperature_one() -> None:
    _, _, context, sampled = play(model(), keys(1, 1), 0.0)[0]
    logs = every_token(model(), [*context, *sampled.ids], 1.0)[len(context) - 1 : -1]
    assert logs.argmax(-1).tolist() == list(sampled.ids)
    assert logs.max(-1).values.tolist() == pytest.approx(list(sampled.logprobs))


def test_a_turn_ends_with_its_end_token_which_is_part_of_it() -> None:
    """The token that was drawn second becomes the end token: the same draws now end there."""
    _, _, _, long = play(model(), keys(1, 1))[0]

    class Ending(ByteTokenizer):
        im_end = long.ids[1]

    _, _, _, short = play(Model(model().net, Ending(), "ending"), keys(1, 1))[0]
    assert long.cut and not short.cut
    assert short.ids == long.ids[: len(short.ids)]
    assert Ending.im_end == short.ids[-1] and Ending.im_end not in short.ids[:-1]


def test_changed_weights_are_never_sampled_with_keys_of_the_old_ones() -> None:
    changing = tiny(8, double=True)
    engine = TransformersEngine(changing)

    async def two_versions() -> tuple[list[int], Sampled]:
        wave, key = engine.wave(1, T), keys(1, 1)[0]
        first = await wave.policy.sample(prompt(key), key, 0, 5)
        with changing.lock, torch.no_grad():
            for parameter in changing.net.base_model.layers.parameters():
                parameter.mul_(1.3)
            changing.version += 1
        context = prompt(key) + list(first.ids) + [66]
        return context, await wave.policy.sample(context, key, 1, 5)

    context, second = asyncio.run(two_versions())
    engine.close()
    assert second.version == 1
    assert list(second.logprobs) == pytest.approx(recomputed(changing, context, second.ids, T), abs=1e-9)


def test_broken_weights_are_one_clear_error_for_every_waiting_episode() -> None:
    broken = tiny(1)
    with torch.no_grad():
        broken.net.base_model.norm.weight.fill_(math.nan)
    engine = TransformersEngine(broken)

    async def ask() -> list[BaseException | Sampled]:
        wave = engine.wave(2, T)
        both = (wave.policy.sample(prompt(key), key, 0, 3) for key in keys(1, 2))
        return await asyncio.gather(*both, return_exceptions=True)

    errors = asyncio.run(ask())
    engine.close()
    assert [type(error) for error in errors] == [PolicyError, PolicyError]
    assert "not numbers" in str(errors[0])


def test_a_policy_outside_a_wave_samples_what_a_wave_of_one_does() -> None:
    engine, key = TransformersEngine(model()), keys(1, 1)[0]
    policy = engine.policy(temperature=T)
    alone = asyncio.run(policy.sample(prompt(key), key, 0, 4))
    engine.close()
    assert alone == play(model(), [key])[0][3]


def test_contexts_are_chatml_and_data_never_becomes_a_control_token() -> None:
    engine = TransformersEngine(model())
    policy = engine.policy(temperature=T)
    opened = policy.open([Message(role="user", text="<|im_end|>")])
    engine.close()
    assert opened.count(256) == 2 and opened.count(257) == 1


def test_draws_follow_the_distribution_exactly() -> None:
    """A grid of uniforms hits each token as often as its probability says, give or take one."""
    logits, steps = torch.tensor([[0.3, -1.0, 2.0, 0.0, -30.0]], dtype=torch.float64), 1000
    grid = [(i + 0.5) / steps for i in range(steps)]
    ids, logprobs = draw(logits.repeat(steps, 1), 0.5, grid)
    p = torch.softmax(logits[0] / 0.5, -1).tolist()
    counts = Counter(ids)
    assert all(abs(counts[token] - steps * p[token]) <= 1 for token in range(5))
    assert all(abs(math.exp(lp) - p[token]) < 1e-12 for token, lp in zip(ids, logprobs, strict=True))


def test_a_draw_next_to_one_still_has_probability() -> None:
    ids, _ = draw(torch.tensor([[0.0, 0.0, -200.0]]), 1.0, [1 - 2.0**-53])
    assert ids == [1]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99))
def test_uniforms_are_in_the_unit_interval_and_name_their_token(sample: int, turn: int, index: int) -> None:
    key = Key(seed=0, step=0, prompt=0, sample=sample)
    assert 0 <= uniform(key, turn, index) < 1
    assert uniform(key, turn, index) != uniform(key, turn, index + 1) != uniform(key, turn + 1, index)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_packing_loses_no_token_and_shares_the_longest_prefix(rows: list[list[int]]) -> None:
    line, (block,) = pack([rows])
    assert [[line[i] for i in block.places(row)] for row in range(len(rows))] == rows
    assert (
        block.prefix
        == common(rows)
        == max(n for n in range(7) if len({tuple(r[:n]) for r in rows}) == 1 and n <= min(map(len, rows)))
    )
    assert [block.positions()[i - block.start] for i in block.places(0)] == list(range(len(rows[0])))
