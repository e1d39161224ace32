"""The navigator: a scripted policy that finds its way by the language server before it plays the gold patch.

Per episode, drawn by its key: one or two questions about what the task names (``def``, ``hover``, ``refs``, or ``diag``
of its file), then a rename, either a preview for what the task names, or one of a local variable that is written and
taken back. After the patch the tests that the tree shows are run, where that tool is on offer. So the confidence of
resolutions, the safety of mutations and an exit code are facts of its turns, and a model that imitates it asks. Local
variables, because a public name that comes back through an import is not always found again: the patch is played on the
base tree, and the tree ends up as the patch says.
"""

from __future__ import annotations

import ast
import random
import shlex
from collections.abc import Callable, Iterator

from agent.tools.functions import Function, NoFunction, locate
from agent.tools.rewrite import split_target
from agent.trajectory import Action
from lsp.modules import module_names
from sandbox.task import Task, TaskError

LOOKS = ("def", "hover", "refs", "diag")


def route(task: Task, read: Callable[[str], str], chance: random.Random) -> list[Action]:
    """What is asked and renamed before the patch. ``read`` gives the text of a file of the base tree or raises
    ``OSError``. Raises ``TaskError`` where the task names nothing to ask about."""
    path, qualname = split_target(task.focus or "")
    module = next(iter(module_names(path, _packages(path, read))), "")
    if not (module and qualname):
        raise TaskError(f"{task.instance_id} names no function to ask about: give its row a focus, path.py::qualname")
    looks = chance.sample(LOOKS, chance.choice((1, 2)))
    asked = [_look(verb, path, f"py://{module}#{qualname}") for verb in looks]
    local = local_variable(read(path), qualname)
    if local is None or chance.random() < 0.5:
        name = _renamable(qualname)
        return [*asked, _rename(f"py://{module}#{name}", f"{name.rpartition('.')[2]}2", apply=False)]
    line, column, name = local
    there = f"{path}@L{line}:C{column}"
    return [*asked, _rename(there, f"{name}2", apply=True), _rename(there, name, apply=True)]


def check(task: Task, read: Callable[[str], str]) -> list[Action]:
    """A run of the tests' files as the base tree has them; none where all of them are hidden."""
    files = dict.fromkeys(name.partition("::")[0] for name in (*task.FAIL_TO_PASS, *task.PASS_TO_PASS))
    shown = [path for path in files if _is_there(path, read)]
    return [Action(tool="test", args={"select": " ".join(map(shlex.quote, shown))})] if shown else []


def local_variable(text: str, qualname: str) -> tuple[int, int, str] | None:
    """Line and column, from 1, and name of a local variable where it is first set: of the named function, else of the
    first function that has one."""
    try:
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]
        header = locate(text, qualname).header + 1
    except (SyntaxError, ValueError, RecursionError, NoFunction):
        return None
    lines = text.split("\n")
    for function in sorted(functions, key=lambda one: (one.lineno != header, one.lineno)):
        for name in _locals(function):
            before = lines[name.lineno - 1].encode()[: name.col_offset].decode()
            return name.lineno, len(before) + 1, name.id
    return None


def _locals(function: Function) -> Iterator[ast.Name]:
    """Names that the function sets itself, no parameters, in the order of their places."""
    inside = list(ast.walk(function))
    taken = {node.arg for node in inside if isinstance(node, ast.arg)}
    taken |= {name for node in inside if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    stored = (node for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return iter(sorted((n for n in stored if n.id not in taken), key=lambda n: (n.lineno, n.col_offset)))


def _look(verb: str, path: str, selector: str) -> Action:
    about = {"path": path} if verb == "diag" else {"selector": selector}
    return Action(tool="lsp", args={"verb": verb, **about})


def _rename(selector: str, name: str, apply: bool) -> Action:
    written = {"apply": True} if apply else {}
    return Action(tool="lsp", args={"verb": "rename", "selector": selector, "name": name, **written})


def _renamable(qualname: str) -> str:
    """A method that Python itself calls keeps its name; its class does not."""
    outer, _, name = qualname.rpartition(".")
    return outer if outer and name.startswith("__") else qualname


def _packages(path: str, read: Callable[[str], str]) -> set[str]:
    """The ``__init__.py`` files above a module."""
    folders = path.split("/")[:-1]
    inits = ("/".join((*folders[:depth], "__init__.py")) for depth in range(1, len(folders) + 1))
    return {init for init in inits if _is_there(init, read)}


def _is_there(path: str, read: Callable[[str], str]) -> bool:
    try:
        read(path)
    except (OSError, UnicodeDecodeError):
        return False
    return True
