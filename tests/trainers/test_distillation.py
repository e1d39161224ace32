"""Learning from feedback: what is told, that the gradient is that of KL(policy || teacher), and a run."""

from __future__ import annotations

from copy import deepcopy
from math import log
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaForCausalLM

from agent.chat import ByteTokenizer, Chat
from agent.policy import Message, Sampled
from agent.trajectory import Key, Trajectory
from dojo.config import Config
from rewards.credit import Credit
from sandbox.task import Failure, Status, Verdict
from trainers.config import Clip, Distill, LossConfig, OptimConfig, SftConfig
from trainers.doubles import OutcomeScorer, episode, tasks
from trainers.learning.learner import TransformersLearner
from trainers.learning.rows import rows
from trainers.learning.teacher import informed
from trainers.losses.build import losses
from trainers.losses.tokens import Tokens
from trainers.model.load import tiny
from trainers.protocol import Row
from trainers.rollout.lessons import lessons

CHAT = Chat(ByteTokenizer())
OPEN = Clip(low=1.0, high=1e9)
"""A surrogate that clips nothing: r A."""


def played(sample: int, *, solved: bool, **changed: Any) -> Trajectory:
    key = Key(seed=0, step=0, prompt=0, sample=sample)
    made = episode(tasks(["t"])[0], key, "p", [Sampled(ids=(1,), logprobs=(-1.0,), text="", cut=False)], solved=solved)
    return made.model_copy(update=changed)


def test_a_failed_episode_is_told_the_shortest_change_that_works_and_its_own_failed_tests() -> None:
    verdict = Verdict(status=Status.FAILED, results={"a": True, "b": False, "c": False})
    group = [
        played(0, solved=False, verdict=verdict),
        played(1, solved=True, patch="a long change\n"),
        played(2, solved=True, patch="short\n"),
        played(3, solved=False, failure=Failure.SANDBOX),
        played(4, solved=False, patch=""),
    ]
    told = lessons(group)
    assert told[0] == "This change resolves the task:\nshort\n\nThis attempt fails 2 of 3 tests: b, c."
    assert told[1] == "This change resolves the task:\nshort"
    assert told[2] == "This change resolves the task:\na long change"
    assert told[3] == ""
    assert told[4].endswith("This attempt submitted no change.")


def test_nobody_is_told_his_own_success() -> None:
    assert lessons([played(0, solved=True), played(1, solved=False)])[0] == ""


def test_a_group_without_contrast_still_has_rows_when_it_has_lessons() -> None:
    group = [played(sample, solved=False) for sample in range(2)]
    credit: Credit = OutcomeScorer().score(group)
    assert rows(group, credit) == []
    assert [row.lesson for row in rows(group, credit, lessons(group))] == lessons(group)


def test_feedback_stands_before_the_header_of_the_first_turn() -> None:
    asked, lesson = [Message(role="user", text="mend it")], Message(role="user", text="tests fail")
    prompt, answer = CHAT.open(asked), CHAT.answer("done")
    n, m = len(prompt), len(answer)
    row = Row((*prompt, *answer), (False,) * n + (True,) * m, (0.0,) * n + (-1.0,) * m, (0.0,) * (n + m), "r", "g")
    found = informed(Row(*_columns(row), "r", "g", "tests fail or so"), CHAT, len("tests fail"))
    assert found.ids == (*CHAT.open([*asked, lesson]), *answer)
    assert [i for i, on in zip(found.ids, found.mask, strict=True) if on] == list(answer)
    assert [x for x, on in zip(found.logprobs, found.mask, strict=True) if on] == [-1.0] * m


def _columns(row: Row) -> tuple[Any, Any, Any, Any]:
    return row.ids, row.mask, row.logprobs, row.advantages


def test_on_policy_the_expected_gradient_is_that_of_the_divergence_from_the_teacher() -> None:
    """Every token of a vocabulary once, weighted by its probability."""
    chance = torch.Generator().manual_seed(0)
    logits, other = (torch.randn(9, dtype=torch.float64, generator=chance) for _ in range(2))
    logits.requires_grad_(True)
    now, q = torch.log_softmax(logits, -1), torch.log_softmax(other, -1)
    still, zeros = now.detach(), torch.arange(9)
    tokens = Tokens(now, still, still, q - still, zeros)
    (losses(LossConfig(policy=OPEN), tokens) * still.exp()).sum().backward()
    ours = logits.grad
    assert ours is not None
    logits.grad = None
    p = torch.softmax(logits, -1)
    (p * (p.log() - q)).sum().backward()
    assert logits.grad is not None and torch.allclose(ours, logits.grad, atol=1e-12)


CONTEXT = CHAT.open([Message(role="user", text="?")])
LESSON = "say x"


def every_token(weight: float = 0.0) -> list[Row]:
    """One row a token of the vocabulary, as if each had been drawn from the uniform distribution."""
    n = len(CONTEXT)
    return [
        Row(
            ids=(*CONTEXT, token),
            mask=(False,) * n + (True,),
            logprobs=(0.0,) * n + (-log(ByteTokenizer.size),),
            advantages=(0.0,) * n + (weight,),
            rollout=str(token),
            group="g",
            lesson=LESSON,
        )
        for token in range(ByteTokenizer.size)
    ]


def learner(distill: Distill | None) -> TransformersLearner:
    loss = LossConfig(policy=OPEN, aggregation="token-mean", distill=distill)
    return TransformersLearner(tiny(5, hidden=32, double=True), OptimConfig(layers=2, lr=3e-4), loss, SftConfig(), 0.8)


def divergence(net: Any, teacher: Any) -> torch.Tensor:
    """KL of what comes after the context from what comes after the context with the feedback."""
    informed_context = CHAT.open([Message(role="user", text="?"), Message(role="user", text=LESSON)])

    def after(model: Any, ids: tuple[int, ...]) -> torch.Tensor:
        return torch.log_softmax(model(torch.tensor(ids)[None]).logits[0, -1] / 0.8, -1)

    log_p = after(net, CONTEXT)
    with torch.no_grad():
        log_q = after(teacher, informed_context)
    return (log_p.exp() * (log_p - log_q)).sum()


def unmodified(one: TransformersLearner) -> Any:
    settings = deepcopy(one.model.net.config)
    settings._attn_implementation = "eager"
    net = LlamaForCausalLM(settings).double()
    net.load_state_dict(one.model.net.state_dict())
    return net


def test_the_learners_gradient_is_that_of_the_divergence_of_an_unmodified_model() -> None:
    one = learner(Distill(bound=1e3))
    ours, net = one.gradient(every_token()), unmodified(one)
    divergence(net, net).backward()
    theirs = {name: p.grad for name, p in net.named_parameters() if name in ours}
    assert max(float(g.abs().max()) for g in ours.values()) > 1e-4
    for name, gradient in ours.items():
        # The unmodified model normalises in float32.
        assert torch.allclose(gradient, theirs[name], atol=1e-6, rtol=1e-4)


def test_the_weight_scales_it_the_bound_ends_it_and_without_it_lessons_teach_nothing() -> None:
    once, twice = (learner(Distill(bound=1e3, weight=w)).gradient(every_token()) for w in (1.0, 2.0))
    assert all(torch.allclose(2 * once[name], twice[name], atol=1e-12) for name in once)
    small = learner(Distill(bound=1e-9)).gradient(every_token())
    assert max(float(g.abs().max()) for g in small.values()) < 1e-8
    none = learner(None).gradient(every_token())
    assert max((float(g.abs().max()) for g in none.values()), default=0.0) == 0.0


def test_steps_bring_the_policy_nearer_to_what_it_thinks_with_the_feedback_and_are_counted() -> None:
    one = learner(Distill(bound=1e3))
    before = unmodified(one)
    numbers = [one.update(every_token()) for _ in range(5)]
    now, then = (divergence(net, before).item() for net in (unmodified(one), before))
    assert now < 0.7 * then, (now, then)
    assert all(n["taught_share"] == 1.0 for n in numbers)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loss": {"distill": {}, "estimator": {"kind": "reinforce++"}}}, "unset one of the two"),
        ({"loss": {"distill": {}}, "scale": {"gpus": 2, "parallel": "fsdp2"}}, r"unset loss\.distill"),
        ({"loss": {"kl": {"offload": True}}, "scale": {"gpus": 2, "parallel": "fsdp2"}}, r"unset loss\.kl\.offload"),
    ],
)
def test_pairs_that_cannot_work_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(given)
