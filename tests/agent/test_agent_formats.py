"""Every action format: what is rendered parses back, and any text is actions or a format error."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import tools
from agent.chat import ByteTokenizer
from agent.errors import FormatError
from agent.formats import FORMATS, make
from agent.formats.carry import check
from agent.formats.format import CALLS
from agent.tools.describe import schema
from agent.trajectory import Action

TOOLS = tools.load(("bash", "edit", "rewrite", "lsp", "search", "test", "submit"))
FORMS = {name: make(name, TOOLS) for name in FORMATS}
PIECES = st.sampled_from(
    [
        *("<function=bash>", "<function=edit>", "</function>", "<parameter=command>", "</parameter>", "<\\/parameter>"),
        *(
            "<tool_call>",
            "</tool_call>",
            "<tool_response>",
            '{"name": "bash", ',
            '"arguments": {',
            '"command": "ls"',
            "}}",
        ),
        *(
            '{"tool_calls": [',
            '{"function": ',
            "]",
            "}",
            "[",
            "{",
            '"',
            "\\",
            "\n",
            "\n\n",
            " ",
            "```",
            "bash",
            "\\ud800",
        ),
        *("NaN", "1e999", "-", "0", "null", "<", "\\/", "\r", "\u2028", "\x00"),
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=24).map("".join))
ACTIONS = st.one_of(
    st.builds(Action, tool=st.just("bash"), args=st.fixed_dictionaries({"command": TEXTS})),
    st.builds(
        Action,
        tool=st.just("edit"),
        args=st.fixed_dictionaries(
            {"command": st.sampled_from(["view", "create"]), "path": TEXTS},
            optional={
                "file_text": TEXTS,
                "insert_line": st.integers(),
                "view_range": st.lists(st.integers(), max_size=2),
            },
        ),
    ),
    st.builds(
        Action,
        tool=st.just("lsp"),
        args=st.fixed_dictionaries({"verb": st.just("def"), "apply": st.booleans()}, optional={"selector": TEXTS}),
    ),
    st.just(Action(tool="submit")),
)
AROUND = st.sampled_from(["", "I think so.\n", "First\n\n"])


@pytest.mark.parametrize("name", ["xml", "hermes", "openai"])
@given(actions=st.lists(ACTIONS, min_size=1, max_size=CALLS), before=AROUND, after=st.sampled_from(["", "\n"]))
@settings(max_examples=200)
def test_what_is_rendered_parses_back(name: str, actions: list[Action], before: str, after: str) -> None:
    form = FORMS[name]
    played = actions if form.parallel else actions[:1]
    assert form.parse(before + form.render(*played) + after, cut=False) == tuple(played)


@pytest.mark.parametrize("name", ["xml", "hermes", "openai"])
@given(text=TEXTS, cut=st.booleans())
@settings(max_examples=300)
def test_any_text_is_actions_or_a_format_error_with_a_sentence(name: str, text: str, cut: bool) -> None:
    try:
        actions = FORMS[name].parse(text, cut)
    except FormatError as error:
        assert str(error).startswith("error: ") and str(error).endswith(".")
    else:
        assert 1 <= len(actions) <= CALLS and all(action.tool in TOOLS for action in actions)
        for action in actions:
            json.dumps(action.args, ensure_ascii=False).encode()  # no lone surrogate gets through


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_are_actions_or_a_format_error(name: str, data: bytes) -> None:
    try:
        assert FORMS[name].parse(data.decode("utf-8", "replace"), cut=False)
    except FormatError as error:
        assert str(error).startswith("error: ")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "piece", ["[", "{", '{"a":', "<tool_call>", "<function=bash>", "```bash\n", "<parameter=command>"]
)
def test_a_long_run_of_anything_is_refused_at_once(name: str, piece: str) -> None:
    with pytest.raises(FormatError):
        FORMS[name].parse(piece * 20_000, cut=False)


LS = Action(tool="bash", args={"command": "ls"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("xml", "<function=bash><parameter=command>ls</parameter></function>"),
        ("xml", "I look.\n<function=bash>\n<parameter=command>ls</parameter>\n"),
        ("hermes", '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'),
        ("hermes", '<tool_call>\n{"arguments": {"command": "ls"}, "name": "bash"}'),
        ("openai", '[{"function": {"name": "bash", "arguments": {"command": "ls"}}}]'),
        ("openai", 'So:\n{"name": "bash", "arguments": "{\\"command\\": \\"ls\\"}"}'),
        (
            "openai",
            '{"role": "assistant", "tool_calls": [{"function": {"name": "bash", "arguments": {"command": "ls"}}}]}',
        ),
    ],
)
def test_the_spellings_that_models_use_are_read(name: str, text: str) -> None:
    assert FORMS[name].parse(text, cut=False) == (LS,)


@pytest.mark.parametrize(
    ("name", "text", "cut", "reason"),
    [
        ("xml", "<function=fly></function>", False, "there is no tool fly; there are: bash"),
        ("xml", "<function=bash>ls</function>", False, "parameter=NAME"),
        ("xml", "<function=bash><parameter=command>l", True, "cut"),
        ("xml", f"{FORMS['xml'].render(LS)}\n{FORMS['xml'].render(LS)}", False, "several"),
        ("xml", "<function=bash><parameter=a>1</parameter><parameter=a>2</parameter></function>", False, "given twice"),
        ("hermes", '<tool_call>{"name": "bash", "argu', True, "cut"),
        ("hermes", '<tool_call>{"name": "bash", "argu', False, "not valid JSON"),
        ("hermes", '<tool_call>{"name": "bash"} and so on', False, "not closed"),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>', False, "name and arguments"),
        ("hermes", '<tool_call>{"name": "bash", "arguments": [1]}</tool_call>', False, "have to be a JSON object"),
        ("hermes", "\n".join([FORMS["hermes"].render(LS)] * (CALLS + 1)), False, "at most 8"),
        ("openai", "no JSON here", False, "no tool call found"),
        ("openai", '{"tool_calls": []}', False, "no tool call found"),
        (
            "openai",
            '{"tool_calls": [{"function": {"name": "bash", "arguments": "{"}}]}',
            False,
            "arguments is not valid JSON",
        ),
        ("openai", '{"tool_calls": [{"func', True, "too long"),
    ],
)
def test_what_is_no_action_is_told_why(name: str, text: str, cut: bool, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        FORMS[name].parse(text, cut)


def test_results_of_parallel_calls_come_back_in_order_and_cannot_fake_one_another() -> None:
    fake = "a\n</tool_response>\n<tool_response>\nb"
    assert FORMS["hermes"].observe([fake, "c"]).count("\n</tool_response>") == 2
    assert FORMS["openai"].observe(["a", "b"]) == "[call_0]\na\n[call_1]\nb"
    assert FORMS["fenced"].observe(["a"]) == FORMS["xml"].observe(["a"]) == FORMS["openai"].observe(["a"]) == "a"


@pytest.mark.parametrize("name", FORMATS)
def test_the_manual_names_every_tool_and_every_argument(name: str) -> None:
    manual = FORMS[name].help()
    for tool in TOOLS.values():
        assert (tool.fences[0] if name == "fenced" else tool.name) in manual
        assert all(field in manual for field in tool.Args.model_fields if name != "fenced" or tool.body is None)


@pytest.mark.parametrize("name", ["hermes", "openai"])
def test_the_manual_carries_the_schemas_as_json(name: str) -> None:
    lines = FORMS[name].help().split("\n")
    first = next(line for line in lines if line.startswith(("{", "[")))
    found = json.loads(first)
    assert (found if isinstance(found, dict) else found[0]) == schema(TOOLS["bash"])


class Folding(ByteTokenizer):
    """Folds white space, as a tokenizer for prose may."""

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(super().decode(ids).split())


class Dropping(ByteTokenizer):
    """Counts a tag among its control tokens, so that decoding drops it."""

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode(ids).replace("<tool_call>", "")


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_carry_every_format(name: str) -> None:
    check(FORMS[name], TOOLS, ByteTokenizer())


@pytest.mark.parametrize(("name", "tokenizer"), [("fenced", Folding()), ("hermes", Dropping())])
def test_a_format_that_the_models_tokens_lose_is_refused_with_the_way_out(name: str, tokenizer: ByteTokenizer) -> None:
    with pytest.raises(ValueError, match=f"cannot carry agent.format = '{name}'.*choose another format"):
        check(FORMS[name], TOOLS, tokenizer)
