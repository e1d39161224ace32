"""Splitting, permuting and packing change nothing: gradients in float64, to 1e-9."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from every_loss import LOSSES, apart, fit
from transformers import LlamaForCausalLM

from agent.chat import ByteTokenizer, Chat
from trainers.config import Kl, LossConfig, OptimConfig, SftConfig
from trainers.learning.learner import TransformersLearner
from trainers.model.load import Model, tiny
from trainers.protocol import Row

T = 0.8
HEADER = Chat(ByteTokenizer()).open([])
Gradient = dict[str, torch.Tensor]


@cache
def model() -> Model:
    return tiny(5, layers=3, hidden=32, double=True)


def learner(loss: LossConfig, tokens: int = 4096) -> TransformersLearner:
    return apart(TransformersLearner(model(), OptimConfig(layers=2, tokens=tokens), loss, SftConfig(), T))


def two_turns(group: int, sample: int) -> Row:
    """A row with two sampled turns and an observation between them; the samples of a group share their prompt."""
    chance = random.Random(f"{group}/{sample}")
    prompt = [*random.Random(group).choices(range(256), k=4), *HEADER]
    told = [*chance.choices(range(256), k=2), *HEADER]
    parts = [(prompt, False), (3 + sample, True), (told, False), (2 + group, True), (2 * sample, False)]
    ids: list[int] = []
    mask: list[bool] = []
    for part, sampled in parts:
        new = part if isinstance(part, list) else chance.choices(range(256), k=part)
        ids += new
        mask += [sampled] * len(new)
    logprobs = tuple(-5.5 + chance.uniform(-0.4, 0.4) if m else 0.0 for m in mask)
    credit = tuple(chance.uniform(-1, 1) if m else 0.0 for m in mask)
    return Row(tuple(ids), tuple(mask), logprobs, credit, f"{group}-{sample}", str(group))


def rows(loss: LossConfig) -> list[Row]:
    return fit([two_turns(group, sample) for group in range(3) for sample in range(3)], loss)


def assert_same(a: Gradient, b: Gradient) -> None:
    assert a.keys() == b.keys() and a
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-9
    assert max(float(value.abs().max()) for value in a.values()) > 1e-6


each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
UNGROUPED = {name: loss for name, loss in LOSSES.items() if loss.aggregation != "prompt-mean"}
"""Those that do not ask which rollouts belong to one prompt."""


@each_loss
def test_permuting_rows_is_an_invariance(loss: LossConfig) -> None:
    shuffled = rows(loss)
    random.Random(1).shuffle(shuffled)
    assert_same(learner(loss).gradient(rows(loss)), learner(loss).gradient(shuffled))


@each_loss
def test_splitting_a_step_into_micro_batches_whose_gradients_accumulate_is_an_invariance(loss: LossConfig) -> None:
    assert_same(learner(loss).gradient(rows(loss)), learner(loss, tokens=16).gradient(rows(loss)))


@each_loss
def test_splitting_a_rollout_into_rows_is_an_invariance(loss: LossConfig) -> None:
    """The second row repeats the first turn as context, as a forked history does."""
    split = [part for row in rows(loss) for part in halves(row)]
    assert_same(learner(loss).gradient(rows(loss)), learner(loss).gradient(split))
    assert_same(learner(loss).gradient(rows(loss)), learner(loss, tokens=16).gradient(split))


def halves(row: Row) -> list[Row]:
    """One row a turn."""
    second_turn = [i for i in range(len(row.ids)) if row.mask[i] and not row.mask[i - 1]][-1]

    def only(keep: range, end: int) -> Row:
        mask = tuple(m and i in keep for i, m in enumerate(row.mask[:end]))
        return replace(
            row,
            ids=row.ids[:end],
            mask=mask,
            logprobs=tuple(x if m else 0.0 for x, m in zip(row.logprobs, mask, strict=False)),
            advantages=tuple(x if m else 0.0 for x, m in zip(row.advantages, mask, strict=False)),
        )

    return [only(range(second_turn), second_turn), only(range(second_turn, len(row.ids)), len(row.ids))]


@pytest.mark.parametrize("loss", UNGROUPED.values(), ids=UNGROUPED)
def test_sharing_the_prompt_of_a_group_is_an_invariance(loss: LossConfig) -> None:
    alone = [replace(row, group=row.rollout) for row in rows(loss)]
    assert_same(learner(loss).gradient(rows(loss)), learner(loss).gradient(alone))


@each_loss
def test_padding_behind_a_row_is_an_invariance(loss: LossConfig) -> None:
    pad = (0,) * 7
    longer = [
        replace(
            row,
            ids=row.ids + pad,
            mask=row.mask + (False,) * 7,
            logprobs=row.logprobs + (0.0,) * 7,
            advantages=row.advantages + (0.0,) * 7,
        )
        for row in rows(loss)
    ]
    assert_same(learner(loss).gradient(rows(loss)), learner(loss).gradient(longer))


def test_leaving_out_rollouts_without_credit_is_an_invariance() -> None:
    """A penalty of weight almost 0 keeps them in the forward pass."""
    loss = LOSSES["clip-norm"]
    some = [replace(row, advantages=(0.0,) * len(row.ids)) if i % 2 else row for i, row in enumerate(rows(loss))]
    without = learner(loss)
    every = learner(LossConfig(kl=Kl(weight=1e-30)))
    assert len(without._live(some)) < len(every._live(some)) == len(some)
    assert_same(without.gradient(some), every.gradient(some))


def test_the_gradient_is_that_of_the_textbook_loss_on_separate_rows_of_an_unmodified_model() -> None:
    config = LOSSES["clip-seq-mean"]
    settings = deepcopy(model().net.config)
    settings._attn_implementation = "eager"
    net = LlamaForCausalLM(settings).double()
    net.load_state_dict(model().net.state_dict())
    total = torch.zeros((), dtype=torch.float64)
    for row in rows(config):
        ids = torch.tensor(row.ids)
        now = torch.log_softmax(net(ids[None]).logits[0, :-1] / T, -1).gather(-1, ids[1:, None])[:, 0]
        mask = torch.tensor(row.mask)[1:]
        r = (now - torch.tensor(row.logprobs, dtype=torch.float64)[1:]).exp()
        a = torch.tensor(row.advantages, dtype=torch.float64)[1:]
        token = -torch.minimum(r * a, r.clamp(0.8, 1.2) * a)
        total = total + token[mask].mean() / len(rows(config))
    total.backward()
    ours = learner(config).gradient(rows(config))
    theirs = {name: p.grad for name, p in net.named_parameters() if name in ours}
    # The unmodified model normalises in float32.
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], atol=1e-6, rtol=1e-4)


def test_training_every_weight_gives_the_last_layers_the_same_gradient() -> None:
    """The head then learns too, so its logits go through checkpointed chunks instead of the closed form."""
    loss = LOSSES["clip-norm"]
    some = learner(loss).gradient(rows(loss))
    every = TransformersLearner(model(), OptimConfig(layers=None), loss, SftConfig(), T).gradient(rows(loss))
    assert len(every) > len(some)
    assert_same(some, {name: every[name] for name in some})


def test_recomputing_activations_is_an_invariance() -> None:
    loss, optim = LOSSES["clip-norm"], OptimConfig(layers=2, checkpointing=True)
    again = TransformersLearner(tiny(5, layers=3, hidden=32, double=True), optim, loss, SftConfig(), T)
    assert_same(learner(loss).gradient(rows(loss)), again.gradient(rows(loss)))
