"""Questions to the language server of the sandbox, by selectors that survive edits (lanser).

Answers are short enough for a context window: one line a place, with its source; long lists are cut and counted. A
mutation is a preview unless ``apply`` is set. What lanser says about its own answer becomes facts of the turn: the
confidence of the resolution, whether every safety check of the mutation passed, and the bundle itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from agent.tools.tool import Arguments, Result, Scene

LINES = 30
"""Places of one answer; more are counted."""
DIFF_LINES = 80
SEVERITIES = ("error", "warning")
NEEDS = {"def": "selector", "refs": "selector", "hover": "selector", "rename": "name", "code-action": "selector"}


class LspArgs(Arguments):
    verb: Literal["def", "refs", "hover", "symbols", "diag", "rename", "code-action"]
    """``def``, ``refs``, ``hover``: of what the selector names. ``symbols``: of a file. ``diag``: errors and warnings.
    ``rename``, ``code-action``: change code."""
    selector: str | None = None
    """Where: ``py://pkg.mod#Class.method``, ``path.py@L12:C5`` (1-based), or ``anchor://path.py#"some text"``."""
    path: str | None = None
    """Of ``symbols`` and ``diag``: a file (or folder); ``diag`` without it looks at everything."""
    name: str | None = None
    """Of ``rename``: the new name."""
    title: str | None = None
    """Of ``code-action``: the action to take, as listed without it."""
    apply: bool = False
    """Write the change; without it a mutation is only shown."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        need = NEEDS.get(self.verb)
        if need is not None and (not self.selector or not getattr(self, need)):
            missing = "a selector" if not self.selector else f"a {need}"
            raise ValueError(f"{self.verb} needs {missing}")
        if self.verb == "symbols" and not (self.path or self.selector):
            raise ValueError("symbols needs a path")
        return self


class Lsp:
    """One verb, one short answer."""

    name: ClassVar[str] = "lsp"
    fences: ClassVar[tuple[str, ...]] = ("lsp",)
    body: ClassVar[str | None] = None
    info: ClassVar[str | None] = None
    help: ClassVar[str] = (
        "ask the language server about code, or rename and fix with it (a preview unless apply is true)"
    )
    Args: ClassVar[type[Arguments]] = LspArgs

    async def run(self, args: Arguments, scene: Scene) -> Result:
        assert isinstance(args, LspArgs)
        bundle = await scene.sandbox.lsp(args.verb, **_asked(args))
        error = bundle.get("error")
        edits: Mapping[str, Any] = bundle.get("edits") or {}
        if error:
            text = f"error: {error.get('message', 'the language server did not answer')}."
        else:
            text = "\n".join(await _Answer(scene, args, bundle).lines()) or "nothing found"
        resolution = bundle.get("resolution") or {}
        return Result(
            text=text,
            ok=not error,
            touched=bool(edits.get("applied")),
            confidence=resolution.get("confidence"),
            safe=edits.get("safe"),
            bundle=bundle,
        )


def _asked(args: LspArgs) -> dict[str, Any]:
    asked: dict[str, Any] = {"selector": args.selector} if args.selector else {}
    if args.verb == "symbols" and args.path:
        asked["path"] = args.path
    if args.verb == "diag":
        # Named even when empty: without the key it would be the episode's own measurement.
        asked |= {"paths": [args.path] if args.path else [], "index_io": "codepoint"}
    if args.verb in ("rename", "code-action"):
        asked |= {"name": args.name} if args.verb == "rename" else {"title": args.title}
        # An episode works in uncommitted changes: there is nobody's work but its own to protect.
        asked |= {"apply": args.apply, "allow_dirty": True}
    return asked


class _Answer:
    """A bundle as lines."""

    def __init__(self, scene: Scene, args: LspArgs, bundle: Mapping[str, Any]) -> None:
        self._scene, self._args = scene, args
        self._facts: Mapping[str, Any] = bundle.get("facts") or {}
        self._edits: Mapping[str, Any] = bundle.get("edits") or {}
        self._texts: dict[str, list[str]] = {}

    async def lines(self) -> list[str]:
        if self._edits:
            return self._mutation()
        for key in ("definitions", "references"):
            if key in self._facts:
                found = self._facts[key]
                shown = [await self._place(item) for item in found[:LINES]]
                return [*shown, *_more(found, LINES, key)] if found else [f"no {key}"]
        if "hover" in self._facts:
            return str(self._facts["hover"] or "nothing to say about that place").split("\n")
        if "diagnostics" in self._facts:
            return self._diagnostics()
        return self._listed()

    def _listed(self) -> list[str]:
        symbols, actions = self._facts.get("symbols") or [], self._facts.get("actions") or []
        shown = [f"{item['range'][0] + 1}: {item['name']}" for item in symbols[: 2 * LINES]]
        shown += [f"{item['kind'] or 'action'}: {item['title']}" for item in actions[:LINES]]
        return shown + _more(symbols, 2 * LINES, "symbols") + _more(actions, LINES, "actions")

    def _diagnostics(self) -> list[str]:
        found = [d for d in self._facts["diagnostics"] if d["severity"] in SEVERITIES and not d["suppressed"]]
        found.sort(key=lambda d: (SEVERITIES.index(d["severity"]), d["uri"], *d["range"]))
        shown = [f"{_where(d)}: {d['severity']}: {d['message'].split(chr(10))[0]}" for d in found[:LINES]]
        return [*shown, *_more(found, LINES, "diagnostics")] if found else ["no errors, no warnings"]

    def _mutation(self) -> list[str]:
        diff = str(self._edits.get("diff") or "").rstrip("\n").split("\n")
        failed = [name for name, passed in self._edits.get("checks", {}).items() if not passed]
        files = len(self._edits.get("files") or self._edits.get("workspaceEdit", {}).get("changes", {}))
        if self._edits.get("applied"):
            said = f"written: {files} files"
        elif failed:
            said = f"not safe ({', '.join(failed)}): nothing was written"
        else:
            said = f"a preview of {files} files: nothing was written; set apply to true to write"
        return [*diff[:DIFF_LINES], *_more(diff, DIFF_LINES, "lines"), said]

    async def _place(self, item: Mapping[str, Any]) -> str:
        uri, line = str(item["uri"]), int(item["range"][0])
        if uri not in self._texts:
            self._texts[uri] = await _text(self._scene, uri)
        text = self._texts[uri]
        return f"{_where(item)}: {text[line].strip()[:160]}" if line < len(text) else _where(item)


async def _text(scene: Scene, uri: str) -> list[str]:
    """Lines of a file of the workspace; none for what lies elsewhere (the standard library, say)."""
    if "://" in uri or uri.startswith("/"):
        return []
    try:
        return (await scene.sandbox.read(uri)).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _where(item: Mapping[str, Any]) -> str:
    return f"{item['uri']}:{item['range'][0] + 1}:{item['range'][1] + 1}"


def _more(items: Sequence[object], shown: int, what: str) -> list[str]:
    return [f"[{len(items) - shown} more {what}]"] if len(items) > shown else []
