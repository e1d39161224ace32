"""What a tool's typed argument model says about it: schema, help in the prompt, reference page.

There is one source, the model: field names, types, defaults and the docstrings under the fields. Nothing about an
argument is written twice, so that no prompt and no page can promise what the tool would refuse.

    schema(tool)      OpenAI's function schema, for formats that carry one
    arguments(tool)   one line: ``command ("view" | "create"), path, view_range?``
    page(tools)       the reference in Markdown: ``python -m agent.tools > docs/tools.md``
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from agent.tools.tool import Arguments, Tool


def schema(tool: Tool) -> dict[str, Any]:
    """The tool as an OpenAI function: ``{"type": "function", "function": {name, description, parameters}}``."""
    function = {"name": tool.name, "description": tool.help, "parameters": parameters(tool)}
    return {"type": "function", "function": function}


def parameters(tool: Tool) -> dict[str, Any]:
    """JSON schema of the arguments, without titles. Shared by all who ask: not to be changed."""
    return _parameters(tool.Args)


@cache
def _parameters(model: type[Arguments]) -> dict[str, Any]:
    found = _plain(model.model_json_schema())
    return {"type": "object", "properties": found.get("properties", {}), "required": found.get("required", [])} | {
        key: found[key] for key in ("additionalProperties", "$defs") if key in found
    }


def arguments(tool: Tool) -> str:
    """The arguments on one line: names, choices in brackets, a ``?`` behind what may be left out."""
    found = parameters(tool)
    return ", ".join(_argument(name, one, name in found["required"]) for name, one in found["properties"].items())


def is_text(one: Mapping[str, Any]) -> bool:
    """Whether an argument with this schema is a text."""
    return _branch(one).get("type") == "string"


def page(tools: Iterable[Tool]) -> str:
    """The reference page of these tools."""
    return "\n\n".join(["# Tools", _INTRODUCTION, *(_section(tool) for tool in tools)]) + "\n"


_INTRODUCTION = (
    "Made from the tools' argument models by `python -m agent.tools`. In the fenced format a tool is a block whose\n"
    "info string is the fence shown here; in the others it is called by its name. A tool of another package is\n"
    "found by an entry point of the group `repodojo.tools` that names its class."
)


def _section(tool: Tool) -> str:
    lines = [f"## {tool.name}", "", f"{tool.help[0].upper()}{tool.help[1:]}.", "", _block(tool)]
    found = parameters(tool)
    if found["properties"]:
        lines += ["", "| argument | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(name, one, name in found["required"]) for name, one in found["properties"].items()]
    return "\n".join(lines)


def _block(tool: Tool) -> str:
    fences = " or ".join(f"`` ```{fence} ``" for fence in tool.fences)
    body = f"the body is `{tool.body}`" if tool.body else "the body is a JSON object of arguments"
    body = body if tool.Args.model_fields else "the body is empty"
    return f"Fence {fences}: {body}" + (f"; `{tool.info}` may follow the fence." if tool.info else ".")


def _row(name: str, one: Mapping[str, Any], required: bool) -> str:
    default = "required" if required else f"`{json.dumps(one['default'])}`" if "default" in one else "none"
    meaning = " ".join(str(one.get("description", "")).split())
    return f"| `{name}` | {_kind(one).replace('|', 'or')} | {default} | {meaning} |"


def _argument(name: str, one: Mapping[str, Any], required: bool) -> str:
    choices = f" ({_kind(one)})" if "enum" in _branch(one) else ""
    return f"{name}{'' if required else '?'}{choices}"


def _kind(one: Mapping[str, Any]) -> str:
    branch = _branch(one)
    if "enum" in branch:
        return " | ".join(f'"{choice}"' for choice in branch["enum"])
    if branch.get("type") == "array":
        items = branch.get("prefixItems") or [branch.get("items", {})]
        return "[" + ", ".join(str(item.get("type", "any")) for item in items) + "]"
    return str(branch.get("type") or branch.get("const") or "any")


def _branch(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a value that is given: an optional one is a union with null."""
    given = [branch for branch in one.get("anyOf", ()) if branch.get("type") != "null"]
    return given[0] if given else one


def _plain(value: Any) -> Any:
    """A schema as short as it can be said: no titles made from names (a property called ``title`` stays), no null
    beside what may be left out, descriptions on one line.
    """
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    short = {key: _plain(inner) for key, inner in value.items() if key != "title" or not isinstance(inner, str)}
    if isinstance(short.get("description"), str):
        short["description"] = " ".join(short["description"].replace("``", "`").split())
    if "default" in short and short["default"] is None:
        given = _branch(short)
        short = {**given, **{key: short[key] for key in short if key not in ("anyOf", "default")}}
    return short
