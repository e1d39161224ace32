"""Relocation of symbols under random edits of real files, and symbolId."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks.packages import packages, under
from benchmarks.sources import pristine
from lsp.anchors import make
from lsp.errors import LanserError
from lsp.fingerprint import relation, symbol_id
from lsp.positions import Text
from lsp.relocate import resolve
from lsp.selectors import AnchorSpec, CursorSpec, Spec, SymbolSpec, parse
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
def sources(lacking: Callable[[str, str], NoReturn]) -> list[tuple[str, str]]:
    """Every module of the three packages that defines five functions or more, by name."""
    found = list[tuple[str, str]]()
    try:
        for package in packages().named(PACKAGES):
            tree = pristine(package)
            paths = [path for path in tree if path.endswith(".py") and under(path, package.source)]
            found += [(path, tree[path].data.decode()) for path in sorted(paths)]
    except TaskError as error:
        lacking("index", str(error))
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
    """A line more, as the first or the last one of the body."""
    before, mine, after = cut(text, symbol)
    extra = f"{' ' * symbol.body[1]}extra_{dice.randrange(99)} = 1"
    head = symbol.body[0] - symbol.span[0] if symbol.body[0] > symbol.sig[2] and dice.random() < 0.5 else len(mine)
    return "\n".join([*before, *mine[:head], extra, *mine[head:], *after])


def deleted(text: str, symbol: Symbol, dice: random.Random) -> str:
    before, _, after = cut(text, symbol)
    return "\n".join([*before, f"{' ' * symbol.span[1]}gone = None", *after])


KINDS = {"moved": moved, "re-indented": reindented, "neighbours": neighbour, "body edited": edited, "deleted": deleted}


def steps(*path: tuple[str, str]) -> str:
    return "ast://" + "/".join(f"[{kind}={name}]" for kind, name in path)


SELECTORS: dict[str, Callable[[str, Symbol], Spec | None]] = {
    "py://": lambda text, symbol: SymbolSpec(f"mod:{symbol.qualname}"),
    "ast://": lambda text, symbol: parse(steps(("module", "mod"), *symbol.parents, ("def", symbol.name))),
    "anchor:// made by lanser": lambda text, symbol: make("mod.py", Text(text), symbol.sig[0]),
    "anchor:// of a first line": lambda text, symbol: AnchorSpec("mod.py", symbol.sig_text.split("\n")[0]),
}
SURE = ("moved", "re-indented", "neighbours", "deleted")
"""Edits after which a symbol must be found again nine times in ten."""


class Fixed:
    """A workspace of one file, as relocation reads it."""

    def __init__(self, text: str) -> None:
        self._text = Text(text)

    def paths(self) -> list[str]:
        return ["mod.py"]

    def text(self, path: str) -> Text:
        return self._text

    def old(self, path: str, version: str) -> Text | None:
        return None

    def resolve(self, uri: str) -> str:
        return uri


def verdict(spec: Spec | None, symbol: Symbol, changed: str) -> str:
    """Right, refused or wrong: where ``spec`` of ``symbol`` leads in the changed text."""
    if spec is None:
        return "not made"
    wanted = [s for s in outline(changed).symbols if s.kind == "def" and s.qualname == symbol.qualname]
    try:
        found = resolve(spec, Fixed(changed)).winner.range
    except LanserError:
        return "refused" if wanted else "right"
    places = [s.sig[:2] if isinstance(spec, AnchorSpec) else s.name_span[:2] for s in wanted]
    return "right" if places == [found[:2]] else "wrong"


def trial(sources: list[tuple[str, str]], selector: str, trials: int) -> dict[str, Counter[str]]:
    """How often ``selector`` is right, refused, wrong or not to be had, by kind of edit; printed as a line of the table
    in docs/lanser.md.
    """
    dice = random.Random(11)
    rates: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for number in range(trials):
        kind = list(KINDS)[number % len(KINDS)]
        text = dice.choice(sources)[1]
        symbol = dice.choice(functions(text))
        changed = KINDS[kind](text, symbol, dice)
        rates[kind][verdict(SELECTORS[selector](text, symbol), symbol, changed)] += 1
    cells = (", ".join(str(count[word]) for word in ("right", "refused", "wrong")) for count in rates.values())
    print(f"\n| {selector}, {trials} trials | " + " | ".join(cells) + " |", rates)
    return rates


@pytest.mark.parametrize("trials", [200, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("selector", list(SELECTORS)[:3])
def test_a_symbol_is_found_again_and_never_mistaken(sources: list[tuple[str, str]], selector: str, trials: int) -> None:
    rates = trial(sources, selector, trials)
    assert sum(count["wrong"] for count in rates.values()) == 0, rates
    for kind in SURE:
        made = rates[kind].total() - rates[kind]["not made"]
        assert made and rates[kind]["right"] >= 0.9 * made, rates


@pytest.mark.slow
def test_a_bare_text_is_refused_rather_than_guessed_but_cannot_tell_a_twin(sources: list[tuple[str, str]]) -> None:
    rates = trial(sources, "anchor:// of a first line", 2000)
    deleted = rates.pop("deleted")
    # The twin that is left has the very text of the line that is gone: to name it is all that a text can do.
    assert 0 < deleted["wrong"] < 0.1 * deleted.total()
    assert sum(count["wrong"] for count in rates.values()) <= 0.005 * sum(count.total() for count in rates.values())


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


TWINS = """class A:
    def read(self):
        return open(self.path)


class B:
    def read(self):
        yield from sorted(self.lines)
"""


def test_an_anchor_of_a_version_is_not_taken_for_its_twin(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(TWINS)
    workspace = Workspace(tmp_path, (".py",))
    workspace.scan()
    texts = Snapshots(workspace)
    texts.text("m.py")
    pinned = AnchorSpec("m.py", "return open(self.path)", docVersion=texts.version("m.py"))
    made = make("m.py", Text(TWINS), 1)
    assert made is not None and resolve(made, texts).winner.range[0] == 1
    indented = "if True:\n" + "".join(f"    {line}\n" if line else "\n" for line in TWINS.splitlines())
    for text, line in (("# moved\n" + TWINS, 2), (indented, 2), (TWINS[TWINS.index("class B") :], None)):
        path.write_text(text)
        workspace.scan()
        if line is not None:
            assert resolve(made, texts).winner.range[0] == line
            assert text.splitlines()[resolve(pinned, texts).winner.range[0]].strip() == "return open(self.path)"
            continue
        for gone in (made, pinned):
            with pytest.raises(LanserError) as caught:
                resolve(gone, texts)
            assert caught.value.code.label in ("E/NOT_FOUND", "E/AMBIGUOUS")
        # A bare text can tell nothing: it is there once, in the wrong place.
        assert resolve(AnchorSpec("m.py", "def read(self):"), texts).winner.range[0] == 1
    for version, code in (("sha256:0", "E/VERSION_SKEW"), (pinned.docVersion, "E/AMBIGUOUS")):
        with pytest.raises(LanserError) as caught:
            resolve(AnchorSpec("m.py", "def read(self):", docVersion=version), texts)
        assert caught.value.code.label == code


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
