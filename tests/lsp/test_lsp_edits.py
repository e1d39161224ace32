"""Edits against a naive reference, the jail, and transactions that are killed at every effect."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp.edits import Plan, Planner, apply_edits
from lsp.errors import Code, LanserError
from lsp.mutations import write
from lsp.positions import Text
from lsp.session import Session
from lsp.transaction import Files, Transaction, recover
from lsp.workspace import Workspace

TEXT = st.text(alphabet="ab\n\r\té😀̈", max_size=40)


def edit(uri: str, *edits: tuple[int, int, int, int, str]) -> dict[str, Any]:
    return {
        "changes": {
            uri: [
                {"range": {"start": {"line": a, "character": b}, "end": {"line": c, "character": d}}, "newText": text}
                for a, b, c, d, text in edits
            ]
        }
    }


@given(TEXT, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), TEXT), max_size=5))
def test_edits_equal_a_naive_reference(source: str, cuts: list[tuple[int, int, str]]) -> None:
    text = Text(source)
    # Only places that a position can name: not between a carriage return and its line feed.
    named = [
        (text.offset(text.position(min(a, len(source)))), text.offset(text.position(min(b, len(source)))), new)
        for a, b, new in cuts
    ]
    spans = sorted((min(a, b), max(a, b), new) for a, b, new in named)
    chosen: list[tuple[int, int, str]] = []
    for start, end, new in spans:
        if not chosen or start > chosen[-1][1]:
            chosen.append((start, end, new))
    expected = source
    for start, end, new in reversed(chosen):
        expected = expected[:start] + new + expected[end:]
    edits = [((*text.position(start), *text.position(end)), new) for start, end, new in chosen]
    assert apply_edits(text, edits) == expected


def test_overlapping_edits_are_refused() -> None:
    with pytest.raises(LanserError) as caught:
        apply_edits(Text("abcdef"), [((0, 0, 0, 3), "x"), ((0, 2, 0, 4), "y")])
    assert caught.value.code is Code.APPLY_CONFLICT


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "ws"
    root.mkdir()
    (tmp_path / "outside.py").write_text("secret\n")
    return Workspace(root, (".py",))


def refused(workspace: Workspace, change: dict[str, Any]) -> Code:
    with pytest.raises(LanserError) as caught:
        Transaction(workspace, Planner(workspace, "utf-8").plan(change)).apply()
    return caught.value.code


def test_nothing_escapes_the_workspace(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    (workspace.root / "link.py").symlink_to(outside)
    (workspace.root / "dir").symlink_to(tmp_path)
    change = (0, 0, 0, 0, "x")
    for uri in (
        f"file://{outside}",
        f"file://{workspace.root}/../outside.py",
        f"file://{workspace.root}/%2E%2E/outside.py",
        f"file://{workspace.root}/link.py",
        f"file://{workspace.root}/dir/outside.py",
        f"file://{workspace.root}/.git/config",
        "http://host/a.py",
        "untitled:a.py",
    ):
        assert refused(workspace, edit(uri, change)) is Code.JAIL, uri
    for operation in ({"kind": "create", "uri": f"file://{outside}x"}, {"kind": "delete", "uri": f"file://{outside}"}):
        assert refused(workspace, {"documentChanges": [operation]}) is Code.JAIL
    assert outside.read_text() == "secret\n"


def test_an_edit_past_the_end_is_refused_and_one_at_the_end_is_not(workspace: Workspace) -> None:
    path = workspace.root / "a.py"
    path.write_text("one\n")
    uri = workspace.uri("a.py")
    assert refused(workspace, edit(uri, (5, 0, 5, 0, "x"))) is Code.APPLY_CONFLICT
    assert refused(workspace, edit(uri, (0, 9, 0, 9, "x"))) is Code.APPLY_CONFLICT
    Transaction(workspace, Planner(workspace, "utf-8").plan(edit(uri, (1, 0, 1, 0, "two\n")))).apply()
    assert path.read_text() == "one\ntwo\n"


@pytest.mark.parametrize(
    "data",
    [
        b"a = 1\r\nb = 2\r\n",
        b"\xef\xbb\xbfa = 1\n",
        "a = 'é'\n".encode("utf-16"),
        b"# -*- coding: latin-1 -*-\na = '\xe9'\n",
        b"a = 1",
    ],
    ids=["crlf", "bom", "utf-16", "latin-1", "no newline"],
)
def test_encoding_line_ends_and_mode_survive(workspace: Workspace, data: bytes) -> None:
    path = workspace.root / "a.py"
    path.write_bytes(data)
    path.chmod(0o755)
    Transaction(workspace, Planner(workspace, "utf-16").plan(edit(workspace.uri("a.py"), (0, 0, 0, 1, "Z")))).apply()
    after = path.read_bytes()
    assert len(after) == len(data)
    assert sum(x != y for x, y in zip(data, after, strict=True)) == 1
    assert path.stat().st_mode & 0o777 == 0o755


def test_new_text_that_the_encoding_cannot_hold_is_refused(workspace: Workspace) -> None:
    (workspace.root / "a.py").write_bytes(b"# coding: latin-1\nx = 1\n")
    assert refused(workspace, edit(workspace.uri("a.py"), (1, 0, 1, 0, "😀"))) is Code.APPLY_CONFLICT


def test_a_file_changed_since_the_plan_is_refused(workspace: Workspace) -> None:
    for name in ("a.py", "b.py"):
        (workspace.root / name).write_text("x = 1\n")
    change = edit(workspace.uri("a.py"), (0, 0, 0, 1, "y"))
    change["changes"] |= edit(workspace.uri("b.py"), (0, 0, 0, 1, "y"))["changes"]
    plan = Planner(workspace, "utf-8").plan(change)
    (workspace.root / "b.py").write_text("y = 1\n")
    with pytest.raises(LanserError) as caught:
        Transaction(workspace, plan).apply()
    assert caught.value.code is Code.CONTENT_MODIFIED
    assert (workspace.root / "a.py").read_text() == "x = 1\n"


def test_a_path_replaced_by_a_link_after_the_check_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.root / "a.py"
    path.write_text("secret\n")
    plan = Planner(workspace, "utf-8").plan(edit(workspace.uri("a.py"), (0, 0, 0, 1, "y")))
    path.unlink()
    path.symlink_to(tmp_path / "outside.py")
    with pytest.raises(LanserError) as caught:
        Transaction(workspace, plan).apply()
    assert caught.value.code is Code.JAIL
    assert (tmp_path / "outside.py").read_text() == "secret\n"


def test_a_read_only_file_is_refused(workspace: Workspace) -> None:
    path = workspace.root / "a.py"
    path.write_text("x = 1\n")
    path.chmod(0o444)
    assert refused(workspace, edit(workspace.uri("a.py"), (0, 0, 0, 1, "y"))) is Code.FS_PERMISSIONS


class Killed(BaseException):
    """Stands for the end of the process."""


class Dying(Files):
    """System calls that stop before the ``limit``-th one; a write that is stopped has written half, if ``half``."""

    def __init__(self, limit: int, half: bool = False) -> None:
        self.left = limit
        self.half = half

    def die(self) -> None:
        raise Killed

    def _step(self) -> None:
        if self.left == 0:
            self.die()
        self.left -= 1

    def create(self, path: str) -> int:
        self._step()
        return super().create(path)

    def put(self, handle: int, data: memoryview) -> int:
        if self.left == 0 and self.half:
            super().put(handle, data[: len(data) // 2])
        self._step()
        return super().put(handle, data)

    def chmod(self, handle: int, mode: int) -> None:
        self._step()
        super().chmod(handle, mode)

    def open_folder(self, path: str) -> int:
        self._step()
        return super().open_folder(path)

    def sync(self, handle: int) -> None:
        self._step()
        super().sync(handle)

    def rename(self, old: str, new: str) -> None:
        self._step()
        super().rename(old, new)

    def remove(self, path: str) -> None:
        self._step()
        super().remove(path)

    def make_folder(self, path: str) -> None:
        self._step()
        super().make_folder(path)


class Shot(Dying):
    """The same, by ``kill -9``."""

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def shot(work: Callable[[Files], None], limit: int) -> bool:
    """Run ``work`` in a process that is killed before its ``limit``-th system call; whether it ended before that."""
    child = os.fork()
    if child == 0:
        try:
            work(Shot(limit, half=True))
        finally:
            os._exit(0)
    return not os.WIFSIGNALED(os.waitpid(child, 0)[1])


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def mixed_plan(workspace: Workspace) -> Plan:
    (workspace.root / "a.py").write_text("x = 1\n")
    (workspace.root / "b.py").write_text("x = 2\n")
    (workspace.root / "c.py").write_text("x = 3\n")
    operations = [
        {"textDocument": {"uri": workspace.uri("a.py")}, "edits": edit("", (0, 0, 0, 1, "y"))["changes"][""]},
        {"kind": "rename", "oldUri": workspace.uri("b.py"), "newUri": workspace.uri("sub/d.py")},
        {"kind": "delete", "uri": workspace.uri("c.py")},
        {"kind": "create", "uri": workspace.uri("e.py")},
    ]
    return Planner(workspace, "utf-8").plan({"documentChanges": operations})


@pytest.mark.parametrize("half", [False, True], ids=["between", "within"])
def test_killed_at_any_effect_the_workspace_is_old_or_new(tmp_path: Path, half: bool) -> None:
    finished = False
    for limit in range(300):
        root = tmp_path / str(limit)
        root.mkdir()
        workspace = Workspace(root, (".py",))
        plan = mixed_plan(workspace)
        old = contents(root)
        new = {"a.py": b"y = 1\n", "sub/d.py": b"x = 2\n", "e.py": b""}
        try:
            Transaction(workspace, plan, Dying(limit, half)).apply()
            finished = True
        except Killed:
            pass
        recover(workspace)
        assert contents(root) in (old, new), limit
        if finished:
            assert contents(root) == new
            break
    assert finished


@pytest.mark.parametrize("stop", [20, 35])
def test_recovery_can_itself_be_killed_anywhere(tmp_path: Path, stop: int) -> None:
    for limit in range(200):
        root = tmp_path / str(limit)
        root.mkdir()
        workspace = Workspace(root, (".py",))
        plan = mixed_plan(workspace)
        old = contents(root)
        with pytest.raises(Killed):
            Transaction(workspace, plan, Dying(stop)).apply()
        try:
            recover(workspace, Dying(limit, half=True))
        except Killed:
            recover(workspace)
            assert contents(root) == old
            continue
        assert contents(root) == old
        return
    raise AssertionError("recovery never finished")


def test_a_process_shot_at_any_system_call_leaves_old_or_new_to_the_next_session(tmp_path: Path) -> None:
    ended, points = False, 0
    while not ended:
        root = tmp_path / str(points)
        root.mkdir()
        workspace = Workspace(root, (".py",))
        plan = mixed_plan(workspace)
        old = contents(root)
        ended = shot(lambda files: Transaction(workspace, plan, files).apply(), points)  # noqa: B023
        Session(root, "ty")._recover()
        assert contents(root) in (old, {"a.py": b"y = 1\n", "sub/d.py": b"x = 2\n", "e.py": b""}), points
        points += 1
    assert points > 30


def test_a_transaction_under_way_is_not_rolled_back(workspace: Workspace) -> None:
    class Looking(Files):
        def make_folder(self, path: str) -> None:
            found.append(recover(workspace))
            super().make_folder(path)

    found: list[bool] = []
    Transaction(workspace, mixed_plan(workspace), Looking()).apply()
    assert found == [False]
    assert contents(workspace.root)["a.py"] == b"y = 1\n"


LONG = "".join(f"line_{number} = {number}\n" for number in range(30))


def rename_line_20(workspace: Workspace) -> Plan:
    (workspace.root / "a.py").write_text(LONG)
    return Planner(workspace, "utf-8").plan(edit(workspace.uri("a.py"), (20, 0, 20, 7, "renamed")))


def test_a_plan_is_carried_over_to_a_file_that_changed_elsewhere(workspace: Workspace) -> None:
    plan = rename_line_20(workspace)
    changed = "# new\r\n" + LONG.replace("line_3 ", "other ")
    (workspace.root / "a.py").write_bytes(changed.encode())
    written = write(workspace, plan, "3way")
    expected = changed.replace("line_20 ", "renamed ").encode()
    assert (workspace.root / "a.py").read_bytes() == expected == written.after["a.py"]
    assert not (workspace.root / ".git").exists()


def test_a_plan_is_not_carried_over_to_lines_that_changed_too(workspace: Workspace) -> None:
    plan = rename_line_20(workspace)
    changed = LONG.replace("line_20 ", "mine ")
    (workspace.root / "a.py").write_text(changed)
    for strategy, code in (("3way", Code.APPLY_CONFLICT), ("atomic", Code.CONTENT_MODIFIED), ("x", Code.BAD_INPUT)):
        with pytest.raises(LanserError) as caught:
            write(workspace, plan, strategy)
        assert caught.value.code is code
        assert (workspace.root / "a.py").read_text() == changed
    (workspace.root / "a.py").unlink()
    with pytest.raises(LanserError) as caught:
        write(workspace, plan, "3way")
    assert caught.value.code is Code.APPLY_CONFLICT


def test_a_preview_can_be_applied_by_hand_three_ways(workspace: Workspace) -> None:
    plan = rename_line_20(workspace)
    (workspace.root / "a.py").chmod(0o644)
    for command in ("init -q .", "add -A"):
        subprocess.run(["git", *command.split()], cwd=workspace.root, check=True)
    (workspace.root / "a.py").write_text(LONG.replace("line_22 ", "near "))
    subprocess.run(["git", "add", "-A"], cwd=workspace.root, check=True)
    subprocess.run(["git", "apply", "--3way"], cwd=workspace.root, input=plan.diff().encode(), check=True)
    assert (workspace.root / "a.py").read_text() == LONG.replace("line_22 ", "near ").replace("line_20 ", "renamed ")


def test_the_diff_is_one_that_git_applies(workspace: Workspace, tmp_path: Path) -> None:
    plan = mixed_plan(workspace)
    subprocess.run(["git", "init", "-q", "."], cwd=workspace.root, check=True)
    subprocess.run(["git", "apply", "--allow-empty", "-"], cwd=workspace.root, input=plan.diff().encode(), check=True)
    assert contents(workspace.root).get("a.py") == b"y = 1\n"
    assert not (workspace.root / "c.py").exists()
