"""A workspace that remembers its folders sees what one that remembers nothing sees."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lsp.folders import TRUSTED, Folders, kind_of
from lsp.workspace import Workspace

STEPS = 150


def looked_at(root: Path) -> Workspace:
    return Workspace(root, (".py",), frozenset({"pyproject.toml"}))


def steps(root: Path, dice: random.Random) -> list[Callable[[], object]]:
    """Every kind of change, at a random place."""
    folders = [place for place in (root, *root.rglob("*")) if place.is_dir() and not place.is_symlink()]
    files = [place for place in root.rglob("*") if place.is_file() and not place.is_symlink()]
    folder, inner = dice.choice(folders), dice.choice(folders)
    file = dice.choice(files) if files else folder / "first.py"
    name = dice.choice(["a.py", "b.py", "pyproject.toml", "c.txt"])

    def replaced() -> None:
        fresh = folder / "fresh.tmp"
        fresh.write_text(f"replaced = {dice.random()}\n", "utf-8")
        fresh.replace(folder / name)

    def linked() -> None:
        link = folder / f"link{dice.randrange(3)}.py"
        link.unlink(missing_ok=True)
        link.symlink_to(dice.choice([file, root.parent / "outside.py", root / "nowhere.py", inner]))

    def moved() -> None:
        if folder != root and folder not in (inner, *inner.parents):
            folder.rename(inner / f"moved{dice.randrange(10**6)}")

    def removed() -> None:
        if folder != root:
            shutil.rmtree(folder)

    return [
        lambda: (folder / name).write_text(f"written = {dice.random()}\n", "utf-8"),
        lambda: file.unlink(missing_ok=True),
        lambda: (folder / f"made{dice.randrange(4)}").mkdir(exist_ok=True),
        lambda: (folder / ".gitignore").write_text(dice.choice(["a.py\n", "made1/\n", "!a.py\n", "*.py\n"]), "utf-8"),
        lambda: (folder / ".gitignore").unlink(missing_ok=True),
        lambda: os.utime(folder, ns=(0, 0)),
        replaced,
        linked,
        moved,
        removed,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_scan_after_any_change_finds_what_a_first_scan_finds(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.py").write_text("outside = 1\n", "utf-8")
    known = looked_at(root)
    for _ in range(STEPS):
        dice.choice(steps(root, dice))()
        if dice.random() < 0.05:
            time.sleep(0.06)
        known.scan()
        first = looked_at(root)
        first.scan()
        assert {path: entry.digest for path, entry in known.entries.items()} == {
            path: entry.digest for path, entry in first.entries.items()
        }
        assert (known.sources(), known.configs(), known.digest()) == (first.sources(), first.configs(), first.digest())


def test_names_made_within_one_tick_of_the_clock_are_all_found(tmp_path: Path) -> None:
    workspace = looked_at(tmp_path)
    for number in range(200):
        (tmp_path / f"n{number}.py").touch()
        workspace.scan()
        assert len(workspace.entries) == number + 1


def test_a_file_outside_is_not_read_through_a_link_that_was_inside_before(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("outside = 1\n", "utf-8")
    (tmp_path / "root").mkdir()
    folder = tmp_path / "root" / "here"
    folder.mkdir()
    (folder / "outside.py").write_text("inside = 1\n", "utf-8")
    link = tmp_path / "root" / "link.py"
    link.symlink_to(folder / "outside.py")
    workspace = looked_at(tmp_path / "root")
    time.sleep(0.06)
    workspace.scan()
    assert workspace.sources() == ["here/outside.py", "link.py"]
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    workspace.scan()
    assert workspace.sources() == []


def test_nothing_that_rests_is_listed_again_and_the_entries_stay_the_same_object(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a = 1\n", "utf-8")
    if kind_of(tmp_path.stat().st_dev) not in TRUSTED:
        pytest.skip("this file system is not known to keep the time stamps of its folders")
    asked: list[str] = []

    def wanted(name: str) -> bool:
        asked.append(name)
        return True

    folders = Folders(tmp_path, wanted)
    time.sleep(0.06)
    found = [[path for path, _, _ in folders.files(time.time_ns())] for _ in range(3)]
    assert found == [["a.py"]] * 3
    assert asked == ["a.py"]
    workspace = looked_at(tmp_path)
    workspace.scan()
    entries = workspace.entries
    workspace.scan()
    assert workspace.entries is entries


def test_the_file_system_of_a_folder_is_known_and_an_unknown_device_has_none(tmp_path: Path) -> None:
    assert kind_of(Path("/proc").stat().st_dev) == "proc"
    assert kind_of(os.makedev(4000, 1)) == ""
