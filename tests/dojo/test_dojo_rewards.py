"""From a config's recipe to what a run records, and what is refused before it starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dojo import build
from dojo.config import Config, load
from dojo.errors import UserError
from dojo.verbs import reward_config
from rewards.errors import RewardError

CONFIGS = Path(__file__).parents[2] / "configs"


def config(recipe: str, *overrides: str) -> Config:
    return load(CONFIGS / "quickstart.toml", ["--rewards", str(CONFIGS / "rewards" / f"{recipe}.toml"), *overrides])


@pytest.mark.parametrize(
    ("recipe", "shadow"),
    [("outcome", "off"), ("g_ra", "off"), ("lanser_v2", "off"), ("verpo", "on"), ("pure", "on"), ("all_gated", "on")],
)
def test_shadow_grading_turns_itself_on_for_the_recipes_that_need_it(recipe: str, shadow: str) -> None:
    found = config(recipe)
    assert found.rewards.name == recipe
    assert build.settled(found).shadow == shadow
    assert build.recipe(found, []).config == found.rewards


def test_shadow_grading_can_be_asked_for_under_any_recipe() -> None:
    assert build.settled(config("g_ra", "--agent.shadow", "on")).shadow == "on"


@pytest.mark.parametrize(
    ("recipe", "overrides", "says"),
    [
        ("verpo", ("--agent.shadow", "off"), r"tests \(for turns.tests\)"),
        ("lanser_v2", ("--agent.diagnostics", "false"), r"diagnostics \(for turns.pr_v2\)"),
        ("verpo", ("--agent.max_turns", "20"), "horizon = 16 is less than the 20 turns"),
    ],
)
def test_a_run_that_could_not_be_scored_is_refused_before_it_starts(
    recipe: str, overrides: tuple[str, ...], says: str
) -> None:
    with pytest.raises(RewardError, match=says):
        build.recipe(config(recipe, *overrides), [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("normalizer = 1", "unknown key 'normalizer', did you mean 'normaliser'?"),
        ('[[turns]]\n[turns.source]\nkind = "pr_v2"\ngamma = 0.9', "did you mean 'turns.credit.gamma'?"),
    ],
)
def test_an_unknown_key_of_a_recipe_names_the_nearest_one_of_recipes(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "own.toml").write_text(f'name = "own"\n{text}\n')
    with pytest.raises(UserError, match=re.escape(says)):
        reward_config(tmp_path / "own.toml")
