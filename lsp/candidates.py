"""Candidates of every kind of selector but anchors, with their features (section 4 of docs/lanser.md).

Invariant: a candidate is ``exact`` only when the structure says so without any similarity.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from lsp.errors import Code, LanserError
from lsp.fingerprint import jaccard
from lsp.modules import find_module, module_names, nearness
from lsp.positions import Range, Text
from lsp.ranking import TAU, Candidate, Tree
from lsp.selectors import AstSpec, CursorSpec, RangeSpec, SymbolSpec
from lsp.symbols import Symbol, outline, tokens


def position(spec: CursorSpec | RangeSpec, tree: Tree) -> Candidate:
    """A cursor or range as it stands, or mapped from the version that it names."""
    path = tree.resolve(spec.uri)
    text = tree.text(path)
    if text is None:
        raise LanserError(Code.NOT_FOUND, f"no readable source file {spec.uri!r} in the workspace")
    span = _span(spec)
    if spec.docVersion is None:
        return Candidate(path, _inside(text, span, spec), exact=True)
    old = tree.old(path, spec.docVersion)
    if old is None:
        raise LanserError(Code.VERSION_SKEW, f"the version {spec.docVersion} of {path} is not known here any more")
    return mapped(path, old, text, _inside(old, span, spec))


def symbols(spec: SymbolSpec, tree: Tree) -> Iterator[Candidate]:
    """Definitions of the name in its module; when there is none, those of that name anywhere, with the evidence."""
    paths = tree.paths()
    exact = False
    for path in find_module(spec.module, frozenset(paths)):
        for symbol in _meant(_outline(tree, path).named(spec.name), spec):
            exact = True
            yield Candidate(path, symbol.range_of(spec.role), name=symbol.qualname, exact=True)
        if exact:
            return
    yield from _elsewhere(spec.module, spec.name.split("."), None, tree, spec)


def nodes(spec: AstSpec, tree: Tree) -> Iterator[Candidate]:
    """Definitions whose chain of kinds and names is the path."""
    modules = [name for kind, name in spec.path if kind == "module"]
    chain = [(kind, name) for kind, name in spec.path if kind != "module"]
    if len(modules) != 1 or spec.path[0][0] != "module" or not chain:
        raise LanserError(
            Code.BAD_SELECTOR_SYNTAX, "an ast:// path starts with one [module=...] step, then definitions"
        )
    exact = False
    for path in find_module(modules[0], frozenset(tree.paths())):
        found = [symbol for symbol in _outline(tree, path).symbols if _chain(symbol) == chain]
        for symbol in _meant(found, spec):
            exact = True
            yield Candidate(path, _identifier(symbol, spec.name, tree, path), name=symbol.qualname, exact=True)
        if exact:
            return
    yield from _elsewhere(modules[0], [name for _, name in chain], chain[-1][0], tree, spec)


def _elsewhere(
    module: str, names: list[str], kind: str | None, tree: Tree, spec: SymbolSpec | AstSpec
) -> Iterator[Candidate]:
    paths = frozenset(tree.paths())
    role = spec.role if isinstance(spec, SymbolSpec) else None
    for path in sorted(paths):
        text = tree.text(path)
        if text is None or names[-1] not in text.text:
            continue
        close = nearness(module, module_names(path, paths))
        for symbol in _meant(_by_last(_outline(tree, path).symbols, names[-1]), spec):
            alike = jaccard(names, symbol.qualname.split("."))
            features = {"s_ast": _structure(symbol, names, kind), "s_module": close, "j_token": alike}
            span = symbol.range_of(role) if role else symbol.name_span
            yield Candidate(path, span, features, symbol.qualname)


def _by_last(found: tuple[Symbol, ...], name: str) -> list[Symbol]:
    return [symbol for symbol in found if symbol.name == name]


def _structure(symbol: Symbol, names: list[str], kind: str | None) -> float:
    """Share of the qualified name, read from its end, that agrees; halved for another kind."""
    mine = symbol.qualname.split(".")
    agree = 0
    for left, right in zip(reversed(mine), reversed(names), strict=False):
        if left != right:
            break
        agree += 1
    share = agree / max(len(mine), len(names))
    return share if kind is None or symbol.kind == kind else share / 2


def _meant(found: list[Symbol], spec: SymbolSpec | AstSpec) -> list[Symbol]:
    """Of several definitions of one name those that it means: getters before setters, implementations before overloads.

    ``overload=i`` is the i-th decorated one. Definitions that neither rule tells apart all remain.
    """
    overloads = [symbol for symbol in found if symbol.overload]
    if isinstance(spec, SymbolSpec) and spec.overload is not None:
        return overloads[spec.overload : spec.overload + 1]
    groups: dict[str, list[Symbol]] = {}
    for symbol in found:
        if not symbol.accessor:
            groups.setdefault(symbol.qualname, []).append(symbol)
    return [symbol for group in groups.values() for symbol in _implementations(group)]


def _implementations(group: list[Symbol]) -> list[Symbol]:
    real = [symbol for symbol in group if not symbol.overload]
    if not real:
        return group[-1:]
    if all(symbol.kind == "assign" for symbol in real):
        # A variable that is assigned again is still the same variable: its first assignment names it.
        return real[:1]
    return [symbol for symbol in real if symbol.kind != "assign"] if any(s.kind != "assign" for s in real) else real


def _chain(symbol: Symbol) -> list[tuple[str, str]]:
    return [*symbol.parents, (symbol.kind, symbol.name)]


def _identifier(symbol: Symbol, index: int | None, tree: Tree, path: str) -> Range:
    """The ``index``-th identifier of a definition, counted from its own name."""
    if index is None or index == 0:
        return symbol.name_span
    import re

    text = tree.text(path)
    assert text is not None
    start, end = text.offset(symbol.name_span[2:]), text.offset(symbol.span[2:])
    found = list(re.finditer(r"[^\W\d]\w*", text.text[start:end]))
    if index > len(found):
        raise LanserError(Code.NOT_FOUND, f"{symbol.qualname} has no identifier number {index + 1}")
    match = found[index - 1]
    return _range(text, start + match.start(), start + match.end())


def _outline(tree: Tree, path: str):
    text = tree.text(path)
    return outline(text.text if text else "")


def _span(spec: CursorSpec | RangeSpec) -> Range:
    if isinstance(spec, CursorSpec):
        return (spec.line, spec.col, spec.line, spec.col)
    return (*spec.start, *spec.end)


def _inside(text: Text, span: Range, spec: CursorSpec | RangeSpec) -> Range:
    """``span`` in code points. ``NOT_FOUND`` when it is not in the file."""
    for place in (span[:2], span[2:]):
        line = text.line(place[0])
        width = text.to_encoding((place[0], len(line)), spec.indexing)[1]
        if place[0] >= text.lines or place[1] > width:
            where = f"{spec.uri}@L{place[0] + 1}:C{place[1] + 1}"
            raise LanserError(Code.NOT_FOUND, f"{where} lies outside the file, which has {text.lines} lines")
    return text.range_from(span, spec.indexing)


def mapped(path: str, old: Text, new: Text, span: Range) -> Candidate:
    """``span`` of ``old`` carried over to ``new`` by the line diff, and by the character diff inside a changed
    stretch.
    """
    if old.text == new.text:
        return Candidate(path, span, exact=True)
    before, after = [[text.line(n) for n in range(text.lines)] for text in (old, new)]
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, a, b, c, _ in matcher.get_opcodes():
        if tag == "equal" and a <= span[0] and span[2] < b:
            shift = c - a
            return Candidate(path, (span[0] + shift, span[1], span[2] + shift, span[3]), exact=True)
    return _within_change(path, old, new, span, matcher)


def _within_change(path: str, old: Text, new: Text, span: Range, matcher: difflib.SequenceMatcher[str]) -> Candidate:
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "replace" or not (a <= span[0] and span[2] < b):
            continue
        low, high = old.offset((a, 0)), old.offset((b - 1, 10**9))
        base, top = new.offset((c, 0)), new.offset((d - 1, 10**9))
        inner = difflib.SequenceMatcher(None, old.text[low:high], new.text[base:top], autojunk=False)
        start, end = old.offset(span[:2]) - low, old.offset(span[2:]) - low
        for block in inner.get_matching_blocks():
            if block.a <= start and end <= block.a + block.size and block.size > 0:
                moved = base + block.b + start - block.a
                features = {"j_token": jaccard(tokens(old.line(span[0])), tokens(new.line(new.position(moved)[0])))}
                return _accepted(Candidate(path, _range(new, moved, moved + end - start), features))
    raise LanserError(Code.NOT_FOUND, f"what stood at {path}:{span[0] + 1} is gone from the file as it is now")


def _accepted(candidate: Candidate) -> Candidate:
    if candidate.score < TAU:
        message = (
            f"the line of the selector was changed too much to be sure of {candidate.uri}:{candidate.range[0] + 1}"
        )
        raise LanserError(Code.AMBIGUOUS, message, {"candidates": [candidate.as_dict()]})
    return candidate


def _range(text: Text, start: int, end: int) -> Range:
    return (*text.position(start), *text.position(end))
