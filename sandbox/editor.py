"""openhands-aci's OHEditor behind a guard. Its five commands, its messages; none of its nine known faults.

OHEditor decides and words, the guard owns every contact with the file system: paths are resolved (links included) and
must lie in the workspace; text is read and written by :mod:`sandbox.textfile`, so that mode, line ends, encoding and a
missing final newline survive; folders are listed without a shell; ``old_str`` matches verbatim or not at all; undo
brings back the exact bytes, or removes the file where the edit made it. Messages name the workspace by its place in the
sandbox, never by a path of the host.

Importing openhands-aci as it is takes 1.2 s of CPU: modules for conversions, encoding guesses and linters, whose work
the guard does itself or refuses, are replaced by stand-ins before the import; and the root logger, which the import
sets to DEBUG, is put back. Linting reports new syntax errors of Python; undefined names are the language server's
business.
"""

# Plain system calls: this runs inside, once per file and per command.
# ruff: noqa: PTH208

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox import textfile, tree

if TYPE_CHECKING:
    from openhands_aci.editor.results import CLIResult

SHOWN = "/workspace"
"""How messages name the workspace."""
HISTORY = 10
"""Edits of one file that can be undone, as in OHEditor."""
DEPTH = 2
"""Levels that the view of a folder shows."""
PARAMETERS = frozenset(
    ("command", "path", "file_text", "view_range", "old_str", "new_str", "insert_line", "enable_linting")
)
_KINDS: dict[str, tuple[type, ...]] = {
    "command": (str,), "path": (str,), "file_text": (str,), "old_str": (str,), "new_str": (str,),
    "view_range": (list,), "insert_line": (int,), "enable_linting": (bool,),
}  # fmt: skip


# -- the import -------------------------------------------------------------------------------------------------------


class _Converter:
    """In place of a converter of office files and recordings, which drags in a data science stack."""

    def convert(self, path: str) -> Any:
        raise ValueError(f"{Path(path).suffix} files are not shown here")


class _NoHistory:
    """In place of a history on disk: the guard keeps the exact bytes instead."""

    def __init__(self, max_history_per_file: int) -> None:
        pass

    def add_history(self, file_path: Path, content: str) -> None:
        pass


class _NoLinter:
    """In place of linters that run programs through a shell."""


def _stand_ins() -> dict[str, dict[str, Any]]:
    return {
        "openhands_aci.editor.md_converter": {"MarkdownConverter": _Converter},
        "openhands_aci.editor.history": {"FileHistoryManager": _NoHistory},
        "openhands_aci.linter": {"DefaultLinter": _NoLinter},
        "binaryornot": {},
        "binaryornot.check": {"is_binary": None},
        "charset_normalizer": {},
    }


def _import() -> Any:
    """The module of OHEditor, imported lightly and without a trace in other modules' logging or imports."""
    if loaded := sys.modules.get("openhands_aci.editor.editor"):
        return loaded
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    # Only names that nobody has loaded yet are replaced, and only while the import runs.
    replaced = {name: content for name, content in _stand_ins().items() if name not in sys.modules}
    for name, content in replaced.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module
    try:
        return importlib.import_module("openhands_aci.editor.editor")
    finally:
        for name in replaced:
            del sys.modules[name]
        root.setLevel(level)
        root.handlers[:] = handlers


_aci = _import()
_exceptions = importlib.import_module("openhands_aci.editor.exceptions")
_results = importlib.import_module("openhands_aci.editor.results")


class _Utf8:
    """In place of an encoding guess: the guard finds the encoding itself."""

    default_encoding = "utf-8"

    def get_encoding(self, path: Path) -> str:
        return self.default_encoding


class _Editor(_aci.OHEditor):  # pyright: ignore[reportUntypedBaseClass]
    """OHEditor with every read, write and listing replaced."""

    def __init__(self, root: str) -> None:
        super().__init__(workspace_root=root)
        self._encoding_manager = _Utf8()
        self._past: dict[str, list[bytes | None]] = {}

    # Reads and writes.

    def _bytes(self, path: Path) -> bytes:
        self.validate_file(path)
        return path.read_bytes()

    def read_file(
        self, path: Path, start_line: int | None = None, end_line: int | None = None, encoding: str = ""
    ) -> str:
        text = textfile.normalise(textfile.decode(self._bytes(path))[0])
        if start_line is None or end_line is None:
            return text
        return "".join(_lines(text)[max(0, start_line - 1) : end_line])

    def write_file(self, path: Path, file_text: str, encoding: str = "") -> None:
        before = self._bytes(path) if path.exists() else None
        old, style = textfile.decode(before) if before is not None else ("", textfile.Style())
        text = file_text if before is None else textfile.restore(textfile.normalise(file_text), old, style)
        try:
            data = textfile.encode(text, style)
        except UnicodeEncodeError as error:
            raise _exceptions.ToolError(
                f"Nothing was written to {path}: the text holds a character that cannot be encoded."
            ) from error
        if not path.parent.is_dir():
            raise _exceptions.ToolError(f"Nothing was written: the folder {path.parent} does not exist.")
        textfile.replace(str(path), data)
        self._remember(path, before)

    def _remember(self, path: Path, before: bytes | None) -> None:
        past = self._past.setdefault(str(path), [])
        past.append(before)
        del past[:-HISTORY]

    def validate_file(self, path: Path) -> None:
        if not path.is_file():
            return
        if path.stat().st_size > self._max_file_size:
            reason = f"the file is larger than {self._max_file_size >> 20} MB"
            raise _exceptions.FileValidationError(path=str(path), reason=reason)
        with path.open("rb") as file:
            binary = textfile.is_binary(file.read(textfile.SAMPLE))
        if binary and not self.is_supported_binary_file(path):
            raise _exceptions.FileValidationError(
                path=str(path), reason="the file is binary and cannot be shown or edited as text"
            )

    def _count_lines(self, path: Path, encoding: str = "") -> int:
        return len(_lines(self.read_file(path)))

    # Commands that OHEditor gets wrong.

    def str_replace(
        self, path: Path, old_str: str, new_str: str | None, enable_linting: bool, encoding: str = ""
    ) -> CLIResult:
        old, new = textfile.normalise(old_str), textfile.normalise(new_str or "")
        if not old:
            raise _exceptions.ToolError("No replacement was performed, old_str is empty.")
        text = self.read_file(path)
        if old not in text:
            raise _exceptions.ToolError(
                f"No replacement was performed, old_str did not appear verbatim in {path}.{_near(old, text)}"
            )
        return super().str_replace(path, old, new, enable_linting)

    def insert(self, path: Path, insert_line: int, new_str: str, enable_linting: bool, encoding: str = "") -> CLIResult:
        text = self.read_file(path)
        lines = _lines(text)
        if not 0 <= insert_line <= len(lines):
            hint = f"It should be within the range of allowed values: {[0, len(lines)]}"
            raise _exceptions.EditorToolParameterInvalidError("insert_line", insert_line, hint)
        added = textfile.normalise(new_str)
        before, after = "".join(lines[:insert_line]), "".join(lines[insert_line:])
        # After a last line without a newline: it gets one, and the new last line has none, as before.
        bare = before and not before.endswith("\n")
        result = f"{before}\n{added}" if bare else f"{before}{added}\n{after}"
        self.write_file(path, result)
        return self._inserted(path, insert_line, added.count("\n") + 1, text, result, enable_linting)

    def _inserted(self, path: Path, line: int, count: int, old: str, new: str, lint: bool) -> CLIResult:
        window = _aci.SNIPPET_CONTEXT_WINDOW
        first = max(0, line - window)
        snippet = "".join(_lines(new)[first : line + window + count])
        message = (
            f"The file {path} has been edited. {self._make_output(snippet, 'a snippet of the edited file', first + 1)}"
        )
        if lint:
            message += "\n" + self._run_linting(old, new, path) + "\n"
        message += "Review the changes and make sure they are as expected. Edit the file again if necessary."
        return _results.CLIResult(output=message, path=str(path), prev_exist=True, old_content=old, new_content=new)

    def undo_edit(self, path: Path) -> CLIResult:
        past = self._past.get(str(path))
        if not past:
            raise _exceptions.ToolError(f"No edit history found for {path}.")
        before = past.pop()
        if before is None:
            path.unlink()
            return _results.CLIResult(
                output=f"Last edit to {path} undone successfully: the file is removed.", path=str(path)
            )
        textfile.replace(str(path), before)
        text = self.read_file(path)
        return _results.CLIResult(
            output=f"Last edit to {path} undone successfully. {self._make_output(text, str(path))}", path=str(path)
        )

    def view(self, path: Path, view_range: list[int] | None = None) -> CLIResult:
        if not path.is_dir():
            return super().view(path, view_range)
        if view_range:
            hint = "The `view_range` parameter is not allowed when `path` points to a directory."
            raise _exceptions.EditorToolParameterInvalidError("view_range", view_range, hint)
        return _results.CLIResult(output=_results.maybe_truncate(_listing(path)), path=str(path))

    def _run_linting(self, old_content: str, new_content: str, path: Path) -> str:
        if path.suffix != ".py":
            return f"No linter for {path.suffix or 'such'} files."
        error = _syntax_error(new_content)
        if error and error != _syntax_error(old_content):
            return f"Linting issues found in the changes:\n- {error}\n"
        return "No linting issues found in the changes."


def _lines(text: str) -> list[str]:
    """Lines with their ends; only a line feed ends a line."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _syntax_error(text: str) -> str:
    try:
        compile(text, "<edit>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"Line {error.lineno}, Column {error.offset or 1}: {error.msg}"
    except ValueError as error:
        return str(error)
    return ""


def _near(old: str, text: str) -> str:
    """Where the text stands with other white space: a hint, never a guess acted upon."""
    words = old.split()
    if not words or len(old) > 10_000:
        return ""
    found = re.search(r"\s+".join(map(re.escape, words)), text)
    if not found:
        return ""
    line = text.count("\n", 0, found.start()) + 1
    return f" Line {line} matches but for white space: copy it exactly, indentation included."


def _listing(folder: Path) -> str:
    """The view of a folder: two levels, hidden names left out and counted."""
    hidden = sum(name.startswith(".") for name in os.listdir(folder))
    found = sorted(_below(folder, DEPTH))
    text = f"Here's the files and directories up to {DEPTH} levels deep in {folder}, excluding hidden items:\n"
    text += "\n".join([f"{folder}/", *found])
    if hidden:
        text += (
            f"\n\n{hidden} hidden files/directories in this directory are excluded. You can use 'ls -la' to see them."
        )
    return text


def _below(folder: Path, depth: int) -> list[str]:
    found: list[str] = []
    for name in os.listdir(folder):
        if name.startswith("."):
            continue
        path = folder / name
        found.append(f"{path}/" if path.is_dir() else str(path))
        if depth > 1 and path.is_dir() and not path.is_symlink():
            found += _below(path, depth - 1)
    return found


# -- the guard --------------------------------------------------------------------------------------------------------


class GuardedEditor:
    """One workspace's editor. Calling it answers the fields of an ``EditResult``; nothing is raised for a bad call."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._editor = _Editor(self._root)

    def __call__(self, **call: Any) -> dict[str, Any]:
        try:
            result = self._editor(**self._checked(call))
        except _exceptions.ToolError as error:
            return self._answer(error.message, ok=False)
        except PermissionError as error:
            return self._answer(f"{error.strerror}: {call.get('path')}", ok=False)
        except (OSError, ValueError) as error:
            return self._answer(f"The edit was not made: {getattr(error, 'strerror', None) or error}.", ok=False)
        return self._answer(result.output or "", ok=True) if not result.error else self._answer(result.error, ok=False)

    def _checked(self, call: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in call.items() if value is not None}
        for name, value in given.items():
            if name not in PARAMETERS:
                raise _exceptions.ToolError(
                    f"Unknown parameter `{name}`. The parameters are: {', '.join(sorted(PARAMETERS))}."
                )
            if not isinstance(value, _KINDS[name]) or (isinstance(value, bool) and bool not in _KINDS[name]):
                raise _exceptions.ToolError(
                    f"Invalid `{name}` parameter: it should be of type {_KINDS[name][0].__name__}."
                )
        for name in ("command", "path"):
            if name not in given:
                raise _exceptions.ToolError(f"Parameter `{name}` is required.")
        return {**given, "path": self._real(given["path"])}

    def _real(self, path: str) -> str:
        if path == SHOWN or path.startswith(SHOWN + "/"):
            path = path[len(SHOWN) :].lstrip("/") or "."
        return tree.inside(self._root, path)

    def _answer(self, text: str, ok: bool) -> dict[str, Any]:
        return {"output": text.replace(self._root, SHOWN), "ok": ok}
