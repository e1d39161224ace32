"""Settings, tools from elsewhere, and the view for people."""

from __future__ import annotations

import asyncio
import sys
from io import StringIO
from pathlib import Path

import pytest
from agent_stage import Stage, key
from pydantic import ValidationError
from rich.console import Console, RenderableType

from agent import tools
from agent.config import AgentConfig
from agent.formats import make
from agent.scripted import ScriptedPolicy
from agent.tools.describe import page, schema
from agent.trajectory import Action, End
from agent.view import episode, listing, visible


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tools": ["submit", "bash", "bash"]}, "'bash' is listed twice"),
        ({"tools": ["bash"]}, "add it to agent.tools"),
        ({"tools": ["submit", "bahs"]}, "did you mean 'bash'"),
        ({"tools": ["submit", "teleport"]}, "there are: bash, edit, rewrite, lsp, search"),
        ({"max_turn": 3}, "Extra inputs"),
        ({"max_turns": 0}, "greater than or equal to 1"),
        ({"format": "yaml"}, "fenced"),
    ],
)
def test_settings_that_cannot_be_played_with_are_refused_with_the_way_out(settings: object, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        AgentConfig.model_validate(settings)


PLUGIN = '''
from typing import ClassVar
from agent.tools.tool import Arguments, Result, Scene

class CountArgs(Arguments):
    path: str
    """Which file."""

class Count:
    """Lines of a file."""
    name: ClassVar[str] = "NAME"
    fences: ClassVar[tuple[str, ...]] = ("FENCE",)
    body: ClassVar[str | None] = "path"
    info: ClassVar[str | None] = None
    help: ClassVar[str] = "count the lines of a file"
    Args: ClassVar[type[Arguments]] = CountArgs

    async def run(self, args, scene):
        return Result(text=f"{(await scene.sandbox.read(args.path)).count(b'\\n')} lines")
'''


@pytest.fixture
def plugin(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A tool in a package of its own, installed on the import path under a name that no other test uses."""
    fence = str(request.param)
    name = f"counting_{fence}"
    folder = tmp_path / "installed"
    (folder / f"{name}-1.dist-info").mkdir(parents=True)
    (folder / f"{name}.py").write_text(PLUGIN.replace("FENCE", fence).replace("NAME", name))
    (folder / f"{name}-1.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (folder / f"{name}-1.dist-info" / "entry_points.txt").write_text(f"[repodojo.tools]\n{name} = {name}:Count\n")
    sys.path.insert(0, str(folder))
    request.addfinalizer(lambda: sys.path.remove(str(folder)))
    return name


@pytest.mark.parametrize("plugin", ["count"], indirect=True)
def test_a_tool_of_another_package_is_found_by_its_entry_point(stage: Stage, plugin: str) -> None:
    names = ("bash", plugin, "submit")
    text = make("fenced", tools.load(names)).render(Action(tool=plugin, args={"path": "README.md"}))
    assert text == "```count\nREADME.md\n```"
    policy = ScriptedPolicy("counts", lambda _, turn: (text, "```submit\n```")[turn])
    scaffold = stage.scaffold(tools=names, prompt="full")
    trajectory = asyncio.run(scaffold.play_with_retries(stage.prepared.task, policy, key()))
    assert trajectory.end is End.SUBMITTED and trajectory.turns[0].observation == "1 lines"
    loaded = tools.load(names)
    assert schema(loaded[plugin])["function"]["parameters"]["required"] == ["path"]
    assert f"## {plugin}" in page(loaded.values()) and "| `path` | string | required | Which file. |" in page(
        loaded.values()
    )
    for form in ("xml", "hermes", "openai"):
        assert make(form, loaded).parse(make(form, loaded).render(Action(tool=plugin, args={"path": "x"})), False)
        assert "count the lines of a file" in make(form, loaded).help()
    assert "count the lines of a file" in policy.chat.tokenizer.decode(trajectory.turns[0].prompt)


@pytest.mark.parametrize("plugin", ["bash"], indirect=True)
def test_two_tools_that_claim_one_fence_are_refused(plugin: str) -> None:
    with pytest.raises(ValueError, match="both claim ```bash blocks"):
        tools.load(("bash", plugin, "submit"))


@pytest.mark.parametrize("plugin", ["second"], indirect=True)
def test_a_tool_name_that_two_packages_use_is_refused(plugin: str, tmp_path: Path) -> None:
    other = tmp_path / "installed" / "other-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (other / "entry_points.txt").write_text(f"[repodojo.tools]\n{plugin} = other:Count\n")
    with pytest.raises(ValidationError, match=f"name '{plugin}' is used twice, by {plugin}:Count and other:Count"):
        AgentConfig(tools=("bash", plugin, "submit"))


@pytest.mark.parametrize("plugin", ["third"], indirect=True)
@pytest.mark.parametrize(
    ("value", "reason"),
    [("gone:Count", "cannot be loaded from gone:Count: No module"), ("agent.tools.bash:Bash", "calls itself 'bash'")],
)
def test_a_tool_that_is_not_what_its_entry_point_says_is_refused(
    plugin: str, tmp_path: Path, value: str, reason: str
) -> None:
    name = f"odd_{len(value)}"
    (tmp_path / "installed" / f"{plugin}-1.dist-info" / "entry_points.txt").write_text(
        f"[repodojo.tools]\n{name} = {value}\n"
    )
    with pytest.raises(ValueError, match=reason):
        tools.load((name, "submit"))


def shown(what: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=120, force_terminal=False).print(what)
    return out.getvalue()


def test_a_run_is_listed_and_an_episode_is_shown_turn_by_turn(stage: Stage) -> None:
    played = [asyncio.run(stage.play(name, sample)) for sample, name in enumerate(("gold", "quitter", "breaker"))]
    table = shown(listing(played))
    assert all(word in table for word in ("tests_pass", "empty_patch", "no_submit", "0-0-0-2", "scripted:gold"))
    text = shown(episode(played[0]))
    for part in ("turn 0: rewrite", "min(x, high)", "clamp is replaced.", "turn 1: submit", "+    return max(low, min"):
        assert part in text


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert visible("a\x1b[2Jb\r\x07\tc\n\x9b") == "a\\x1b[2Jb\\x0d\\x07\tc\n\\x9b"
