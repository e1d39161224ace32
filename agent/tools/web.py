"""A search on the web, through an endpoint that speaks SearXNG's JSON form.

Off unless an endpoint is configured, and refused where the sandbox's policy is offline: an agent that may read the web
may read the fix. Only titles, addresses and excerpts come back; nothing is fetched but the endpoint's own answer, which
is data of a stranger: bounded in size, checked in shape, never obeyed.
"""

from __future__ import annotations

import asyncio
import json
import urllib.parse
import urllib.request
from typing import Any, ClassVar

from pydantic import Field

from agent.errors import ToolError
from agent.tools.tool import Arguments, Result, Scene

RESULTS = 5
EXCERPT = 240
LIMIT = 1 << 20
"""Bytes of an answer."""
TIMEOUT_S = 15.0


class WebSearchArgs(Arguments):
    query: str = Field(min_length=1)
    """What to look for."""


class WebSearch:
    """The first results."""

    name: ClassVar[str] = "web_search"
    fences: ClassVar[tuple[str, ...]] = ("web_search",)
    body: ClassVar[str | None] = "query"
    info: ClassVar[str | None] = None
    help: ClassVar[str] = "search the web; titles, addresses and excerpts come back"
    Args: ClassVar[type[Arguments]] = WebSearchArgs

    async def run(self, args: Arguments, scene: Scene) -> Result:
        assert isinstance(args, WebSearchArgs)
        if scene.web.offline or scene.web.endpoint is None:
            raise ToolError("error: web_search is off: this sandbox is offline.")
        query = " ".join(args.query.split())
        if not query:
            raise ToolError("error: the query is empty.")
        try:
            answer = await asyncio.to_thread(fetch, scene.web.endpoint, query)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ToolError(f"error: the search endpoint gave no answer ({reason}).") from None
        return Result(text=render(answer))


def fetch(endpoint: str, query: str) -> dict[str, Any]:
    """The endpoint's answer. Raises ``OSError`` (no answer) or ``ValueError`` (not SearXNG's JSON)."""
    url = f"{endpoint.rstrip('/')}/search?" + urllib.parse.urlencode({"q": query, "format": "json"})
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
        data = reply.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise ValueError(f"more than {LIMIT} bytes")
    found = json.loads(data)
    if not isinstance(found, dict) or not isinstance(found.get("results"), list):
        raise ValueError("no list of results")
    return found


def render(answer: dict[str, Any]) -> str:
    """The first :data:`RESULTS` results, three lines each."""
    shown: list[str] = []
    for item in answer["results"][:RESULTS]:
        if isinstance(item, dict):
            title, url, text = (" ".join(str(item.get(key) or "").split()) for key in ("title", "url", "content"))
            shown.append(f"{title[:EXCERPT]}\n  {url[:EXCERPT]}\n  {text[:EXCERPT]}")
    return "\n".join(shown) or "no results"
