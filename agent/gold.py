"""The gold patch as actions: what a scripted solver plays, and what the warm start imitates.

A patch that stays inside the function that the task names is one ``rewrite``, where that tool is on offer; any other is
played with the editor, one ``str_replace`` a hunk. Either way the tree ends up exactly as the patch says, which is
checked here before anything is played.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator

from agent.tools.functions import NoFunction
from agent.tools.rewrite import current, replacement, split_target
from agent.trajectory import Action
from sandbox.grading.patch import Change, PatchError, apply_changes, parse
from sandbox.grading.tree import Entry
from sandbox.task import Task, TaskError

Read = Callable[[str], str]
"""Text of one file of the base tree, by its path."""


def gold_action(task: Task, file_text: str) -> str:
    """The named function as the gold patch leaves it, in the form in which the prompt shows it.

    ``file_text`` is the focus file of the base tree. Raises ``TaskError`` when the task names no function, or its
    patch does not fit the text or reaches beyond the function.
    """
    path, qualname = split_target(task.focus or "")
    if not qualname:
        raise TaskError(f"{task.instance_id} names no function to rewrite")
    fixed = _fixed(task, {path: file_text})[path]
    try:
        code = current(fixed, qualname)
        old, new = replacement(file_text, qualname, code)
    except NoFunction as error:
        raise TaskError(f"{task.instance_id}: {error}") from None
    if file_text.replace(old, new, 1) != fixed:
        raise TaskError(f"the gold patch of {task.instance_id} reaches beyond {task.focus}")
    return code


def gold_actions(task: Task, read: Read, rewrite: bool = True) -> list[Action]:
    """Actions that apply the gold patch, without the final ``submit``. ``rewrite``: that tool is on offer. Raises
    ``TaskError``."""
    try:
        changes = parse(task.patch)
        path, _ = split_target(task.focus or "")
        if rewrite and [change.path for change in changes] == [path]:
            with contextlib.suppress(TaskError):
                return [Action(tool="rewrite", args={"code": gold_action(task, read(path))})]
        return [action for change in changes for action in _edits(task, change, read)]
    except (PatchError, OSError, UnicodeDecodeError) as error:
        raise TaskError(f"the gold patch of {task.instance_id} cannot be played: {error}") from None


def _fixed(task: Task, files: dict[str, str]) -> dict[str, str]:
    changes = [change for change in parse(task.patch) if change.path in files]
    tree = {path: Entry("f", text.encode()) for path, text in files.items()}
    try:
        after = apply_changes(tree, changes)
    except ValueError as error:
        raise TaskError(f"the gold patch of {task.instance_id} does not apply: {error}") from None
    return {path: entry.data.decode() for path, entry in after.items()}


def _edits(task: Task, change: Change, read: Read) -> Iterator[Action]:
    if change.new is None:
        yield Action(tool="bash", args={"command": f"rm -- {shlex.quote(change.path)}"})
    elif change.literal is not None or change.mode == "l" or (change.old not in (None, change.new)):
        raise TaskError(f"the gold patch of {task.instance_id} does to {change.path} what the editor cannot do")
    elif change.old is None:
        text = "".join(line for hunk in change.hunks for line in hunk.new)
        yield Action(tool="edit", args={"command": "create", "path": change.path, "file_text": text})
    else:
        yield from _replacements(change, read(change.path))


def _replacements(change: Change, text: str) -> Iterator[Action]:
    """One ``str_replace`` a hunk, each unique in the text as the ones before it leave it."""
    lines = text.splitlines(keepends=True) if "\r" not in text else text.split("\n")
    moved = 0
    for hunk in change.hunks:
        start = hunk.start + moved
        end = start + len(hunk.old)
        first = start
        while first > 0 and "".join(lines).count("".join(lines[first:end])) > 1:
            first -= 1
        before = "".join(lines[first:start])
        old, new = before + "".join(hunk.old), before + "".join(hunk.new)
        yield Action(tool="edit", args={"command": "str_replace", "path": change.path, "old_str": old, "new_str": new})
        lines[start:end] = hunk.new
        moved += len(hunk.new) - len(hunk.old)
