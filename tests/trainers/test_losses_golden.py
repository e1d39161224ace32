"""The golden table: closed-form inputs, losses and gradient norms that independent implementations agree on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from closed_form import (
    ADVANTAGE,
    BIG,
    DAPO,
    DR,
    GRPO,
    HIGH,
    LOW,
    MASK,
    NOW,
    OLD,
    REFERENCE,
    ROW,
    SAMPLER,
    SMALL,
    TURNWISE,
    WEIGHTED,
    evaluate,
)

from trainers.config import Cispo, Clip, Correction, Dppo, Gspo, Kl, LossConfig, Sapo
from trainers.losses import kl
from trainers.losses.aggregate import weights
from trainers.losses.tokens import Tokens


def case(name: str, policy: object, aggregation: str, loss: float, norm: float, **more: object):
    given = {key: more.pop(key) for key in ("old", "sampler", "advantage") if key in more}
    config = LossConfig.model_validate({"policy": policy, "aggregation": aggregation, "length": 6, **more})
    return pytest.param(config, given, loss, norm, id=name.replace(" ", "-"))


CASES = [
    case("token mean", LOW, DAPO, -0.3103037, 0.1936623),
    case("token mean, clip higher", HIGH, DAPO, -0.3230080, 0.2123025),
    case("grpo", LOW, GRPO, 0.0341658, 0.2294460),
    case("grpo, clip higher", HIGH, GRPO, 0.0250883, 0.2349903),
    case("dr grpo", LOW, DR, -0.1810105, 0.1129697),
    case("dr grpo, clip higher", HIGH, DR, -0.1884214, 0.1238431),
    case("token sum of a row", LOW, "seq-mean-token-sum", -1.0860629, 0.6778179),
    case("token sum of a row, clip higher", HIGH, "seq-mean-token-sum", -1.1305280, 0.7430587),
    case("token sum", LOW, "token-sum", -4.3442512, 2.7112718),
    case("token sum, clip higher", HIGH, "token-sum", -4.5221124, 2.9722350),
    case("gspo", Gspo(), GRPO, 0.0340228, 0.2125579),
    case("gspo, wide", Gspo(low=0.2, high=0.2), GRPO, 0.0294544, 0.2447208),
    case("cispo, cap 5", Cispo(cap=5), DAPO, 0.4444884, 0.2411344),
    case("cispo, cap 1.28", Cispo(cap=1.28), DAPO, 0.4388042, 0.2400232),
    case("sapo", Sapo(), GRPO, -0.0149551, 0.2458622),
    case("k3 penalty", HIGH, DAPO, -0.3223931, 0.2121996, kl=Kl(estimator="k3", weight=0.1)),
    case("token truncate", HIGH, DAPO, -0.3230485, 0.2210564, correction=Correction(cap=2)),
    case(
        "sequence mask", HIGH, DAPO, -0.3060577, 0.2083022, correction=Correction(level="sequence", mode="mask", cap=3)
    ),
    case("dppo, nothing dropped", Dppo(bound=0.2), DAPO, -0.3281768, 0.2411231),
    case("dppo, four dropped", Dppo(bound=0.05), DAPO, -0.0531173, 0.1936991),
    case("turn-wise, token mean", HIGH, DAPO, 0.2032657, 0.1920878, advantage=TURNWISE),
    case("turn-wise, grpo", HIGH, GRPO, 0.4210227, 0.3388414, advantage=TURNWISE),
    case("turn-wise, dr grpo", HIGH, DR, 0.1185717, 0.1120512, advantage=TURNWISE),
    case("exploded ratio", HIGH, DAPO, 1.0393449, 0.9384670, old=BIG),
    case("exploded ratio, dual clip", Clip(high=0.28, dual=3), DAPO, 0.0988328, 0.2122128, old=BIG),
    case("stale sequence", HIGH, DAPO, -0.3725957, 0.2122128, old=SMALL, sampler=SMALL),
    case("stale sequence masked", HIGH, DAPO, -0.5440243, 0.2122128, old=SMALL, sampler=SMALL, opsm=0.05),
    case("w, token truncate", HIGH, DAPO, -0.2808260, 0.2656088, sampler=WEIGHTED, correction=Correction(cap=2)),
    case("w, token mask", HIGH, DAPO, -0.3678161, 0.2509596, sampler=WEIGHTED, correction=Correction(mode="mask")),
    case(
        "w, sequence truncate",
        HIGH,
        DAPO,
        -0.4549111,
        0.4555200,
        sampler=WEIGHTED,
        correction=Correction(level="sequence", cap=3),
    ),
    case(
        "w, sequence mask",
        HIGH,
        DAPO,
        -0.5853963,
        0.4364311,
        sampler=WEIGHTED,
        correction=Correction(level="sequence", mode="mask", cap=3),
    ),
]


@pytest.mark.parametrize(("config", "given", "loss", "norm"), CASES)
def test_golden_loss_and_gradient_norm(config: LossConfig, given: dict[str, Any], loss: float, norm: float) -> None:
    got = evaluate(config, **given)
    assert got == pytest.approx((loss, norm), abs=1e-5, rel=0)


@pytest.mark.parametrize(("estimator", "value"), [("k1", -0.0241495), ("k2", 0.0060540), ("k3", 0.0061489)])
def test_golden_kl_estimators(estimator: str, value: float) -> None:
    assert math.isclose(estimated(estimator), value, abs_tol=1e-6)


def estimated(estimator: str) -> float:
    now, old, sampler, advantage = (grid[MASK] for grid in (NOW, OLD, SAMPLER, ADVANTAGE))
    tokens = Tokens(now, old, sampler, advantage, ROW.long()[MASK], REFERENCE[MASK])
    return kl.penalty(Kl.model_validate({"estimator": estimator}), tokens).mean().item()


def test_golden_prompt_mean_is_the_mean_over_prompts_of_the_mean_over_their_tokens() -> None:
    """Against the definition, on the golden inputs: rows 0 and 2 are of one prompt, rows 1 and 3 of another."""
    found = weights("prompt-mean", MASK.sum(1).tolist(), 6, ["a", "b", "a", "b"])
    by_row = (torch.tensor(found)[:, None] * MASK * ADVANTAGE).sum().item()
    means = [ADVANTAGE[rows][MASK[rows]].mean().item() for rows in ([0, 2], [1, 3])]
    assert by_row == pytest.approx(sum(means) / 2, abs=1e-6)
    alone = weights("prompt-mean", [6, 3, 4, 1], 6)
    assert alone == pytest.approx(weights("seq-mean-token-mean", [6, 3, 4, 1], 6))


PAGE = Path(__file__).parents[2] / "docs/losses.md"


def table() -> str:
    """The golden table as Markdown, every number computed now."""
    head = (
        "| case | policy loss | aggregation | further terms | loss | norm of d loss / d l |\n|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(line(param) for param in CASES), *(alone(name) for name in ("k1", "k2", "k3"))])


def alone(estimator: str) -> str:
    """The mean of a KL estimator over tokens, which is no loss of its own."""
    return f"| {estimator} alone, token mean | | token-mean | kl estimator={estimator} | {estimated(estimator):.5f} | |"


def line(param: Any) -> str:
    config, given, *_ = param.values
    loss, norm = evaluate(config, **given)
    policy = config.policy.model_dump(exclude_defaults=True, exclude={"kind"})
    more = {"correction": config.correction, "opsm": config.opsm, "kl": config.kl}
    terms = ", ".join(f"{name} {short(value)}" for name, value in more.items() if value is not None)
    name = param.id.replace("-", " ")
    return (
        f"| {name} | {config.policy.kind} {short(policy)} | {config.aggregation} | {terms} | {loss:.5f} | {norm:.5f} |"
    )


def short(value: Any) -> str:
    fields = (
        value
        if isinstance(value, dict)
        else value.model_dump(exclude_none=True)
        if hasattr(value, "model_dump")
        else None
    )
    return str(value) if fields is None else " ".join(f"{k}={v}" for k, v in fields.items())


def test_the_page_of_losses_shows_the_golden_table_as_it_is_computed_now() -> None:
    assert table() in PAGE.read_text(), f"print it with 'python {Path(__file__).name}' and put it into {PAGE.name}"


if __name__ == "__main__":
    print(table())
