"""Three steps of the loop under recipes with turn credit: real sandboxes, hidden tests, a language server, a loss."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.chat import Chat
from agent.config import AgentConfig
from agent.doubles import Shelf
from agent.finish import SandboxGrader
from agent.policy import Policy
from agent.scored import Scored
from agent.scripted import ScriptedPolicy
from agent.store import Store
from agent.trajectory import Key, Trajectory
from rewards.audit import observe
from rewards.config import RewardConfig
from rewards.recipe import Recipe
from sandbox.grading.diff import diff
from sandbox.grading.tree import Entry, write_tree
from sandbox.local import LocalBackend
from sandbox.task import Prepared, Task
from trainers.components import Components
from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig
from trainers.engines.transformers import TransformersEngine
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.machine import local_machine
from trainers.model.load import tiny
from trainers.record.metrics import read
from trainers.rollout.player import EpisodePlayer, player

RECIPES = Path(__file__).parents[2] / "configs" / "rewards"
AGENT = AgentConfig(
    prompt="compact", max_turns=4, max_tokens=400, tools=("bash", "rewrite", "lsp", "submit"), shadow="on"
)
FAULTY = "def clamp(x, low, high):\n    return max(low, max(x, high))\n\n\ndef double(x):\n    return 2 * x\n"
TEST = """\
from pack.core import clamp, double


def test_above():
    assert clamp(9, 0, 3) == 3


def test_below():
    assert clamp(-1, 0, 3) == 0


def test_double():
    assert double(2) == 4
"""
LOOK = '```lsp\n{"verb": "def", "selector": "py://pack.core#double"}\n```'
RENAME = '```lsp\n{"verb": "rename", "selector": "py://pack.core#double", "name": "twice", "apply": true}\n```'
WRONG = "```python\ndef clamp(x, low, high):\n    return nowhere\n```"
RIGHT = "```python\ndef clamp(x, low, high):\n    return max(low, min(x, high))\n```"
IDLE, SUBMIT = "```bash\nls\n```", "```submit\n```"
PLANS = ((LOOK, WRONG, RIGHT, SUBMIT), (WRONG, SUBMIT), (RENAME, SUBMIT), (RIGHT, IDLE, IDLE, IDLE))
"""A pass after a detour, two ways to fail, and partial success that is never submitted."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("task")
    files = {"pack/__init__.py": "", "pack/core.py": FAULTY}
    before = {path: Entry("f", text.encode()) for path, text in files.items()}
    fixed = FAULTY.replace("max(x, high)", "min(x, high)")
    write_tree(before, folder / "base")
    write_tree({"tests/test_core.py": Entry("f", TEST.encode())}, folder / "tests")
    _site(folder / "site")
    task = Task(
        instance_id="pack-clamp",
        repo="pack",
        base_commit="0" * 40,
        problem_statement="`clamp` in pack/core.py is wrong.",
        patch=diff(before, before | {"pack/core.py": Entry("f", fixed.encode())}),
        FAIL_TO_PASS=("tests/test_core.py::test_above", "tests/test_core.py::test_below"),
        PASS_TO_PASS=("tests/test_core.py::test_double",),
        focus="pack/core.py::clamp",
        hidden=("tests/test_core.py",),
        test_files=("tests/test_core.py",),
    )
    return Prepared(task=task, base=folder / "base", tests=folder / "tests", site=folder / "site")


def _site(folder: Path) -> None:
    """A site folder with pytest, copied from where these tests run."""
    folder.mkdir()
    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py"):
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / source.name)


@dataclass(frozen=True)
class Planned:
    """Plays the plan of each sample over the learner's own tokens."""

    inner: EpisodePlayer
    chat: Chat

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        texts = PLANS[key.sample % len(PLANS)]
        double = ScriptedPolicy("planned", lambda _, turn: texts[turn], self.chat)
        return await self.inner.play(task, double, key, sampled)

    async def close(self) -> None:
        await self.inner.close()


def run(folder: Path, name: str, prepared: Prepared) -> dict[str, Any]:
    backend = LocalBackend(unsafe=True)
    inner = player(AGENT, backend, Shelf((prepared,)), SandboxGrader(backend), starts=2, graders=2)
    config = RewardConfig.model_validate(tomllib.loads((RECIPES / f"{name}.toml").read_text()))
    scorer = Recipe(config)
    scorer.require({"tests", "diagnostics"}, AGENT.max_turns)
    parts = Components(
        train=[prepared.task],
        heldout=[],
        player=Planned(inner, TransformersEngine(tiny()).chat),
        scorer=scorer,
        machine=lambda: local_machine(
            ModelConfig(name="tiny"), OptimConfig(layers=2, lr=1e-3), LossConfig(), SftConfig(examples=0)
        ),
    )
    steps = TrainConfig.model_validate({"steps": 3, "minutes": None, "prompts": 1, "group": 4, "wave": 4})
    none = EvalConfig.model_validate({"stages": []})
    settings = Settings(0, steps, none, f'recipe = "{name}"\n', picture=False)
    return train(parts, settings, folder, console=Console(quiet=True))


# All of them in the soak; the quick suite keeps the plainest and the one that holds every part.
LATER = [pytest.param(name, marks=pytest.mark.slow) for name in ("g_ra", "verpo_gated", "lanser_v2")]


@pytest.mark.parametrize("name", ["verpo", "all_gated", *LATER])
def test_turn_facts_are_filled_and_turn_credit_reaches_the_loss(tmp_path: Path, name: str, prepared: Prepared) -> None:
    found = run(tmp_path / "run", name, prepared)
    steps = read(tmp_path / "run" / "metrics.jsonl")
    groups = list(Store(tmp_path / "run" / "trajectories.jsonl").groups())
    assert found["training"]["updates"] == 3 and found["training"]["outcomes"] == {
        "no_submit": 3, "empty_patch": 0, "tests_fail": 6, "tests_pass": 3, "infra": 0
    }  # fmt: skip
    scorer = Recipe(RewardConfig.model_validate(tomllib.loads((RECIPES / f"{name}.toml").read_text())))
    for step, group in zip(steps, groups, strict=True):
        _facts(group)
        credit = scorer.score(group)
        told = [len(set(turns)) > 1 for turns in credit.turns]
        assert 0.0 < step["turn_signal"] <= 1.0 and step["turn_size"] > 0.0
        assert any(told) or name == "g_ra"  # Its turns are all well-formed here.
        # The replay of what was stored gives the numbers of the run, audit included.
        assert step["reward"] == pytest.approx(sum(credit.returns) / 4, rel=1e-15)
        assert step["audit"] == json.loads(json.dumps(asdict(observe([group], [credit]))))
        assert step["learner"]["grad_norm"] > 0 and 0 < step["timing"]["reward_share"] < 1


def _facts(group: Sequence[Scored]) -> None:
    """Of the four plans: vectors of the three hidden tests, diagnostics of changed trees, what lanser resolved."""
    tests = [[turn.facts.tests for turn in one.turns] for one in group]
    assert tests == [[None, "001", "111", None], ["001", None], ["000", None], ["111", None, None, None]]
    errors = [[turn.facts.diagnostics for turn in one.turns] for one in group]
    assert errors == [[None, 1, 0, None], [1, None], [0, None], [0, None, None, None]]
    assert all(one.base_diagnostics == 0 for one in group)
    looked, renamed = group[0].turns[0].facts, group[2].turns[0].facts
    assert looked.confidence == 1.0 and renamed.confidence == 1.0 and renamed.safe is True
    assert not any(turn.facts.attempt for turn in group[3].turns[1:])
