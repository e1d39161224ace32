"""Tools, one a module: a class with a typed argument model, from which its checks, its help and its schema come.

Invariants: a tool touches nothing but the :class:`~agent.tools.tool.Scene` it is given; what the policy did wrong is a
``ToolError`` whose text is the observation; a failure of the sandbox passes through untouched.

A tool of somebody else's is found by an entry point of the group ``repodojo.tools`` that names its class.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module, metadata

from agent.tools.tool import Tool

GROUP = "repodojo.tools"
BUILT_IN = {
    "bash": "agent.tools.bash:Bash",
    "edit": "agent.tools.edit:Edit",
    "rewrite": "agent.tools.rewrite:Rewrite",
    "lsp": "agent.tools.lsp:Lsp",
    "search": "agent.tools.search:Search",
    "test": "agent.tools.test:Test",
    "web_search": "agent.tools.web:WebSearch",
    "submit": "agent.tools.submit:Submit",
}


def check_names(names: Sequence[str]) -> None:
    """Refuse a list of tools that cannot be played with. Raises ``ValueError`` with one sentence."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the tool '{twice[0]}' is listed twice; a tool's name is its identity, list it once")
    if "submit" not in names:
        raise ValueError("no episode can succeed without the tool 'submit'; add it to agent.tools")
    if "summarise" in names:
        raise ValueError("no tool may be called 'summarise': so is called the turn that sums up; rename it")
    for name in names:
        _place(name)


def load(names: Sequence[str]) -> dict[str, Tool]:
    """The tools by name, in the order asked for. Raises ``ValueError`` when two claim the same fence."""
    tools = {name: _class(name)() for name in names}
    owner: dict[str, str] = {}
    for name, tool in tools.items():
        for fence in tool.fences:
            if owner.setdefault(fence, name) != name:
                raise ValueError(
                    f"the tools '{owner[fence]}' and '{name}' both claim ```{fence} blocks; list one of them"
                )
    return tools


@cache
def _class(name: str) -> type[Tool]:
    place = _place(name)
    module, _, attribute = place.partition(":")
    try:
        found: type[Tool] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the tool '{name}' cannot be loaded from {place}: {error}") from None
    if found.name != name:
        raise ValueError(f"the tool at {place} calls itself '{found.name}'; its entry point has to be named so, too")
    return found


@cache
def _place(name: str) -> str:
    offered = _offered(tuple(sys.path))
    known = dict.fromkeys([*BUILT_IN, *(other for other, _ in offered)])
    places = sorted({place for other, place in (*BUILT_IN.items(), *offered) if other == name})
    if len(places) > 1:
        raise ValueError(f"the tool name '{name}' is used twice, by {' and '.join(places)}; rename one entry point")
    if places:
        return places[0]
    close = difflib.get_close_matches(name, known, n=1)
    way_out = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known)}"
    raise ValueError(f"there is no tool '{name}'; {way_out}")


@cache
def _offered(path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Names and places of the tools that the installed packages offer. ``path``, the import path, is what the answer
    depends on: every package is asked once, not once a tool."""
    return tuple((entry.name, entry.value) for entry in metadata.entry_points(group=GROUP))
