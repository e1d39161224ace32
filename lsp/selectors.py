"""Selectors: five ways to say where, and their string form (standard library only; :mod:`lsp.bundle` types them for
JSON).

Grammar::

    selector  := cursor | range | symbolic | astpath | anchor
    cursor    := path "@L" INT ":C" INT
    range     := path "@R(" INT "," INT "->" INT "," INT ")"
    symbolic  := "py://" IDENT ("." IDENT)* "#" qualname (":" role)? ("?overload=" INT)?
    qualname  := IDENT ("." IDENT)*                          role := "def" | "sig" | "body" | "doc"
    astpath   := "ast://" step ("/" step)* ("/name[" INT "]")?      step := "[" kind "=" name "]"
    anchor    := "anchor://" path "#" '"' snippet '"' ("?ctx=" INT)?
    path      := RELPATH | "file://" URI_PATH

``# ? % "``, white space and control characters are percent-encoded in paths and snippets. Lines, columns and indices
are 1-based in strings and 0-based in JSON. Invariants: ``parse(format(s)) == s`` for selectors without
``docVersion``, ``indexing`` and ``hash``, which only JSON carries; what does not parse is ``BAD_SELECTOR_SYNTAX``
with the place where it went wrong.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from lsp.errors import Code, LanserError
from lsp.positions import Encoding

Role = Literal["def", "sig", "body", "doc"]
StepKind = Literal["module", "class", "def", "assign"]
ROLES: tuple[Role, ...] = ("def", "sig", "body", "doc")
STEP_KINDS: tuple[StepKind, ...] = ("module", "class", "def", "assign")
DEFAULT_CTX = 24
EXAMPLES = 'FILE@L1:C1, FILE@R(1,1->1,5), py://module#name, ast://[module=m]/[def=f], anchor://FILE#"text"'
"""One of each kind, for messages."""
_CURSOR = re.compile(r"(?s)(.+)@L(\d+):C(\d+)")
_RANGE = re.compile(r"(?s)(.+)@R\((\d+),(\d+)->(\d+),(\d+)\)")
_COMPILER = re.compile(r"(?s)(.+?):(\d+)(?::(\d+))?:?")
"""A place as compilers, and lanser itself, print it."""
_SYMBOL = re.compile(r"py://([^#?]+)#([^:?#]+)(?::([a-z]+))?(?:\?overload=(\d+))?")
_AST = re.compile(r"ast://(\[[^\]]*\](?:/\[[^\]]*\])*)(?:/name\[(\d+)\])?")
_STEP = re.compile(r"\[([a-z]+)=([^\]]+)\]")
_ANCHOR = re.compile(r'(?s)anchor://([^#]+)#"([^"]*)"(?:\?ctx=(\d+))?')
_ESCAPED = re.compile(r'[\x00-\x20#?%"\x7f]')


@dataclass(frozen=True)
class CursorSpec:
    """A place between two characters."""

    uri: str
    line: int
    col: int
    indexing: Encoding = "codepoint"
    docVersion: str | None = None
    kind: Literal["cursor"] = "cursor"


@dataclass(frozen=True)
class RangeSpec:
    """A stretch of text."""

    uri: str
    start: tuple[int, int]
    end: tuple[int, int]
    indexing: Encoding = "codepoint"
    docVersion: str | None = None
    kind: Literal["range"] = "range"


@dataclass(frozen=True)
class SymbolSpec:
    """A definition by name: ``pkg.mod:Class.method``."""

    qualname: str
    role: Role | None = None
    overload: int | None = None
    """0-based index among the decorated overloads; ``None`` is the implementation."""
    docVersion: str | None = None
    kind: Literal["symbol"] = "symbol"

    @property
    def module(self) -> str:
        return self.qualname.partition(":")[0]

    @property
    def name(self) -> str:
        return self.qualname.partition(":")[2]


@dataclass(frozen=True)
class AstSpec:
    """A definition by its place in the tree of definitions."""

    path: tuple[tuple[StepKind, str], ...]
    name: int | None = None
    """0-based index of an identifier inside the definition's source; 0 is its own name. ``None``: the name too."""
    docVersion: str | None = None
    kind: Literal["ast"] = "ast"


@dataclass(frozen=True)
class AnchorSpec:
    """A piece of text."""

    uri: str
    snippet: str
    ctx: int = DEFAULT_CTX
    """Characters that a fuzzy match may be longer or shorter than the snippet."""
    hash: str | None = None
    """``sha1:`` of the snippet, when it was taken from a file."""
    docVersion: str | None = None
    kind: Literal["anchor"] = "anchor"


Spec = CursorSpec | RangeSpec | SymbolSpec | AstSpec | AnchorSpec


def parse(text: str, indexing: Encoding = "codepoint") -> Spec:
    """The selector that ``text`` writes. ``BAD_SELECTOR_SYNTAX`` when it writes none."""
    if text.startswith("py://"):
        return _parse_symbol(text)
    if text.startswith("ast://"):
        return _parse_ast(text)
    if text.startswith("anchor://"):
        return _parse_anchor(text)
    if match := _CURSOR.fullmatch(text):
        line, col = _ordinal(match[2], text), _ordinal(match[3], text)
        return CursorSpec(_parse_path(match[1], text), line, col, indexing)
    if match := _RANGE.fullmatch(text):
        numbers = [_ordinal(match[group], text) for group in (2, 3, 4, 5)]
        start, end = (numbers[0], numbers[1]), (numbers[2], numbers[3])
        if end < start:
            raise _bad(text, "a range ends after it starts")
        return RangeSpec(_parse_path(match[1], text), start, end, indexing)
    if match := _COMPILER.fullmatch(text):
        raise _bad(text, f"write {_encode(match[1])}@L{match[2]}:C{match[3] or 1}")
    raise _bad(text, f"expected one of {EXAMPLES}")


def format(spec: Spec) -> str:
    """The string form."""
    match spec:
        case CursorSpec():
            return f"{_escape(spec.uri)}@L{spec.line + 1}:C{spec.col + 1}"
        case RangeSpec():
            (a, b), (c, d) = spec.start, spec.end
            return f"{_escape(spec.uri)}@R({a + 1},{b + 1}->{c + 1},{d + 1})"
        case SymbolSpec():
            role = f":{spec.role}" if spec.role else ""
            overload = f"?overload={spec.overload + 1}" if spec.overload is not None else ""
            return f"py://{spec.module}#{spec.name}{role}{overload}"
        case AstSpec():
            steps = "/".join(f"[{kind}={name}]" for kind, name in spec.path)
            return f"ast://{steps}" + (f"/name[{spec.name + 1}]" if spec.name is not None else "")
        case AnchorSpec():
            ctx = f"?ctx={spec.ctx}" if spec.ctx != DEFAULT_CTX else ""
            return f'anchor://{_escape(spec.uri)}#"{_encode(spec.snippet)}"{ctx}'


def snippet_hash(snippet: str) -> str:
    """``sha1:`` and 40 hex digits of a snippet (the paper's choice; it guards nothing)."""
    return f"sha1:{hashlib.sha1(snippet.encode('utf-8', 'surrogatepass'), usedforsecurity=False).hexdigest()}"


def check(spec: Spec) -> Spec:
    """``spec`` when its fields are in their domains (JSON brings them in unparsed). ``BAD_SELECTOR_SYNTAX``
    otherwise.
    """
    match spec:
        case CursorSpec():
            bad = min(spec.line, spec.col) < 0 or not spec.uri
        case RangeSpec():
            bad = min(*spec.start, *spec.end) < 0 or tuple(spec.end) < tuple(spec.start) or not spec.uri
        case SymbolSpec():
            bad = not (_dotted(spec.module) and _dotted(spec.name)) or (spec.overload is not None and spec.overload < 0)
        case AstSpec():
            bad = not spec.path or not all(_dotted(name) for _, name in spec.path)
        case AnchorSpec():
            bad = not spec.uri or not spec.snippet or spec.ctx < 0
    if bad:
        raise LanserError(Code.BAD_SELECTOR_SYNTAX, f"a field of this {spec.kind} selector is out of its domain")
    return spec


def _parse_symbol(text: str) -> SymbolSpec:
    match = _SYMBOL.fullmatch(text)
    if match is None or not _dotted(match[1]) or not _dotted(match[2]):
        raise _bad(text, "expected py://package.module#Class.method, then :def, :sig, :body or :doc, then ?overload=1")
    overload = _ordinal(match[4], text) if match[4] else None
    return SymbolSpec(f"{match[1]}:{match[2]}", _role(match[3], text), overload)


def _parse_ast(text: str) -> AstSpec:
    match = _AST.fullmatch(text)
    if match is None:
        raise _bad(text, "expected ast://[module=pkg.mod]/[class=C]/[def=m], then /name[1]")
    steps: list[tuple[StepKind, str]] = []
    for part in match[1].split("/"):
        step = _STEP.fullmatch(part)
        kind: StepKind | None = next((known for known in STEP_KINDS if step is not None and known == step[1]), None)
        if step is None or kind is None or not _dotted(step[2]):
            raise _bad(text, f"{part!r} is no step; kinds are {', '.join(STEP_KINDS)}")
        steps.append((kind, step[2]))
    return AstSpec(tuple(steps), _ordinal(match[2], text) if match[2] else None)


def _parse_anchor(text: str) -> AnchorSpec:
    match = _ANCHOR.fullmatch(text)
    if match is None or not match[2]:
        raise _bad(text, 'expected anchor://FILE#"text", then ?ctx=24')
    ctx = int(match[3]) if match[3] else DEFAULT_CTX
    return AnchorSpec(_parse_path(match[1], text), _decode(match[2], text), ctx)


def _role(word: str | None, whole: str) -> Role | None:
    if word is None:
        return None
    for role in ROLES:
        if role == word:
            return role
    raise _bad(whole, f"no role {word!r}; roles are {', '.join(ROLES)}")


def _parse_path(text: str, whole: str) -> str:
    if text.startswith("file://"):
        return text
    return _decode(text, whole)


def _escape(path: str) -> str:
    return path if path.startswith("file://") else _encode(path)


def _encode(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", text)


def _decode(text: str, whole: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _bad(whole, "percent-encoding that is not UTF-8") from None


def _dotted(text: str) -> bool:
    return bool(text) and all(part.isidentifier() for part in text.split("."))


def _ordinal(digits: str, whole: str) -> int:
    value = int(digits) - 1
    if value < 0:
        raise _bad(whole, "lines, columns and indices start at 1")
    return value


def _bad(text: str, why: str) -> LanserError:
    return LanserError(Code.BAD_SELECTOR_SYNTAX, f"cannot read the selector {text!r}: {why}")
