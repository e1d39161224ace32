"""The fenced format: what is rendered parses back, and any text is an action or a format error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import tools
from agent.errors import FormatError
from agent.formats import make
from agent.trajectory import Action

FORM = make("fenced", tools.load(("bash", "edit", "rewrite", "submit")))
PIECES = st.sampled_from(
    [
        "`",
        "```",
        "````",
        "bash",
        "python",
        "submit",
        "edit",
        "sh",
        "\n",
        "\r",
        " ",
        "{",
        "}",
        '"a": 1',
        "ls",
        "def f():",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))
ACTIONS = st.one_of(
    st.builds(Action, tool=st.just("bash"), args=st.fixed_dictionaries({"command": TEXTS})),
    st.builds(Action, tool=st.just("rewrite"), args=st.fixed_dictionaries({"code": TEXTS})),
    st.builds(
        Action,
        tool=st.just("rewrite"),
        args=st.fixed_dictionaries({"code": TEXTS, "target": st.sampled_from(["a/b.py::C.f", "x.py::f"])}),
    ),
    st.builds(
        Action,
        tool=st.just("edit"),
        args=st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.lists(st.integers()), st.none())),
    ),
    st.just(Action(tool="submit")),
)


@given(ACTIONS, st.sampled_from(["", "I think so.\n", "First\n\n"]), st.sampled_from(["", "\nThat is all."]))
@settings(max_examples=400)
def test_what_is_rendered_parses_back_with_text_around_it(action: Action, before: str, after: str) -> None:
    assert FORM.parse(before + FORM.render(action) + after, cut=False) == (action,)


@given(TEXTS, st.booleans())
@settings(max_examples=600)
def test_any_text_is_an_action_or_a_format_error_with_a_sentence(text: str, cut: bool) -> None:
    try:
        (action,) = FORM.parse(text, cut)
    except FormatError as error:
        assert str(error).startswith("error: ") and str(error).endswith(".")
    else:
        assert action.tool in ("bash", "edit", "rewrite", "submit")


def test_an_open_block_counts_when_the_answer_ended_by_itself() -> None:
    assert FORM.parse("```submit", cut=False) == (Action(tool="submit"),)
    assert FORM.parse("```bash\nls", cut=False) == (Action(tool="bash", args={"command": "ls"}),)


def test_an_open_block_of_a_cut_answer_is_refused_but_a_closed_one_counts() -> None:
    with pytest.raises(FormatError, match="cut"):
        FORM.parse("```bash\nrm -r build", cut=True)
    assert FORM.parse("```bash\nls\n```\nand then", cut=True)[0].tool == "bash"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no block at all", "no action found"),
        ("```\nplain\n```", "no action found"),
        ("```rust\nfn main() {}\n```", "no action found"),
        ("```bash\nls\n```\n```submit\n```", "2 actions"),
        ("```python\ndef f(): pass\n```submit\n```", "second block"),
        ("```edit\n[1]\n```", "JSON object"),
        ("```edit\n{\n```", "not valid JSON"),
        ("```edit\n" + "[" * 100_000 + "\n```", "not valid JSON"),
    ],
)
def test_what_is_not_exactly_one_action_is_told_why(text: str, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        FORM.parse(text, cut=False)


def test_blocks_that_name_no_tool_are_prose() -> None:
    text = "The output was\n```text\nboom\n```\nso\n```py\ndef f(): pass\n```"
    assert FORM.parse(text, cut=False) == (Action(tool="rewrite", args={"code": "def f(): pass"}),)


def test_the_shortest_action_is_the_submission() -> None:
    assert FORM.render(Action(tool="submit")) == "```submit\n```"
