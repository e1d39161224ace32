"""Distributions become trees, trees become one deterministic commit, rows become folders."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_sdist import FILES, archive, offer, pinned, toy_package

from benchmarks import trees
from benchmarks.candidates import broken_tree, drawn, functions, task_of
from benchmarks.commit import commit_id, write_repository
from benchmarks.packages import Package
from benchmarks.pypi import PyPISource
from benchmarks.sources import fetch, pristine, sdist_path
from sandbox.grading.patch import apply
from sandbox.grading.tree import Entry, Tree, read_tree, write_tree
from sandbox.task import Task, TaskError

HIDDEN = ("tests/test_numbers.py",)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone, and a pip that finds packages in a local folder only."""
    monkeypatch.setenv("REPODOJO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "offer"))
    return tmp_path / "cache"


def keep(package: Package, data: bytes) -> Package:
    """Put a distribution into the cache, as a download does."""
    sdist_path(package).parent.mkdir(parents=True, exist_ok=True)
    sdist_path(package).write_bytes(data)
    return package


def toy_task(package: Package, qualname: str = "clamp", **fields: object) -> Task:
    tree = pristine(package)
    path, function = next(found for found in functions(package, tree) if found[1].qualname == qualname)
    fault = drawn(function, True)[0]
    base = {name: entry for name, entry in broken_tree(tree, path, fault).items() if name not in HIDDEN}
    row: dict[str, object] = {
        "base_commit": commit_id(base),
        "problem_statement": "It is wrong.",
        "FAIL_TO_PASS": (f"{HIDDEN[0]}::test_clamp[5-5]",),
        "PASS_TO_PASS": (),
        "hidden": HIDDEN,
    }
    return task_of(package, path, fault, **{**row, **fields})


def test_a_distribution_is_fetched_without_its_build_backend(tmp_path: Path) -> None:
    data = archive()
    offer(tmp_path / "offer", data)
    package = toy_package(data)
    fetch([package])
    assert sdist_path(package).read_bytes() == data
    assert set(pristine(package)) == {name for name in FILES if not name.startswith("docs/")}


def test_another_file_than_the_pinned_one_is_refused_by_name_and_hash(tmp_path: Path, cache: Path) -> None:
    offer(tmp_path / "offer", archive({**FILES, "extra.txt": "changed\n"}))
    got = hashlib.sha256((tmp_path / "offer/toy_numbers-1.0.tar.gz").read_bytes()).hexdigest()
    package = toy_package(archive())
    with pytest.raises(TaskError) as caught:
        fetch([package])
    message = str(caught.value)
    assert all(part in message for part in (package.origin, package.sha256, got, "restore the pin"))
    assert "\n" not in message
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_distribution_that_cannot_be_found_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"pkg:pypi/toy-numbers@1\.0 cannot be downloaded: .*pip config list"):
        fetch([toy_package(archive())])


def test_a_damaged_cached_file_is_refused_with_the_way_out() -> None:
    package = toy_package(archive())
    keep(package, archive()[:-20])
    with pytest.raises(TaskError, match=r"is damaged: remove .*toy-numbers"):
        pristine(package)


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py"])
def test_a_path_that_leaves_the_distribution_is_refused(name: str) -> None:
    data = archive({name: "x\n"}, top="")
    with pytest.raises(TaskError, match="no readable source distribution"):
        pristine(keep(toy_package(data), data))


def test_the_base_tree_holds_the_fault_and_not_the_hidden_tests() -> None:
    package = keep(toy_package(archive()), archive())
    tree = pristine(package)
    task = toy_task(package)
    base = trees.base_tree(task, tree)
    assert set(tree) - set(base) == set(HIDDEN)
    assert apply(base, task.patch) == {name: entry for name, entry in tree.items() if name not in HIDDEN}
    assert base["src/toy/numbers.py"] != tree["src/toy/numbers.py"]
    assert set(trees.tests_tree(package, tree)) == {"pyproject.toml", "tests/test_numbers.py", "tests/test_other.py"}


def test_a_task_is_prepared_once_with_the_commit_that_its_row_names(cache: Path) -> None:
    package = keep(toy_package(archive()), archive())
    task = toy_task(package)
    site = cache / "sites" / hashlib.sha256(b"").hexdigest()[:16]
    site.mkdir(parents=True)
    source = PyPISource(pinned(package))
    first = source.prepare(task)
    assert git(first.base, "rev-parse", "HEAD") == task.base_commit
    assert git(first.base, "rev-list", "--all", "--count") == "1"
    assert git(first.base, "status", "--porcelain") == ""
    assert not (first.base / HIDDEN[0]).exists() and (first.tests / HIDDEN[0]).is_file()
    written = (first.base / "HEAD").exists(), first.base.stat().st_mtime_ns
    again = source.prepare(task)
    assert again == first and ((again.base / "HEAD").exists(), again.base.stat().st_mtime_ns) == written


def test_a_row_whose_tree_is_another_is_refused() -> None:
    package = keep(toy_package(archive()), archive())
    task = toy_task(package).model_copy(update={"hidden": ()})
    with pytest.raises(TaskError, match=r"its row says .* make it again"):
        PyPISource(pinned(package)).prepare(task)


def test_a_row_of_another_distribution_is_refused() -> None:
    package = keep(toy_package(archive()), archive())
    source = PyPISource(pinned(package))
    task = toy_task(package)
    with pytest.raises(TaskError, match="not among the pinned packages"):
        source.prepare(task.model_copy(update={"origin": "pkg:pypi/other@1"}))
    with pytest.raises(TaskError, match="names no source distribution"):
        source.prepare(task.model_copy(update={"origin": None}))
    with pytest.raises(TaskError, match="is pinned"):
        source.prepare(task.model_copy(update={"sha256": "0" * 64}))


def git(folder: Path, *arguments: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=3
)
TREES = st.dictionaries(
    st.sampled_from(["a", "a.txt", "a0", "b", "d"]) | NAMES.filter(lambda name: name not in (".", "..")),
    st.tuples(st.sampled_from(["f", "x"]), st.binary(max_size=40)) | st.none(),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15)
@given(TREES)
def test_git_reads_the_repository_as_its_own(tmp_path_factory: pytest.TempPathFactory, names: Tree) -> None:
    tree: dict[str, Entry] = {}
    for name, value in names.items():
        if name.lower().startswith(".git"):
            continue
        # A folder for every name without content: its place among its neighbours is where git's order is special.
        tree[name if value else f"{name}/inner"] = Entry(*value) if value else Entry("f", b"inner\n")
    if not tree:
        return
    folder = tmp_path_factory.mktemp("repository")
    write_tree(tree, folder)
    commit = write_repository(tree, folder / ".git")
    assert commit == commit_id(dict(reversed(list(tree.items())))) == git(folder, "rev-parse", "HEAD")
    git(folder, "fsck", "--full", "--strict")
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "write-tree") == git(folder, "rev-parse", "HEAD^{tree}")
    assert read_tree(folder) == dict(sorted(tree.items()))
