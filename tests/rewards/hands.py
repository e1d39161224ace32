"""Groups by hand for the tests of rewards, and hypothesis strategies that draw them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agent.trajectory import Trajectory
from rewards.config import RewardConfig
from rewards.credit import Credit
from rewards.matrix import Matrix
from rewards.recipe import Account, Recipe

FOLDER = Path(__file__).parents[2] / "configs" / "rewards"
NAMES = ("all_gated", "d_ra", "g_ra", "gigpo", "lanser_v2", "outcome", "pure", "tempo", "verpo", "verpo_gated")
LADDER = ("no_submit", "empty_patch", "tests_fail", "tests_pass")


def recipe(name: str, **change: Any) -> RewardConfig:
    """A shipped recipe, with top-level keys replaced."""
    return RewardConfig.model_validate(tomllib.loads((FOLDER / f"{name}.toml").read_text()) | change)


def group(*trajectories: Any, **more: Any) -> tuple[Trajectory, ...]:
    return Matrix.model_validate({"trajectories": trajectories} | more).group()


def explain(config: RewardConfig, *trajectories: Any) -> Account:
    return Recipe(config).explain(group(*trajectories))


def score(config: RewardConfig, *trajectories: Any) -> Credit:
    return Recipe(config).score(group(*trajectories))


def flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in rows for value in row]


def vectors(width: int) -> st.SearchStrategy[str]:
    return st.text(alphabet="01", min_size=width, max_size=width)


@st.composite
def turns(draw: st.DrawFn, width: int = 5, most: int = 5) -> list[dict[str, Any]]:
    """Turns with every fact that any recipe needs; about a third of them leave the tree alone."""
    made: list[dict[str, Any]] = []
    tree = "base"
    for index in range(draw(st.integers(1, most))):
        turn: dict[str, Any] = {"format_ok": draw(st.booleans()), "tool_ok": draw(st.booleans())}
        if draw(st.integers(0, 2)):
            tree = draw(st.sampled_from([f"t{index}", f"u{index}", "shared", "base"]))
            turn |= {"diagnostics": draw(st.integers(0, 9)), "safe": draw(st.booleans())}
            turn |= {"tests": draw(vectors(width)), "suppressed": draw(st.integers(0, 3))}
        turn |= {"tree": tree, "action": draw(st.sampled_from(["edit", "bash"]))}
        turn["confidence"] = draw(st.one_of(st.none(), st.floats(0, 1)))
        made.append(turn)
    return made


@st.composite
def members(draw: st.DrawFn, width: int = 5) -> dict[str, Any]:
    return {
        "outcome": draw(st.sampled_from(LADDER)),
        "diagnostics": draw(st.integers(0, 5)),
        "turns": draw(turns(width)),
    }


def groups(least: int = 2, most: int = 5) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(members(), min_size=least, max_size=most)
