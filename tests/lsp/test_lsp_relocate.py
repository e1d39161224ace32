"""Relocation of symbols under random edits of real files, and symbolId."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.packages import packages, under
from benchmarks.sources import pristine
from lsp.errors import LanserError
from lsp.fingerprint import relation, symbol_id
from lsp.relocate import resolve
from lsp.selectors import AnchorSpec, AstSpec, CursorSpec, Spec, SymbolSpec, parse
from lsp.snapshots import Snapshots
from lsp.symbols import Symbol, outline
from lsp.workspace import Workspace
from sandbox.task import TaskError

PACKAGES = ("click", "toolz", "sqlparse")
MANY = """if x:
    def f(): ...
else:
    def f(): ...

@overload
def g(a: int): ...
@overload
def g(a: str): ...
def g(a): ...

class C:
    @property
    def p(self): ...
    @p.setter
    def p(self, v): ...
"""
METHOD = """class C:
    def method(self, a, b=1):
        total = a + b
        print(total, a, b)
        return total * 2
"""


@pytest.fixture(scope="module")
def sources() -> list[tuple[str, str]]:
    """Every module of the three packages that defines five functions or more, by name."""
    found = list[tuple[str, str]]()
    try:
        for package in packages().named(PACKAGES):
            tree = pristine(package)
            paths = [path for path in tree if path.endswith(".py") and under(path, package.source)]
            found += [(path, tree[path].data.decode()) for path in sorted(paths)]
    except TaskError as error:
        pytest.skip(str(error))
    return [(path, text) for path, text in found if len(functions(text)) >= 5]


def functions(text: str) -> list[Symbol]:
    """Functions and methods whose name is theirs alone."""
    found = outline(text).symbols
    names = Counter(symbol.qualname for symbol in found)
    return [symbol for symbol in found if symbol.kind == "def" and names[symbol.qualname] == 1]


def cut(text: str, symbol: Symbol) -> tuple[list[str], list[str], list[str]]:
    lines = text.split("\n")
    first, last = symbol.span[0], symbol.span[2] + (symbol.span[3] > 0)
    return lines[:first], lines[first:last], lines[last:]


def moved(text: str, symbol: Symbol, dice: random.Random) -> str:
    """Behind another function of the same parent, or down the file where there is none."""
    before, mine, after = cut(text, symbol)
    rest = "\n".join([*before, *after])
    alike = (other for other in functions(rest) if other.span[1] == symbol.span[1] and other.span[3] > 0)
    siblings = [other for other in alike if other.parents == symbol.parents]
    if not siblings:
        return "\n".join([*["# moved down"] * dice.randrange(1, 40), *before, *mine, *after])
    above, other, below = cut(rest, dice.choice(siblings))
    return "\n".join([*above, *other, "", *mine, "", *below])


def reindented(text: str, symbol: Symbol, dice: random.Random) -> str:
    before, mine, after = cut(text, symbol)
    pad = " " * symbol.span[1]
    return "\n".join([*before, f"{pad}if True:", *(f"    {line}" if line else line for line in mine), *after])


def neighbour(text: str, symbol: Symbol, dice: random.Random) -> str:
    before, mine, after = cut(text, symbol)
    pad = " " * symbol.span[1]
    other = [f"{pad}def neighbour_{dice.randrange(999)}(*args):", f"{pad}    return args", ""]
    return "\n".join([*before, *other, *mine, "", *other, *after])


def edited(text: str, symbol: Symbol, dice: random.Random) -> str:
    before, mine, after = cut(text, symbol)
    pad = " " * (symbol.body[1])
    return "\n".join([*before, *mine, f"{pad}extra_{dice.randrange(99)} = 1", *after])


def deleted(text: str, symbol: Symbol, dice: random.Random) -> str:
    before, _, after = cut(text, symbol)
    return "\n".join([*before, f"{' ' * symbol.span[1]}gone = None", *after])


KINDS = {"moved": moved, "re-indented": reindented, "neighbours": neighbour, "body edited": edited, "deleted": deleted}
SELECTORS: dict[str, Callable[[Symbol], Spec]] = {
    "py://": lambda symbol: SymbolSpec(f"mod:{symbol.qualname}"),
    "ast://": lambda symbol: AstSpec((("module", "mod"), *symbol.parents, ("def", symbol.name))),
    "anchor://": lambda symbol: AnchorSpec("mod.py", symbol.sig_text.split("\n")[0]),
}


def verdict(workspace: Workspace, spec: Spec, symbol: Symbol, changed: str) -> str:
    """Right, refused or wrong: where ``spec`` of ``symbol`` leads in the changed text."""
    wanted = [s for s in outline(changed).symbols if s.kind == "def" and s.qualname == symbol.qualname]
    try:
        found = resolve(spec, Snapshots(workspace)).winner.range
    except LanserError:
        return "refused" if wanted else "right"
    places = [s.sig[:2] if isinstance(spec, AnchorSpec) else s.name_span[:2] for s in wanted]
    return "right" if places == [found[:2]] else "wrong"


@pytest.mark.parametrize("trials", [200, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("selector", SELECTORS)
def test_a_symbol_is_found_again_and_never_mistaken(
    tmp_path: Path, sources: list[tuple[str, str]], selector: str, trials: int
) -> None:
    dice = random.Random(11)
    rates: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for trial in range(trials):
        kind = list(KINDS)[trial % len(KINDS)]
        text = dice.choice(sources)[1]
        symbol = dice.choice(functions(text))
        changed = KINDS[kind](text, symbol, dice)
        (tmp_path / "mod.py").write_text(changed, "utf-8")
        workspace = Workspace(tmp_path, (".py",))
        workspace.scan()
        came = verdict(workspace, SELECTORS[selector](symbol), symbol, changed)
        if came == "wrong":
            print("wrong:", kind, symbol.qualname)
        rates[kind][came] += 1
    print(selector, {kind: dict(count) for kind, count in rates.items()})
    if selector == "anchor://":
        # A first line that others have too is refused, and one that is left names the other: it is only a text.
        rates.pop("deleted")
    assert sum(count["wrong"] for count in rates.values()) == 0, rates
    for kind in ("moved", "re-indented", "neighbours", "deleted") if selector != "anchor://" else ():
        assert rates[kind]["right"] >= 0.9 * rates[kind].total(), rates


def test_a_cursor_with_a_version_follows_the_text_and_is_refused_when_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "mod.py"
    path.write_text("a = 1\nb = 2\nc = 3\n")
    workspace = Workspace(tmp_path, (".py",))
    workspace.scan()
    texts = Snapshots(workspace)
    texts.text("mod.py")
    version = texts.version("mod.py")
    path.write_text("# new\n# lines\na = 1\nb = 2\nc = 3\n")
    workspace.scan()
    assert resolve(CursorSpec("mod.py", 1, 0, docVersion=version), texts).winner.range == (3, 0, 3, 0)
    path.write_text("a = 1\nc = 3\n")
    workspace.scan()
    for spec, code in (
        (CursorSpec("mod.py", 1, 0, docVersion=version), "E/NOT_FOUND"),
        (CursorSpec("mod.py", 1, 0, docVersion="sha256:0"), "E/VERSION_SKEW"),
        (CursorSpec("../mod.py", 1, 0), "E/JAIL"),
    ):
        with pytest.raises(LanserError) as caught:
            resolve(spec, texts)
        assert caught.value.code.label == code


def test_two_unrelated_definitions_are_ambiguous_and_overloads_are_not(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(MANY)
    workspace = Workspace(tmp_path, (".py",))
    workspace.scan()
    texts = Snapshots(workspace)
    with pytest.raises(LanserError) as caught:
        resolve(parse("py://m#f"), texts)
    assert caught.value.code.label == "E/AMBIGUOUS"
    assert len(caught.value.evidence["candidates"]) == 2
    assert resolve(parse("py://m#g"), texts).winner.range[0] == 9
    assert resolve(parse("py://m#g?overload=2"), texts).winner.range[0] == 8
    assert resolve(parse("py://m#C.p:sig"), texts).winner.range[0] == 13


def test_a_changed_snippet_is_found_by_its_fingerprints_and_two_copies_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def load_data(path, strict=False):\n    pass\n\n\ndef other():\n    pass\n")
    workspace = Workspace(tmp_path, (".py",))
    workspace.scan()
    found = resolve(parse('anchor://m.py#"def load_data(path, strict=True):"'), Snapshots(workspace), tau=0.5)
    assert found.winner.range[0] == 0 and found.confidence < 1
    with pytest.raises(LanserError) as caught:
        resolve(parse('anchor://m.py#"pass"'), Snapshots(workspace))
    assert caught.value.code.label == "E/AMBIGUOUS"


def test_symbol_id_survives_moves_reformats_and_body_edits_and_tells_a_rename() -> None:
    source = METHOD
    mine = outline(source).find("C.method")
    assert mine is not None
    old = symbol_id(mine)
    variants = {
        "# moved\n\n\n" + source: "same",
        source.replace("total = a + b", "total = (a\n            + b)"): "same",
        source.replace("return total * 2", "return total * 3"): "same",
        source.replace("method", "renamed"): "renamed",
    }
    for text, expected in variants.items():
        symbol = next(s for s in outline(text).symbols if s.kind == "def")
        assert relation(old, symbol_id(symbol)) == expected, text
    stranger = outline("class C:\n    def unlike(self):\n        yield from open('x')\n").find("C.unlike")
    assert stranger is not None and relation(old, symbol_id(stranger)) == "other"
