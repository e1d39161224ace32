"""Prompts are templates that see data and nothing else; a broken one is refused when the config is read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agent_stage import CHAT, Stage, make_prepared
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.config import AgentConfig
from agent.doubles import ExactGrader
from agent.templates import VARIABLES, Data, Prompt, load, messages

VALUES = dict.fromkeys(VARIABLES, "") | {"source": Data(""), "tools": ("bash", "submit"), "format": "fenced"}


def test_a_prompt_of_ones_own_is_a_toml_file_whose_text_goes_into_the_config(tmp_path: Path, stage: Stage) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("system = '''{{ manual }}'''\nuser = '''Fix {{ repo }}:\n{{ statement }}'''\n")
    config = AgentConfig.model_validate({"prompt": str(path)})
    path.unlink()
    assert isinstance(config.prompt, Prompt) and AgentConfig.model_validate(config.model_dump()) == config
    trajectory = asyncio.run(stage.play("gold", prompt=config.prompt))
    text = CHAT.tokenizer.decode(trajectory.turns[0].prompt)
    assert "An action is one fenced block" in text and "Fix pack:\n```\n`clamp` in" in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("user = '{{ statment }}'", "unknown variable 'statment'; there are: statement, source"),
        ("user = '{{ statement'", "the template 'user' is broken in line 1"),
        ("user = '{% for x in tools %}'", "the template 'user' is broken"),
        ("user = 'x'\nsystem = '{{ task.patch }}'", "the template 'system' uses the unknown variable 'task'"),
        ("system = 'x'", "Field required"),
        ("user = 'x'\nother = 1", "Extra inputs"),
        ("user = ", "is not valid TOML"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_the_way_out(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(ValidationError, match=reason):
        AgentConfig.model_validate({"prompt": str(path)})


@pytest.mark.parametrize(("name", "reason"), [("ful", "there are: compact, full"), ("no.toml", "cannot be read")])
def test_a_prompt_that_is_not_there_is_refused_with_the_way_out(name: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        AgentConfig.model_validate({"prompt": name})


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("`{}%#\n"), max_size=80))
@settings(max_examples=300)
def test_no_statement_is_read_as_a_template_or_ends_its_fence(text: str) -> None:
    (message,) = messages(Prompt(user="{{ statement }}"), VALUES | {"statement": Data(text)})
    if not text:
        assert message.text == ""
        return
    first, *body, last = message.text.split("\n")
    assert "\n".join(body) == text and first == last and set(first) == {"`"} and len(first) >= 3
    assert first not in text


def test_a_template_cannot_reach_behind_its_data() -> None:
    from jinja2.exceptions import SecurityError

    with pytest.raises(SecurityError):
        messages(Prompt(user="{{ statement._text }}{{ statement.__class__ }}"), VALUES | {"statement": Data("x")})


@pytest.mark.parametrize("name", ["compact", "full"])
def test_a_task_without_a_function_has_a_prompt_too(tmp_path: Path, stage: Stage, name: str) -> None:
    bare = Stage(make_prepared(tmp_path / "bare", focus=None), stage.backend, ExactGrader())
    text = CHAT.tokenizer.decode(asyncio.run(bare.play("quitter", prompt=name)).turns[0].prompt)
    assert "is wrong" in text and "pack" in text and "def clamp" not in text
    if name == "compact":
        assert "Answer with one block: ```bash, ```edit, ```rewrite, ```submit." in text


def test_the_shipped_prompts_ask_for_a_summary() -> None:
    assert all("sum up" in load(name).summary for name in ("compact", "full"))
