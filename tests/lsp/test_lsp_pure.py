"""Selectors, positions, canonical JSON, the process reward: properties that need no server."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp.bundle import selector_from_json, selector_to_json
from lsp.canonical import bundle_id, facts_id, jcs, number
from lsp.errors import Code, LanserError
from lsp.positions import Encoding, Text, codepoints, units
from lsp.process_reward import Observation, State, Weights, potential, pr_v1, pr_v2, rewards, states
from lsp.queries import page
from lsp.selectors import AnchorSpec, AstSpec, CursorSpec, RangeSpec, Spec, SymbolSpec, format, parse
from lsp.text import decode

IDENT = st.from_regex(r"[a-zA-Zé_][a-zA-Z0-9_]{0,6}", fullmatch=True)
DOTTED = st.lists(IDENT, min_size=1, max_size=3).map(".".join)
PATH = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: "://" not in text)
PLACE = st.tuples(st.integers(0, 9999), st.integers(0, 999))
ROLE = st.sampled_from(["def", "sig", "body", "doc", None])
SPEC: st.SearchStrategy[Spec] = st.one_of(
    st.builds(CursorSpec, PATH, st.integers(0, 9999), st.integers(0, 999)),
    st.tuples(PATH, PLACE, PLACE).map(lambda item: RangeSpec(item[0], min(item[1:]), max(item[1:]))),
    st.builds(SymbolSpec, st.tuples(DOTTED, DOTTED).map(":".join), ROLE, st.none() | st.integers(0, 9)),
    st.builds(
        AstSpec,
        st.lists(st.tuples(st.sampled_from(["module", "class", "def", "assign"]), DOTTED), min_size=1, max_size=4).map(
            tuple
        ),
        st.none() | st.integers(0, 9),
    ),
    st.builds(AnchorSpec, PATH, PATH, st.integers(0, 99)),
)
TEXT = st.text(alphabet="ab \t\n\ré😀̈中", max_size=60)


@given(SPEC)
def test_a_selector_survives_its_string_form(spec: Spec) -> None:
    assert parse(format(spec)) == spec


@given(SPEC, st.none() | st.just("sha256:x"), st.sampled_from(["codepoint", "utf-8", "utf-16"]))
def test_a_selector_survives_its_json_form(spec: Spec, version: str | None, indexing: Encoding) -> None:
    extra = {"docVersion": version} | ({"indexing": indexing} if isinstance(spec, CursorSpec | RangeSpec) else {})
    full = type(spec)(**{**vars(spec), **extra})
    assert selector_from_json(json.loads(json.dumps(selector_to_json(full)))) == full


def test_the_documented_examples_parse() -> None:
    assert parse("src/app.py@L42:C7") == CursorSpec("src/app.py", 41, 6)
    assert parse("src/app.py@R(42,7->44,1)") == RangeSpec("src/app.py", (41, 6), (43, 0))
    assert parse("py://pkg.mod#Class.method:body") == SymbolSpec("pkg.mod:Class.method", "body")
    assert parse("ast://[module=pkg.mod]/[class=C]/[def=m]/name[1]").name == 0  # pyright: ignore
    assert parse('anchor://src/app.py#"def load_data("?ctx=24') == AnchorSpec("src/app.py", "def load_data(")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.py",
        "a.py@L0:C1",
        "a.py@R(2,1->1,1)",
        "py://a",
        "py://a#b:nope",
        "py://a#1",
        "ast://[x=y]",
        'anchor://a.py#""',
    ],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(LanserError) as caught:
        parse(text)
    assert caught.value.code is Code.BAD_SELECTOR_SYNTAX


@given(TEXT, st.data(), st.sampled_from(["utf-8", "utf-16", "codepoint"]))
def test_positions_convert_there_and_back(source: str, data: st.DataObject, encoding: Encoding) -> None:
    text = Text(source)
    line = data.draw(st.integers(0, text.lines - 1))
    column = data.draw(st.integers(0, len(text.line(line))))
    there = text.to_encoding((line, column), encoding)
    assert text.from_encoding(there, encoding) == (line, column)
    assert text.position(text.offset((line, column))) == (line, column)


@given(TEXT, st.integers(0, 300), st.sampled_from(["utf-8", "utf-16", "codepoint"]))
def test_a_column_never_leaves_its_line(source: str, column: int, encoding: Encoding) -> None:
    found = codepoints(source, column, encoding)
    assert 0 <= found <= len(source)
    assert units(source[:found], encoding) <= column or found == 0


@given(TEXT)
def test_lines_are_those_of_the_protocol(source: str) -> None:
    expected = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    text = Text(source)
    assert [text.line(number) for number in range(text.lines)] == expected


@pytest.mark.parametrize("data", [b"a\r\n", b"\xef\xbb\xbfa", "a\n".encode("utf-16"), b"# coding: latin-1\n\xe9"])
def test_bytes_survive_decoding(data: bytes) -> None:
    found = decode(data)
    assert found.encode(found.text) == data
    assert not found.text.startswith("\ufeff")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1e21, "1e+21"), (1e20, "100000000000000000000"), (1e-6, "0.000001"), (1e-7, "1e-7"),
        (333333333.33333329, "333333333.3333333"), (4.5, "4.5"), (2e-3, "0.002"), (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"), (9007199254740992.0, "9007199254740992"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_ecmascript_does(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(value: float) -> None:
    assert float(number(value)) == value


def test_keys_sort_by_utf16_and_escapes_are_minimal() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    expected = '{"\\r":1,"1":3,"\u0080":5,"\u00f6":6,"\u20ac":0,"\U0001f600":4,"\ufb33":2}'
    value = {key: index for index, key in enumerate(keys)}
    assert jcs(value).decode() == expected
    assert jcs('\u20ac$\u000f\nA\'B"\\\\"/').decode() == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'


@given(
    st.permutations(["request", "resolution", "facts", "edits", "environment", "capabilities", "meta"]), st.floats(0, 9)
)
def test_ids_ignore_order_and_volatile_parts(order: list[str], seconds: float) -> None:
    parts = {
        "request": {"cmd": "def", "args": {}},
        "resolution": None,
        "facts": {"a": [1, 2.5]},
        "edits": None,
        "environment": {"server": {"name": "x"}, "python": {"version": "3.12", "executable": f"/x/{seconds}"}},
        "capabilities": {},
        "meta": {"exit_code": 0, "timing": {"seconds": seconds}, "workspace": f"/somewhere/{seconds}"},
    }
    shuffled = {key: parts[key] for key in order}
    still = {**parts, "meta": {"exit_code": 0}, "environment": {**parts["environment"], "python": {"version": "3.12"}}}
    assert bundle_id(shuffled) == bundle_id(still)
    assert facts_id(shuffled) == facts_id({**still, "environment": {}, "meta": {}})
    assert bundle_id({**parts, "facts": {"a": [1, 3]}}) != bundle_id(parts)


TURN = st.builds(Observation, st.none() | st.integers(0, 20), st.none() | st.booleans(), st.none() | st.floats(0, 1))
TURNS = st.lists(TURN, max_size=12)


def test_the_papers_first_example_and_the_erratum_of_its_second() -> None:
    assert pr_v1(State(5), State(2, True, 0.94)).r == pytest.approx(1.894)
    assert pr_v1(State(7), State(7, False, 0.62)).r == pytest.approx(-0.038)


def test_the_papers_proposition_is_false_for_its_own_formula() -> None:
    assert pr_v1(State(3, False, 0.5), State(3, False, 0.5)).r == pytest.approx(-0.05)


@given(st.integers(0, 20), TURNS, st.integers(0, 12), st.integers(0, 12))
def test_pr_v2_telescopes_over_every_stretch(start: int, turns: list[Observation], a: int, b: int) -> None:
    earned = rewards(start, turns)
    reached = states(start, turns)
    low, high = sorted((min(a, len(turns)), min(b, len(turns))))
    gain = potential(reached[high], start) - potential(reached[low], start)
    assert sum(earned[low:high]) == pytest.approx(gain, abs=1e-9)


@given(st.integers(0, 20), TURNS)
def test_pr_v2_never_charges_a_step_that_improves_everything(start: int, turns: list[Observation]) -> None:
    for (old, new), r in zip(pairwise(states(start, turns)), rewards(start, turns), strict=True):
        better = new.diagnostics <= old.diagnostics and new.safe >= old.safe and new.confidence >= old.confidence
        assert not better or r >= -1e-12


@given(st.integers(0, 20), TURNS)
def test_pr_v2_is_bounded_and_terminal_zero_sums_to_the_start(start: int, turns: list[Observation]) -> None:
    weights = Weights()
    assert all(abs(potential(state, start)) <= 2 * weights.a + weights.b + weights.c for state in states(start, turns))
    assert sum(rewards(start, turns, terminal="zero")) == pytest.approx(-potential(State(start), start), abs=1e-9)


def test_ten_no_op_renames_and_break_then_fix_are_farmable_under_pr_v1_only() -> None:
    harmless = [Observation(safe=True)] * 10
    broken = [Observation(diagnostics=3), Observation(diagnostics=0)]
    assert sum(rewards(0, harmless, "pr-v1")) == pytest.approx(4.0)
    assert sum(rewards(0, broken, "pr-v1")) == pytest.approx(0.8)
    assert sum(rewards(0, harmless)) == 0
    assert sum(rewards(0, broken)) == pytest.approx(0, abs=1e-12)


def test_missing_diagnostics_are_carried_forward_and_never_zero() -> None:
    assert rewards(5, [Observation(), Observation(diagnostics=None)]) == [0.0, 0.0]
    assert pr_v2(State(5), State(5).after(Observation()), 5).r == 0


def test_a_discount_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma"):
        rewards(1, [Observation()], gamma=0.9)


@given(st.integers(0, 40), st.integers(1, 50))
def test_pages_joined_are_the_list_and_a_list_that_changed_is_refused(size: int, limit: int) -> None:
    items: list[dict[str, Any]] = [{"uri": "a.py", "range": [n, 0, n, 1]} for n in range(size)]
    shown, meta = page(items, limit, None)
    joined, pages = list(shown), 1
    while meta:
        assert meta["truncated"] is True
        shown, meta = page(items, limit, meta["cursor"])
        joined += shown
        pages += 1
    assert joined == items and pages == max(1, -(-size // limit))
    if size > limit:
        cursor = page(items, limit, None)[1]["cursor"]
        with pytest.raises(LanserError) as caught:
            page(items[1:], limit, cursor)
        assert caught.value.code is Code.CONTENT_MODIFIED
    with pytest.raises(LanserError):
        page(items, limit, "nonsense")
