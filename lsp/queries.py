"""Verbs that ask: def, refs, hover, symbols, diag, locate (standard library only, tree-sitter for symbol and ast
selectors).

Each verb resolves its selector against the disk, asks the server at the resolved place, and becomes one bundle.
Invariants: what was resolved and what was asked are the same content (the whole verb runs inside one fresh answer);
locations are sorted, portable, and in code points.
"""

from __future__ import annotations

import keyword
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lsp import assemble
from lsp.canonical import digest
from lsp.diagnose import diagnose
from lsp.errors import Code, LanserError
from lsp.host import Host
from lsp.locations import convert, flat, sort_locations, spread
from lsp.positions import Encoding, Position, Range, Text
from lsp.ranking import TAU
from lsp.relocate import Resolution, resolve
from lsp.selectors import Spec, parse
from lsp.selectors import format as write
from lsp.session import Session, relative_argument

REFERENCES_CAP = 100_000
"""Longest page."""
ALIASES = {"references": "refs", "diagnostics": "diag", "definition": "def"}

_KEYWORDS = re.compile(rf"(?:(?:{'|'.join(keyword.kwlist)})\b\s*)*")

Facts = dict[str, Any]


class Query:
    """One selector verb in flight: where it leads, what the server says there."""

    def __init__(
        self,
        session: Session,
        selector: str | Spec,
        index_io: Encoding = "codepoint",
        tau: float = TAU,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> None:
        """``limit`` and ``cursor`` choose a page of a list (see :func:`page`)."""
        self.session = session
        self.spec = parse(selector, index_io) if isinstance(selector, str) else selector
        self.text = selector if isinstance(selector, str) else write(selector)
        self.tau = tau
        self.limit, self.cursor = limit, cursor
        self.resolution: Resolution | None = None

    def locate(self) -> Resolution:
        """Resolve against the last scan."""
        self.resolution = resolve(self.spec, self.session.snapshots, self.tau)
        return self.resolution

    async def at(self, host: Host, method: str, extra: Mapping[str, Any] | None = None) -> Any:
        """The server's answer to ``method`` at the resolved place."""
        winner = self.locate().winner
        self.session.documents.open([winner.uri], host.notify)
        text = self.session.document(winner.uri)
        line, column = text.to_encoding(first_name(text, winner.range), host.encoding)
        params = {
            "textDocument": {"uri": self.session.workspace.uri(winner.uri)},
            "position": {"line": line, "character": column},
        }
        return await host.request(method, {**params, **(extra or {})})

    def part(self) -> dict[str, Any] | None:
        """The ``resolution`` part of the bundle."""
        if self.resolution is None:
            return None
        version = self.session.snapshots.version(self.resolution.winner.uri)
        return self.resolution.as_dict(self.text, version)


async def run_verb(session: Session, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The bundle of one verb, also when it fails. ``args``: ``selector``, ``paths``, ``index_io``, ``tau``,
    ``limit``, ``cursor`` as the verb has them.
    """
    began = time.monotonic()
    verb = ALIASES.get(verb, verb)
    asked = assemble.request(
        verb, args.get("selector"), {key: value for key, value in args.items() if key != "selector"}
    )
    query: Query | None = None
    try:
        if verb == "diag":
            return assemble.bundle(asked, session, facts=await _diag(session, args.get("paths")), began=began)
        if verb == "symbols" and not args.get("selector"):
            return assemble.bundle(asked, session, facts=await _symbols(session, args), began=began)
        if verb not in VERBS:
            raise LanserError(Code.BAD_INPUT, f"no verb {verb!r}; verbs are {', '.join([*VERBS, 'diag', 'symbols'])}")
        if not args.get("selector"):
            raise LanserError(Code.BAD_INPUT, f"{verb} needs a selector")
        options = {key: args[key] for key in ("index_io", "tau", "limit", "cursor") if key in args}
        query = Query(session, args["selector"], **options)
        found, meta = await VERBS[verb](query)
        return assemble.bundle(asked, session, facts=found, resolution=query.part(), began=began, meta=meta)
    except LanserError as error:
        part = query.part() if query is not None else None
        return assemble.bundle(asked, session, resolution=part, error=error, began=began)


async def _definitions(query: Query) -> tuple[Facts, Facts]:
    async def work(host: Host) -> Facts:
        _need(query.session, host, "definitionProvider", "definition")
        return {"definitions": _locations(query.session, host, await query.at(host, "textDocument/definition"))}

    return await query.session.answered(work), {}


async def _references(query: Query) -> tuple[Facts, Facts]:
    async def work(host: Host) -> Facts:
        _need(query.session, host, "referencesProvider", "references")
        found = await query.at(host, "textDocument/references", {"context": {"includeDeclaration": True}})
        return {"references": _locations(query.session, host, found)}

    found = (await query.session.answered(work))["references"]
    shown, meta = page(found, query.limit, query.cursor)
    return {"references": shown, "total": len(found)}, meta


def first_name(text: Text, span: Range) -> Position:
    """Where a stretch of text is asked about: its start, or the name behind the keywords that it starts with
    (``def f`` is about ``f``).
    """
    stretch = text.slice(span)
    end = _KEYWORDS.match(stretch)
    named = end is not None and end[0] != "" and stretch[end.end() : end.end() + 1].isidentifier()
    return text.position(text.offset(span[:2]) + end.end()) if end and named else span[:2]


def page(items: list[dict[str, Any]], limit: int | None, cursor: str | None) -> tuple[list[dict[str, Any]], Facts]:
    """The items from ``cursor`` on, at most ``limit``, and the stable part of meta that says where to go on.

    A cursor names the list that it continues: ``CONTENT_MODIFIED`` when that has changed, ``BAD_INPUT`` for what is
    no cursor.
    """
    most = min(limit or REFERENCES_CAP, REFERENCES_CAP)
    if cursor is None and len(items) <= most:
        return items, {}
    name = digest(items)[7:23]
    start, at, old = (cursor or f"0@{name}").partition("@")
    if not start.isdigit() or not at:
        raise LanserError(Code.BAD_INPUT, f"{cursor!r} is no cursor; take it from meta.cursor of the page before")
    if old != name:
        raise LanserError(Code.CONTENT_MODIFIED, "the list has changed since the page before; begin again")
    end = int(start) + most
    meta: Facts = {"truncated": True, "cursor": f"{end}@{name}"} if end < len(items) else {}
    return items[int(start) : end], meta


async def _hover(query: Query) -> tuple[Facts, Facts]:
    async def work(host: Host) -> Facts:
        _need(query.session, host, "hoverProvider", "hover")
        answer = await query.at(host, "textDocument/hover") or {}
        text = markup(answer.get("contents"))
        return {"hover": query.session.scrub(text) if text else None}

    return await query.session.answered(work), {}


async def _locate(query: Query) -> tuple[Facts, Facts]:
    """Resolution alone: no server is asked."""
    query.session.workspace.scan()
    winner = query.locate().winner
    text = query.session.snapshots.text(winner.uri)
    excerpt = text.slice(winner.range) if text else ""
    return {
        "location": {"uri": winner.uri, "range": list(winner.range)},
        "text": excerpt,
        "symbolId": _symbol_id(query),
        "anchor": _anchor(winner.uri, text, winner.range),
    }, {}


def _anchor(path: str, text: Text | None, span: Range) -> str | None:
    """An anchor that finds the place again, where that is the first name of its line."""
    from lsp.anchors import make

    if text is None or not text.line(span[0]).strip():
        return None
    line = text.line(span[0])
    whole = (span[0], len(line) - len(line.lstrip()), span[0], len(line))
    first = first_name(text, whole)
    made = make(path, text, span[0]) if first_name(text, span) == first else None
    return write(made) if made else None


def _symbol_id(query: Query) -> str | None:
    from lsp.fingerprint import symbol_id
    from lsp.symbols import outline

    winner = query.resolution.winner if query.resolution else None
    text = query.session.snapshots.text(winner.uri) if winner else None
    symbol = outline(text.text).find(winner.name) if winner and text and winner.name else None
    return symbol_id(symbol) if symbol else None


async def _symbols_of(query: Query) -> tuple[Facts, Facts]:
    query.session.workspace.scan()
    path = query.locate().winner.uri
    return await _symbols(query.session, {"path": path}), {}


async def _symbols(session: Session, args: Mapping[str, Any]) -> Facts:
    """Symbols of one file, or of the workspace by name: what the server lists."""
    path, name = args.get("path"), args.get("query") or ""

    async def work(host: Host) -> Facts:
        if path is None:
            _need(session, host, "workspaceSymbolProvider", "workspace symbols")
            found = await host.request("workspace/symbol", {"query": name})
            return {"symbols": _workspace_symbols(session, host, found or [])}
        _need(session, host, "documentSymbolProvider", "document symbols")
        relative = relative_argument(session.workspace, path)
        session.documents.open([relative], host.notify)
        session.document(relative)
        uri = session.workspace.uri(relative)
        found = await host.request("textDocument/documentSymbol", {"textDocument": {"uri": uri}})
        return {"symbols": _document_symbols(session, host, relative, found or [], "")}

    return await session.answered(work)


async def _diag(session: Session, paths: list[str] | None) -> Facts:
    session.workspace.scan()
    wanted = None if not paths else expand(session, paths)
    found = await diagnose(session, wanted)
    return {**found, "count": found["counts"]["error"]}


def expand(session: Session, paths: list[str]) -> list[str]:
    """Files and folders that a user named, as source files. ``NOT_FOUND`` for what is neither."""
    sources = session.workspace.sources()
    wanted: set[str] = set()
    for path in paths:
        relative = relative_argument(session.workspace, path)
        below = [source for source in sources if relative in (".", source) or source.startswith(f"{relative}/")]
        if not below:
            raise LanserError(Code.NOT_FOUND, f"no source file at {path!r} in the workspace")
        wanted.update(below)
    return sorted(wanted)


def _need(session: Session, host: Host, capability: str, what: str) -> None:
    if not host.offers(capability):
        raise LanserError(Code.UNSUPPORTED_CAP, f"{session.profile.name} does not offer {what}")


def _locations(session: Session, host: Host, answer: Any) -> list[dict[str, Any]]:
    items = [
        {
            "uri": session.name(item["uri"]),
            "range": list(convert(session.text_of(item["uri"]), flat(item["range"]), host.encoding)),
        }
        for item in spread(answer)
    ]
    return sort_locations(items)


def _document_symbols(session: Session, host: Host, path: str, items: list[Any], prefix: str) -> list[dict[str, Any]]:
    text = session.document(path)
    out: list[dict[str, Any]] = []
    for item in items:
        name = f"{prefix}.{item['name']}" if prefix else item["name"]
        span = item.get("selectionRange") or item["location"]["range"]
        out.append(
            {"uri": path, "range": list(convert(text, flat(span), host.encoding)), "name": name, "kind": item["kind"]}
        )
        out += _document_symbols(session, host, path, item.get("children") or [], name)
    return sorted(out, key=lambda found: (found["uri"], *found["range"], found["name"])) if not prefix else out


def _workspace_symbols(session: Session, host: Host, items: list[Any]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for item in items:
        place = item["location"]
        span = (
            convert(session.text_of(place["uri"]), flat(place["range"]), host.encoding)
            if "range" in place
            else (0, 0, 0, 0)
        )
        out.append({"uri": session.name(place["uri"]), "range": list(span), "name": item["name"], "kind": item["kind"]})
    return sorted(out, key=lambda found: (found["uri"], *found["range"], found["name"]))


def markup(contents: Any) -> str:
    """``MarkupContent | MarkedString | MarkedString[]`` as text."""
    if isinstance(contents, list):
        return "\n\n".join(filter(None, map(markup, contents)))
    if isinstance(contents, Mapping):
        return str(contents.get("value") or "")
    return contents or ""


Verb = Callable[[Query], Awaitable[tuple[Facts, Facts]]]
VERBS: dict[str, Verb] = {
    "def": _definitions,
    "refs": _references,
    "hover": _hover,
    "symbols": _symbols_of,
    "locate": _locate,
}
"""Verbs with a selector: to facts and the stable part of meta that differs from the default."""
