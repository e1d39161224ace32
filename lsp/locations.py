"""Locations as bundles carry them: workspace-relative URIs, flat ranges in code points (standard library only).

Invariant: nothing that is specific to the machine or the folder survives. A file of the workspace is its relative
path; one outside is named by where it stands in a library (``typeshed:``, ``site:``, ``stdlib:``), else by its file
name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lsp.positions import Encoding, Range, Text
from lsp.workspace import Workspace, uri_to_path

_OUTSIDE = (
    (re.compile(r".*/typeshed-fallback/"), "typeshed:"),
    (re.compile(r".*/vendored/typeshed/[^/]+/"), "typeshed:"),
    (re.compile(r".*/(?:pyrefly_bundled_typeshed[^/]*|third_party/typeshed|jedi/third_party/typeshed)/"), "typeshed:"),
    (re.compile(r".*/(?:site|dist)-packages/"), "site:"),
    (re.compile(r".*/lib/python3\.\d+/"), "stdlib:"),
)


def name_uri(workspace: Workspace, uri: str, extra: tuple[str, ...] = ()) -> str:
    """The portable name of what ``uri`` points at. ``extra`` are import roots that count as ``site:``."""
    inside = workspace.relative(uri)
    if inside is not None:
        return inside
    path = uri_to_path(uri)
    if path is None:
        return uri.replace("vendored:///", "typeshed:").replace("vendored://", "typeshed:")
    for root in extra:
        if path.startswith(root.rstrip("/") + "/"):
            return "site:" + path[len(root.rstrip("/")) + 1 :]
    for pattern, name in _OUTSIDE:
        match = pattern.match(path)
        if match:
            return name + path[match.end() :]
    return "external:" + path.rpartition("/")[2]


def flat(span: Mapping[str, Any]) -> Range:
    """An LSP range as [sL, sC, eL, eC], in the server's encoding."""
    start, end = span["start"], span["end"]
    return (start["line"], start["character"], end["line"], end["character"])


def lsp_range(span: Range) -> dict[str, Any]:
    return {"start": {"line": span[0], "character": span[1]}, "end": {"line": span[2], "character": span[3]}}


def convert(text: Text | None, span: Range, encoding: Encoding) -> Range:
    """A range of the server in code points; unchanged where the text is not at hand."""
    return span if text is None else text.range_from(span, encoding)


def spread(answer: Any) -> list[dict[str, Any]]:
    """``Location | Location[] | LocationLink[] | null`` as a list of locations."""
    items = answer if isinstance(answer, list) else [answer] if answer else []
    return [
        {"uri": item["targetUri"], "range": item["targetSelectionRange"]} if "targetUri" in item else item
        for item in items
    ]


def sort_locations(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By (uri, range), duplicates dropped."""
    unique = {(item["uri"], *item["range"]): item for item in items}
    return [unique[key] for key in sorted(unique)]


TextOf = Callable[[str], Text | None]
"""The text behind a URI, as the server saw it."""
