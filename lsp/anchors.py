"""Anchors: places named by a piece of their text (section 4 of docs/lanser.md).

A bare text names whatever has that text now; where its own line is gone and another has the same text, nothing tells
them apart. So an anchor that lanser makes (:func:`make`) goes on, line by line, until nothing else in the file could
pass for it, and one that names a version (``docVersion``) is widened in that version in the same way.

Invariant: a candidate is ``exact`` only when the text is there as written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from lsp.errors import Code, LanserError
from lsp.fingerprint import jaccard, winnow
from lsp.positions import Range, Text
from lsp.ranking import MARGIN, TAU, Candidate, Tree
from lsp.selectors import AnchorSpec, snippet_hash
from lsp.symbols import tokens

MOST_WINDOWS = 20_000
"""Windows of a file that a fuzzy anchor is compared with at most."""
MOST_LINES = 12
"""Lines of an anchor that is made."""
BEGINS = 0.5
"""Share of the fingerprints of its first line that a fuzzy match of several lines has."""
_SPACE = re.compile(r"\s+")


def snippets(spec: AnchorSpec, tree: Tree) -> Iterator[Candidate]:
    """Exact occurrences of the snippet; when there is none, windows whose fingerprints are alike."""
    path = tree.resolve(spec.uri)
    text = tree.text(path)
    if text is None:
        raise LanserError(Code.NOT_FOUND, f"no readable source file {spec.uri!r} in the workspace")
    if spec.hash is not None and spec.hash != snippet_hash(spec.snippet):
        raise LanserError(Code.BAD_SELECTOR_SYNTAX, "the hash of this anchor is not that of its snippet")
    return _found(spec, path, text) if spec.docVersion is None else _pinned(spec, path, text, tree)


def make(path: str, text: Text, line: int, least: int = 1) -> AnchorSpec | None:
    """The shortest anchor for the start of ``line`` (0-based) that nothing else in the file could pass for, of at least
    ``least`` lines; ``None`` where :data:`MOST_LINES` lines, or the block that begins there, do not suffice.
    """
    indent = _indent(text.line(line))
    for height in range(least, max(least, min(MOST_LINES, _block(text, line))) + 1):
        snippet = text.slice((line, indent, line + height - 1, 10**9)).rstrip()
        if snippet.count("\n") + 1 < height:
            continue
        spec = AnchorSpec(path, snippet, hash=snippet_hash(snippet))
        if snippet and text.text.count(snippet) == 1 and not _lookalike(spec, path, text, line):
            return spec
    return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _block(text: Text, line: int) -> int:
    """Lines of the block that ``line`` opens: what follows it may change without it. No limit where it opens none."""
    indent = _indent(text.line(line))
    end = line + 1
    while end < text.lines:
        rest = text.line(end)
        if rest.strip() and _indent(rest) <= indent and rest.lstrip()[0] not in ")]}":
            break
        end += 1
    return end - line if any(text.line(inner).strip() for inner in range(line + 1, end)) else MOST_LINES


def _lookalike(spec: AnchorSpec, path: str, text: Text, line: int) -> bool:
    """Whether another place would be taken for the anchor, were its own gone."""
    others = (found for found in _fuzzy(spec, path, text) if found.range[0] != line)
    return any(found.score >= TAU - MARGIN for found in others)


def _pinned(spec: AnchorSpec, path: str, text: Text, tree: Tree) -> Iterator[Candidate]:
    """Where the snippet of a known version is now: told by what surrounded it there."""
    from lsp.candidates import mapped

    old = tree.old(path, spec.docVersion or "")
    if old is None:
        raise LanserError(Code.VERSION_SKEW, f"the version {spec.docVersion} of {path} is not known here any more")
    places = list(_occurrences(old.text, spec.snippet))
    if len(places) != 1:
        code = Code.AMBIGUOUS if places else Code.NOT_FOUND
        raise LanserError(code, f"that version of {path} has the text {len(places)} times; an anchor needs one place")
    span = _range(old, places[0], places[0] + len(spec.snippet))
    wide = make(path, old, span[0], spec.snippet.count("\n") + 1)
    if wide is None or old.text == text.text:
        yield mapped(path, old, text, span)
        return
    shift = span[1] - _indent(old.line(span[0]))
    for found in _found(replace(wide, ctx=max(spec.ctx, wide.ctx)), path, text):
        yield _narrowed(found, spec.snippet, shift, text)


def _narrowed(found: Candidate, snippet: str, shift: int, text: Text) -> Candidate:
    """The snippet inside the window that was found; the window where the snippet was edited."""
    low, high = text.offset(found.range[:2]), text.offset(found.range[2:])
    start = low + shift if text.text.startswith(snippet, low + shift) else text.text.find(snippet, low, high)
    return found if start < 0 else replace(found, range=_range(text, start, start + len(snippet)))


def _found(spec: AnchorSpec, path: str, text: Text) -> Iterator[Candidate]:
    places = list(_occurrences(text.text, spec.snippet))
    for start in places:
        yield Candidate(path, _range(text, start, start + len(spec.snippet)), exact=True)
    if not places:
        yield from _fuzzy(spec, path, text)


def _occurrences(text: str, snippet: str) -> Iterator[int]:
    start = text.find(snippet)
    while start >= 0:
        yield start
        start = text.find(snippet, start + 1)


def _fuzzy(spec: AnchorSpec, path: str, text: Text) -> Iterator[Candidate]:
    """Windows of as many lines as the snippet has, give or take ``ctx`` characters, that share its fingerprints."""
    want, words, size = winnow(spec.snippet), tokens(spec.snippet), _size(spec.snippet)
    height = spec.snippet.count("\n") + 1
    first = winnow(spec.snippet.partition("\n")[0])
    sizes = _sizes(text.text)
    for line in range(min(text.lines, MOST_WINDOWS)):
        if sizes[line] == 0 or abs(sum(sizes[line : line + height]) - size) > spec.ctx:
            continue
        # A line that was added inside makes the window one line further down as much alike: it must begin alike, too.
        if height > 1 and jaccard(first, winnow(text.line(line))) < BEGINS:
            continue
        stretch = text.slice((line, 0, line + height - 1, 10**9))
        body = stretch.strip()
        alike = jaccard(want, winnow(body))
        if alike == 0:
            continue
        start = text.offset((line, 0)) + len(stretch) - len(stretch.lstrip())
        features = {"s_ast": alike, "j_token": jaccard(words, tokens(body))}
        yield Candidate(path, _range(text, start, start + len(body)), features)


@lru_cache(maxsize=8)
def _sizes(text: str) -> tuple[int, ...]:
    """:func:`_size` of every line; an anchor that is made compares with the same file a dozen times."""
    whole = Text(text)
    return tuple(_size(whole.line(line)) for line in range(whole.lines))


def _size(text: str) -> int:
    """Characters that are no white space: what an indentation does not change."""
    return len(_SPACE.sub("", text))


def _range(text: Text, start: int, end: int) -> Range:
    return (*text.position(start), *text.position(end))
