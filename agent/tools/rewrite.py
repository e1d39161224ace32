"""The whole-function edit: a block with the rewritten function becomes an OHEditor ``str_replace``.

Small models rewrite a short function far better than they point at lines. The function is found by name in the file
*as it is now*, the block is indented to fit, and the editor replaces the old text with the new one.
"""

from __future__ import annotations

from typing import ClassVar

from agent.errors import ToolError
from agent.tools.functions import NoFunction, Span, fit, locate, show
from agent.tools.tool import Arguments, Result, Scene


class RewriteArgs(Arguments):
    code: str
    """The whole function. A method may be written dedented; without decorators it keeps those that it has."""
    target: str | None = None
    """``path/to/module.py::qualname``; the function that the task names when it is left out."""


class Rewrite:
    """Replace one function."""

    name: ClassVar[str] = "rewrite"
    fences: ClassVar[tuple[str, ...]] = ("python", "py")
    body: ClassVar[str | None] = "code"
    info: ClassVar[str | None] = "target"
    help: ClassVar[str] = "replace a whole function, the one shown or the one that target names, by its new text"
    Args: ClassVar[type[Arguments]] = RewriteArgs

    async def run(self, args: Arguments, scene: Scene) -> Result:
        assert isinstance(args, RewriteArgs)
        path, qualname = _target(args.target or scene.task.focus)
        text = await _read(scene, path)
        try:
            old, new = replacement(text, qualname, args.code)
        except NoFunction as error:
            raise ToolError(f"error: {error}.") from None
        done = await scene.sandbox.edit(command="str_replace", path=path, old_str=old, new_str=new)
        if not done.ok:
            raise ToolError(f"error: {done.output.strip().split(chr(10))[0][:200]}")
        return Result(text=f"{qualname} is replaced.", touched=True)


def replacement(text: str, qualname: str, code: str) -> tuple[str, str]:
    """Old and new text of a ``str_replace`` that puts ``code`` in the function's place; ``old`` occurs exactly once.

    Raises :class:`NoFunction` when there is no such function, the block is not one, or it changes nothing.
    """
    span = locate(text, qualname)
    new, decorated = fit(code, span, qualname.rsplit(".", 1)[-1])
    start = span.start if decorated else span.header
    lines = text.split("\n")
    if _same(lines[start : span.end], new.split("\n")):
        raise NoFunction("the block is the same as the function now; nothing changed")
    # The same lines may stand in another class: take lines before them along until the text is unique.
    first = start
    while first > 0 and text.count("\n".join(lines[first : span.end])) > 1:
        first -= 1
    before = lines[first:start]
    return "\n".join(lines[first : span.end]), "\n".join([*before, new])


def current(text: str, qualname: str) -> str:
    """The function's source as a prompt shows it. Raises :class:`NoFunction`."""
    span: Span = locate(text, qualname)
    return show(text, span)


def split_target(target: str) -> tuple[str, str]:
    """Path and qualified name of ``path/to/module.py::qualname``; either may be empty."""
    path, _, qualname = target.partition("::")
    return path.strip(), qualname.strip()


def _target(target: str | None) -> tuple[str, str]:
    path, qualname = split_target(target or "")
    if not path or not qualname:
        raise ToolError("error: name the function after `python`, as path/to/module.py::qualname.")
    return path, qualname


async def _read(scene: Scene, path: str) -> str:
    try:
        data = await scene.sandbox.read(path)
    except FileNotFoundError:
        raise ToolError(f"error: there is no file {path}.") from None
    except OSError as error:
        raise ToolError(f"error: {path}: {error.strerror or error}.") from None
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ToolError(f"error: {path} is not UTF-8 text.") from None


def _same(old: list[str], new: list[str]) -> bool:
    return [line.rstrip() for line in old] == [line.rstrip() for line in new]
