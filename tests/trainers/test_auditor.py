"""What a step records of its credit, and the audit that a run keeps."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.trajectory import Trajectory
from rewards.config import RewardConfig
from rewards.matrix import Matrix
from rewards.recipe import Recipe
from trainers.learning.rows import rows
from trainers.record.auditor import Auditor, rebuilt, report
from trainers.step import Scored, score

CONFIGS = Path(__file__).parents[2] / "configs" / "rewards"


def recipe(name: str, **change: Any) -> Recipe:
    return Recipe(RewardConfig.model_validate(tomllib.loads((CONFIGS / f"{name}.toml").read_text()) | change))


def group(*trajectories: dict[str, Any]) -> Sequence[Trajectory]:
    return Matrix.model_validate({"trajectories": trajectories}).group()


def failing(*tests: str, tokens: int = 1) -> dict[str, Any]:
    return {"outcome": "tests_fail", "turns": [{"tests": one, "tokens": tokens} for one in tests]}


HALF = (failing("10", tokens=3), failing("11", tokens=3) | {"turns": [{"tests": "11", "tokens": 3}, {"tokens": 6}]})


def test_turn_signal_is_the_share_of_the_losss_tokens_whose_turn_has_turn_credit() -> None:
    scored = score(group(*HALF), 2, recipe("verpo"))
    tokens = [advantage for row in scored.rows for advantage, on in zip(row.advantages, row.mask, strict=True) if on]
    assert len(tokens) == 12 and sum(a != 0 for a in tokens) == 6
    seen = scored.record()
    assert seen["turn_signal"] == 0.5
    assert seen["turn_size"] == pytest.approx(sum(map(abs, tokens)) / 12)


def test_a_turn_whose_tokens_carry_no_loss_is_no_part_of_the_turn_signal() -> None:
    members = group(*HALF)
    cut = members[1].turns[1].model_copy(update={"masked": True})
    members = [members[0], members[1].model_copy(update={"turns": (members[1].turns[0], cut)})]
    assert score(members, 2, recipe("verpo")).record()["turn_signal"] == 1.0


@pytest.mark.parametrize(
    ("name", "members"),
    [("outcome", HALF), ("verpo", (failing("11"), failing("11"))), ("verpo", (failing("10"), {"outcome": "infra"}))],
    ids=["no turn channel", "equal attempts", "one valid member"],
)
def test_without_turn_credit_the_turn_signal_is_zero(name: str, members: tuple[dict[str, Any], ...]) -> None:
    seen = score(group(*members), 2, recipe(name)).record()
    assert seen["turn_signal"] == 0.0 == seen["turn_size"]


def test_turn_credit_of_weight_zero_does_not_reach_the_loss() -> None:
    scorer = recipe("verpo")
    silent = scorer.config.turns[0].model_copy(update={"beta": 0.0})
    made = Recipe(scorer.config.model_copy(update={"turns": (silent,)}))
    passing = failing("11") | {"outcome": "tests_pass"}
    scored = score(group(failing("10"), passing), 2, made)
    assert scored.rows and scored.record()["turn_signal"] == 0.0


def farming(step: int) -> Scored:
    """Ever better formatted, ever less often submitted."""
    good = [{"format_ok": True, "tool_ok": True}] * 4
    bad = [{"format_ok": i <= step // 4, "tool_ok": True} for i in range(4)]
    quits = {"outcome": "no_submit", "turns": good}
    members = [quits if i < step // 2 else {"outcome": "tests_fail", "turns": bad} for i in range(8)]
    return score(group(*members), 8, recipe("d_ra"))


def lines(steps: int) -> list[dict[str, Any]]:
    auditor = Auditor()
    return [{"kind": "grpo", "step": i + 1, **auditor.step(farming(i))} for i in range(steps)]


def test_the_audit_of_a_run_is_rebuilt_from_its_metrics() -> None:
    stored = [json.loads(json.dumps(line)) for line in lines(14)]
    assert any("critic 'format'" in warning for warning in stored[-1]["warnings"]) and not stored[3]["warnings"]
    again = rebuilt(stored[:9])
    assert [json.loads(json.dumps(again.step(farming(i)))) for i in range(9, 14)] == [
        {key: line[key] for key in ("audit", "warnings")} for line in stored[9:]
    ]


def test_a_summary_says_which_warnings_stand_and_when_each_was_first_given() -> None:
    stored = lines(14)
    found = report([{"kind": "sft", "batch": 1}, *stored])
    assert found["warnings"] == stored[-1]["warnings"] and found["slopes"]["format"] > 0 > found["slopes"]["outcome"]
    first = next(line["step"] for line in stored if line["warnings"])
    assert {given["step"] for given in found["given"]} >= {first} and first >= 8
    assert report([]) == {"slopes": {"total": 0.0, "outcome": 0.0}, "warnings": [], "given": []}


def test_rows_of_a_group_carry_the_turns_advantages() -> None:
    members = group(*HALF)
    credit = recipe("verpo").score(members)
    assert [row.advantages[0] for row in rows(members, credit)] == [credit.turns[0][0], credit.turns[1][0]]
