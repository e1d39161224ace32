"""Faults change one function by one span, parse, and can be taken back byte for byte."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.candidates import gold_patch, one_hunk, shuffled
from benchmarks.faults import KINDS, Fault, Function, Module, faults, starter
from sandbox.grading.patch import apply
from sandbox.grading.tree import Entry

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("agent", "sandbox", "benchmarks") for path in (ROOT / folder).glob("*.py"))
SAMPLES = {
    "comparison": ("if a in b:\n        return a", "if a not in b:\n        return a"),
    "bound": ("return a < b", "return a <= b"),
    "connective": ("return (a) and (b)", "return (a) or (b)"),
    "negation": ("return not a", "return a"),
    "number": ("return a[1]", "return a[2]"),
    "boolean": ("return f(a, strict=True)", "return f(a, strict=False)"),
    "arithmetic": ("a //= b", "a %= b"),
    "operands": ("return a.x - b", "return b - a.x"),
    "arguments": ("return f(a, b[0])", "return f(b[0], a)"),
    "variable": ("return a", "return b"),
    "twin": ("return a.lower()", "return a.upper()"),
    "index": ("return a[b:]", "return a[:b]"),
    "branches": ("return a if b else None", "return None if b else a"),
    "return": ("return f(a)", "f(a)"),
    "exception": ("raise ValueError(a)", "raise TypeError(a)"),
    "jump": ("for x in a:\n        break", "for x in a:\n        continue"),
    "statement": ("a.close()", "pass"),
}


def function(body: str, head: str = "def g(a, b):") -> Function:
    return Module(f"{head}\n    {body}\n".encode()).functions()[0]


def test_every_kind_has_a_sample() -> None:
    assert {kind.slug for kind in KINDS} == set(SAMPLES)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("slug", SAMPLES)
def test_a_kind_makes_its_mistake(slug: str) -> None:
    before, after = SAMPLES[slug]
    made = {fault.apply().decode() for fault in faults(function(before)) if fault.kind.slug == slug}
    assert f"def g(a, b):\n    {after}\n" in made


def test_docstrings_annotations_decorators_and_formatted_strings_are_left_alone() -> None:
    text = '@f(1)\ndef g(a: "1 < 2", b: int = 1) -> "a[1]":\n    """1 < 2"""\n    return f"{a < 1}"\n'
    found = [fault.apply() for fault in faults(Module(text.encode()).functions()[0])]
    assert {text for data in found for text in [data.decode()]} == {
        text.replace("int = 1", "int = 2"),
        text.replace("int = 1", "int = 0"),
    }


def test_a_comment_inside_an_expression_leaves_it_alone() -> None:
    assert not [f for f in faults(function("return (a  # <\n        < b)")) if f.kind.slug in ("bound", "comparison")]


@pytest.mark.parametrize("data", [b"x = 1\r\n", b"\xef\xbb\xbfx = 1\n", b"x =\n", b"\xff\n", b"x = 1"])
def test_a_text_whose_places_are_unsure_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        Module(data)


def test_a_name_that_is_defined_twice_is_nobodys_focus() -> None:
    first, second = "@property\n    def x(self):\n        return 1\n", "@x.setter\n    def x(self, v):\n        pass\n"
    text = f"class A:\n    {first}\n    {second}"
    assert Module(text.encode()).functions() == []


def test_lines_are_counted_from_def_to_the_end_without_the_docstring() -> None:
    text = 'class A:\n    @f\n    def x(self):\n        """One.\n\n        Two.\n        """\n\n        return 1\n'
    assert Module(text.encode()).functions()[0].lines == 3


def test_a_starter_function_has_at_most_eight_lines_and_a_short_block() -> None:
    body = "\n    ".join(["a = 1"] * 7)
    assert starter(function(body))
    assert not starter(function(body + "\n    a = 1"))
    assert not starter(function(f"return {'a' * 700}"))
    assert not starter(function("a = 1\n    \n    return a"))


@settings(max_examples=60)
@given(st.sampled_from(FILES), st.data())
def test_a_fault_changes_one_function_and_the_patch_restores_the_file(path: Path, data: st.DataObject) -> None:
    text = path.read_bytes()
    found = Module(text).functions()
    if not found or not (made := faults(data.draw(st.sampled_from(found)))):
        return
    fault: Fault = data.draw(st.sampled_from(made))
    broken = fault.apply()
    start, end = fault.function.block
    assert broken[:start] == text[:start] and broken.endswith(text[end:])
    before, after = (_functions(ast.parse(source)) for source in (text, broken))
    assert {name for name in before if before[name] != after[name]} == {fault.function.qualname}
    assert before.keys() == after.keys()
    patched = apply({"m.py": Entry("f", broken)}, gold_patch(fault, "m.py"))
    assert patched == {"m.py": Entry("f", text)}


def _functions(tree: ast.Module) -> dict[str, str]:
    """Names of functions of the module and of its classes, and their trees; the rest of the module under ``""``."""
    found: dict[str, str] = {}

    def take(node: ast.AST, prefix: str) -> None:
        for name, value in ast.iter_fields(node):
            if not isinstance(value, list):
                continue
            for child in list(value):
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and name in (
                    "body",
                    "orelse",
                    "finalbody",
                ):
                    found[prefix + child.name] = found.get(prefix + child.name, "") + ast.dump(child)
                    value.remove(child)
                elif isinstance(child, ast.ClassDef):
                    take(child, f"{prefix}{child.name}.")
                elif isinstance(child, ast.stmt | ast.ExceptHandler):
                    take(child, prefix)

    take(tree, "")
    return {**found, "": ast.dump(tree)}


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6), st.booleans())
def test_one_hunk_turns_one_text_into_the_other(old: list[str], new: list[str], newline: bool) -> None:
    end = "\n" if newline else "\nend\n"
    before, after = "\n".join(["x", *old]) + end, "\n".join(["x", *new]) + end
    if before != after:
        patch = one_hunk("m.py", before, after)
        assert apply({"m.py": Entry("f", before.encode())}, patch) == {"m.py": Entry("f", after.encode())}
        assert sum(line[:1] == " " for line in patch.split("\n")) <= 2


def test_kinds_take_turns_and_a_seed_decides_the_order() -> None:
    found = faults(function("return a[1] + b[2] if not a else f(a, b, 3)"))
    order = shuffled(found, 7)
    assert order == shuffled(found, 7) and sorted(map(repr, order)) == sorted(map(repr, found))
    kinds = {fault.kind.slug for fault in found}
    assert {fault.kind.slug for fault in order[: len(kinds)]} == kinds
    assert any(shuffled(found, seed) != order for seed in range(5))
