"""openhands-aci's nine known faults: shown on the bare editor, absent behind the guard."""

from __future__ import annotations

import importlib.metadata
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.editor import GuardedEditor

ROOT = Path(__file__).parent.parent.parent

# The bare editor lives in a process of its own: its import changes logging, and ours replaces some of its modules.
BARE = """
import json, logging, sys
import openhands_aci.editor as aci
print(logging.getLogger().level, flush=True)
for line in sys.stdin:
    root, calls = json.loads(line)
    editor, answers = aci.OHEditor(workspace_root=root), []
    for call in calls:
        try:
            answers.append(["ok", editor(**{**call, "path": f"{root}/{call['path']}"}).output or ""])
        except aci.ToolError as error:
            answers.append(["refused", error.message])
        except Exception as error:
            answers.append([type(error).__name__, str(error)])
    print(json.dumps(answers), flush=True)
"""

Call = dict[str, Any]


class Bare:
    """openhands-aci's editor as it is."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin and process.stdout
        self._input, self._output = process.stdin, process.stdout
        self.level = int(self._output.readline())
        """The root logger's level after the import."""

    def __call__(self, root: Path, *calls: Call) -> list[list[str]]:
        """Its answers: how each call ended, and what it said."""
        print(json.dumps([str(root), calls]), file=self._input, flush=True)
        return json.loads(self._output.readline())


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    pipe = subprocess.PIPE
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-c", BARE], stdin=pipe, stdout=pipe, stderr=quiet, text=True) as process:
        yield Bare(process)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal workspaces: one for the bare editor, one for ours."""
    folders = tmp_path / "bare", tmp_path / "ours"
    for folder in folders:
        folder.mkdir()
    return folders


def both(two: tuple[Path, Path], name: str, data: bytes, mode: int = 0o644) -> tuple[Path, Path]:
    paths = two[0] / name, two[1] / name
    for path in paths:
        path.write_bytes(data)
        path.chmod(mode)
    return paths


def test_strip_of_old_str_loses_indentation(two: tuple[Path, Path], bare: Bare) -> None:
    source = b"def f():\n    if x:\n        return 1\n"
    theirs, ours = both(two, "a.py", source)
    call = {
        "command": "str_replace",
        "path": "a.py",
        "old_str": "      return 1\n\n",
        "new_str": "    y = 2\n    return y\n",
    }
    bare(two[0], call)
    assert theirs.read_bytes() == b"def f():\n    if x:\n        y = 2\n    return y\n"
    answer = GuardedEditor(str(two[1]))(**call)
    assert not answer["ok"] and "Line 3 matches but for white space" in answer["output"]
    assert ours.read_bytes() == source


def test_undo_of_create_leaves_the_file(two: tuple[Path, Path], bare: Bare) -> None:
    calls = [
        {"command": "create", "path": "new.py", "file_text": "x = 1\n"},
        {"command": "undo_edit", "path": "new.py"},
    ]
    bare(two[0], *calls)
    assert (two[0] / "new.py").exists()
    editor = GuardedEditor(str(two[1]))
    assert all(editor(**call)["ok"] for call in calls)
    assert not (two[1] / "new.py").exists()


def test_insert_changes_the_mode(two: tuple[Path, Path], bare: Bare) -> None:
    theirs, ours = both(two, "run.sh", b"#!/bin/sh\n", 0o755)
    call = {"command": "insert", "path": "run.sh", "insert_line": 1, "new_str": "echo"}
    bare(two[0], call)
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o600
    GuardedEditor(str(two[1]))(**call)
    assert stat.S_IMODE(ours.stat().st_mode) == 0o755


def test_insert_after_a_last_line_without_newline_joins_lines(two: tuple[Path, Path], bare: Bare) -> None:
    theirs, ours = both(two, "a.txt", b"one\ntwo")
    call = {"command": "insert", "path": "a.txt", "insert_line": 2, "new_str": "three"}
    bare(two[0], call)
    assert theirs.read_bytes() == b"one\ntwothree\n"
    GuardedEditor(str(two[1]))(**call)
    assert ours.read_bytes() == b"one\ntwo\nthree"


def test_windows_line_ends_are_lost(two: tuple[Path, Path], bare: Bare) -> None:
    theirs, ours = both(two, "a.txt", b"one\r\ntwo\r\nthree\r\n")
    call = {"command": "str_replace", "path": "a.txt", "old_str": "two", "new_str": "2\nzwei"}
    bare(two[0], call)
    assert theirs.read_bytes() == b"one\n2\nzwei\nthree\n"
    GuardedEditor(str(two[1]))(**call)
    assert ours.read_bytes() == b"one\r\n2\r\nzwei\r\nthree\r\n"


def test_a_short_latin_1_file_is_refused(two: tuple[Path, Path], bare: Bare) -> None:
    _, ours = both(two, "a.txt", "caf\u00e9\n".encode("latin-1"))
    call = {"command": "str_replace", "path": "a.txt", "old_str": "caf", "new_str": "Caf"}
    assert bare(two[0], call)[0][0] == "refused"
    GuardedEditor(str(two[1]))(**call)
    assert ours.read_bytes() == b"Caf\xe9\n"


def test_create_with_a_lone_surrogate_leaves_an_empty_file(two: tuple[Path, Path], bare: Bare) -> None:
    call = {"command": "create", "path": "s.txt", "file_text": "a\ud800b"}
    bare(two[0], call)
    assert (two[0] / "s.txt").read_bytes() == b""
    assert not GuardedEditor(str(two[1]))(**call)["ok"]
    assert not (two[1] / "s.txt").exists()


def test_a_binary_file_is_refused_by_an_answer_of_its_detector(two: tuple[Path, Path], bare: Bare) -> None:
    both(two, "data.bin", b"\x00\x01\xff\xfe" * 100)
    call = {"command": "view", "path": "data.bin"}
    # With chardet 6 and later the bare editor's detector raises NameError, which is no refusal: with 5 it refuses.
    modern = int(importlib.metadata.version("chardet").split(".")[0]) > 5
    assert bare(two[0], call)[0][0] == ("NameError" if modern else "refused")
    code = "import sys; from sandbox.editor import GuardedEditor as E; e = E(sys.argv[1])"
    code += "; print(e(command='view', path='data.bin')); print({'chardet', 'binaryornot'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(two[1])], cwd=ROOT, capture_output=True, text=True, check=True
    )
    answer, loaded = done.stdout.splitlines()
    assert "'ok': False" in answer and "binary" in answer
    assert loaded == "set()"


def test_view_of_a_folder_runs_its_name_as_a_command(two: tuple[Path, Path], bare: Bare) -> None:
    for folder in two:
        (folder / "x;echo INJECTED;").mkdir()
        (folder / "with space").mkdir()
        (folder / "with space" / "kept.txt").touch()
    call = {"command": "view", "path": "x;echo INJECTED;"}
    assert "INJECTED\n" in bare(two[0], call)[0][1].replace("INJECTED;", "")
    editor = GuardedEditor(str(two[1]))
    assert editor(**call)["output"].replace("INJECTED;", "").count("INJECTED") == 0
    assert "/workspace/with space/kept.txt" in editor(command="view", path="with space")["output"]


def test_paths_outside_the_workspace_are_followed(two: tuple[Path, Path], bare: Bare) -> None:
    outside = two[0].parent / "outside.txt"
    outside.write_text("secret\n")
    for folder in two:
        (folder / "link.txt").symlink_to(outside)
    calls = [{"command": "view", "path": "link.txt"}, {"command": "view", "path": "../outside.txt"}]
    assert all("secret" in answer for _, answer in bare(two[0], *calls))
    editor = GuardedEditor(str(two[1]))
    for call in calls:
        answer = editor(**call)
        assert not answer["ok"] and "secret" not in answer["output"]


def test_the_import_turns_on_debug_logging(two: tuple[Path, Path], bare: Bare) -> None:
    assert bare.level == 10
    code = "import logging, sandbox.editor; print(logging.getLogger().level, logging.getLogger().handlers)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "30 []\n"


def test_the_guarded_import_leaves_heavy_packages_out(tmp_path: Path) -> None:
    heavy = {"pandas", "numpy", "pydantic", "tree_sitter", "charset_normalizer"}
    code = f"import sys, sandbox.editor; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_no_message_names_a_path_of_the_host(tmp_path: Path) -> None:
    editor = GuardedEditor(str(tmp_path))
    (tmp_path / "a.py").write_text("x = 1\n")
    calls: list[dict[str, Any]] = [
        {"command": "view", "path": "."},
        {"command": "view", "path": "a.py"},
        {"command": "view", "path": "absent.py"},
        {"command": "create", "path": "a.py", "file_text": ""},
        {"command": "create", "path": "no/such/folder.py", "file_text": ""},
        {"command": "str_replace", "path": "a.py", "old_str": "y", "new_str": "z"},
        {"command": "undo_edit", "path": "a.py"},
        {"command": "view", "path": "a.py", "view_range": [5, 9]},
    ]
    outputs = [editor(**call)["output"] for call in calls]
    assert all(outputs)
    assert not [output for output in outputs if str(tmp_path) in output]
