"""Finding a function by name, showing it, and putting a rewritten one in its place."""

from __future__ import annotations

import ast
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tools.functions import NoFunction, locate
from agent.tools.rewrite import current, replacement

SOURCE = '''\
import os


def first(x):
    return x + 1


class Box:
    size = 3

    @property
    def area(self):
        """Two lines,

        one of them empty.
        """
        return self.size * 2

    async def fetch(
        self,
        name,
    ):
        def inner():
            return name
        return inner()

    class Lid:
        def area(self):
            return 1


if os.name == "posix":
    def first_of(x): return x[0]
else:
    def first_of(x): return x[-1]


def last(x):
    return x
'''


def put(text: str, qualname: str, code: str) -> str:
    old, new = replacement(text, qualname, code)
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize("name", ["first", "Box.area", "Box.fetch", "Box.fetch.inner", "Box.Lid.area", "last"])
def test_a_function_that_is_shown_can_be_written_back_changed_and_restored(name: str) -> None:
    shown = current(SOURCE, name)
    last_line = shown.rstrip().split("\n")[-1]
    changed = shown.rstrip() + "  # changed"
    assert not shown.startswith(" ")
    edited = put(SOURCE, name, changed)
    assert edited != SOURCE and current(edited, name).endswith(last_line.strip() + "  # changed")
    assert put(edited, name, shown) == SOURCE


def test_a_block_that_keeps_its_indentation_fits_as_well_as_a_dedented_one() -> None:
    code = "def area(self):\n    return 7"
    assert put(SOURCE, "Box.area", code) == put(SOURCE, "Box.area", textwrap.indent(code, "    "))
    assert put(SOURCE, "Box.area", code) == put(SOURCE, "Box.area", textwrap.indent(code, "        "))


def test_a_block_without_decorators_leaves_them_and_one_with_them_replaces_them() -> None:
    kept = put(SOURCE, "Box.area", "def area(self):\n    return 7")
    assert "@property\n    def area(self):\n        return 7\n" in kept
    replaced = put(SOURCE, "Box.area", "@cached\ndef area(self):\n    return 7")
    assert "    @cached\n    def area(self):" in replaced and "@property" not in replaced


def test_the_last_definition_of_a_name_is_the_one_that_is_meant() -> None:
    assert current(SOURCE, "first_of") == "def first_of(x): return x[-1]"


def test_equal_methods_of_two_classes_are_told_apart() -> None:
    text = "class A:\n    def f(self):\n        return 1\n\n\nclass B:\n    def f(self):\n        return 1\n"
    for name, other in (("A.f", "B.f"), ("B.f", "A.f")):
        edited = put(text, name, "def f(self):\n    return 2")
        assert "return 2" in current(edited, name) and "return 1" in current(edited, other)


@pytest.mark.parametrize("name", ["first", "Box.area", "Box.fetch", "Box.Lid.area", "last"])
def test_a_file_that_does_not_parse_is_searched_by_its_lines(name: str) -> None:
    broken = SOURCE + "\nx = (\n"
    with pytest.raises(SyntaxError):
        ast.parse(broken)
    assert current(broken, name) == current(SOURCE, name)
    assert put(broken, name, current(SOURCE, name) + "  # fixed").count("# fixed") == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def second(x):\n    return x", "defines second, not first"),
        ("def first(x) return x", "not valid Python"),
        ("x = 1", "has to be the function first"),
        ("import os\ndef first(x):\n    return x", "has to be the function first"),
        ("", "has to be the function first"),
        ("def first(x):\n    return x + 1\n", "nothing changed"),
        ("def first(x):\n    return '\0'", "not valid Python"),
    ],
)
def test_a_block_that_is_not_a_changed_function_of_that_name_is_refused(code: str, reason: str) -> None:
    with pytest.raises(NoFunction, match=reason):
        replacement(SOURCE, "first", code)


def test_a_name_that_is_not_there_is_refused() -> None:
    for name in ("absent", "Box.absent", "Absent.area", "Box.Lid.Deeper.area"):
        with pytest.raises(NoFunction):
            locate(SOURCE, name)
        with pytest.raises(NoFunction):
            locate(SOURCE + "\n(", name)


@given(st.text(max_size=200), st.sampled_from(["first", "Box.area", "last"]))
@settings(max_examples=300)
def test_any_block_is_put_in_place_or_refused(code: str, name: str) -> None:
    try:
        edited = put(SOURCE, name, code)
    except NoFunction:
        return
    ast.parse(edited)


@given(st.text(max_size=300))
@settings(max_examples=300)
def test_any_text_is_searched_without_a_crash(text: str) -> None:
    with pytest.raises(NoFunction):
        locate(text, "some_name_that_is_not_there")
