"""Rows of SWE-bench from local clones: the real commit and nothing later, tests restored, ids that parsers cut."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.clones import check_out, find_clone
from benchmarks.everything import Everything
from benchmarks.recipes import Recipe, left_out, recipe_of, recipes
from benchmarks.rows import dump_row, load_tasks
from benchmarks.swebench import SWEBenchSource, is_row, restored_tests
from sandbox.grading import grade
from sandbox.grading.command import Report
from sandbox.grading.hygiene import problems
from sandbox.grading.logs import BY_LOG
from sandbox.local import LocalBackend
from sandbox.task import Prepared, Status, Task, TaskError, Verdict
from tests.sandbox.toy_task import IDENTITY

TEST_PATCH = """\
diff --git a/tests/test_a.py b/tests/test_a.py
--- a/tests/test_a.py
+++ b/tests/test_a.py
@@ -1,2 +1,5 @@
 def test_old():
     pass
+
+def test_new():
+    pass
diff --git a/tests/test_b.py b/tests/test_b.py
new file mode 100644
--- /dev/null
+++ b/tests/test_b.py
@@ -0,0 +1,2 @@
+def test_b():
+    pass
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **IDENTITY}
    ).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Path, str]:
    """A clone with a history of three commits, and its second one."""
    folder = tmp_path / "repos" / "toy"
    (folder / "tests").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    commits = list[str]()
    for text in ("1", "2", "the fix"):
        (folder / "a.py").write_text(text)
        (folder / "tests/test_a.py").write_text("def test_old():\n    pass\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", text)
        commits.append(git(folder, "rev-parse", "HEAD"))
    git(folder, "tag", "later")
    return folder, commits[1]


def row(commit: str, **fields: object) -> Task:
    return Task.model_validate(
        {
            "instance_id": "own__toy-1",
            "repo": "own/toy",
            "base_commit": commit,
            "patch": "",
            "problem_statement": "x",
            "test_patch": TEST_PATCH,
            "FAIL_TO_PASS": '["tests/test_a.py::test_new"]',
            "PASS_TO_PASS": '["[100%]"]',
            "version": "1.0",
            "log_parser": "parse_log_pytest",
            **fields,
        }
    )


def test_a_checkout_holds_the_real_commit_and_no_other(clone: tuple[Path, str], tmp_path: Path) -> None:
    target = tmp_path / "base"
    target.mkdir()
    check_out(clone[0], clone[1], target)
    assert git(target, "rev-parse", "HEAD") == clone[1]
    assert (target / "a.py").read_text() == "2"
    assert git(target, "rev-list", "--all", "--count") == "1" and git(target, "tag") == ""
    assert not (target / ".git/FETCH_HEAD").exists() and git(target, "remote") == ""
    (tmp_path / "site").mkdir()
    prepared = Prepared(task=row(clone[1]), base=target, tests=target, site=tmp_path / "site")
    assert problems(prepared) == []


def test_a_commit_that_the_clone_lacks_is_one_sentence(clone: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="git fetch failed"):
        check_out(clone[0], "1" * 40, tmp_path)


def test_clones_are_found_under_their_usual_names(clone: tuple[Path, str], tmp_path: Path) -> None:
    repos = clone[0].parent
    assert find_clone(repos, "own/toy") == clone[0]
    with pytest.raises(TaskError, match=r"git clone https://github\.com/own/other"):
        find_clone(repos, "own/other")


def test_hidden_tests_are_the_commits_own_with_the_test_patch_over_them(
    clone: tuple[Path, str], tmp_path: Path
) -> None:
    target = tmp_path / "base"
    target.mkdir()
    check_out(clone[0], clone[1], target)
    recipe = Recipe(repo="own/toy", versions=("1.0",), python="3.12", requirements=())
    tests, added = restored_tests(row(clone[1]), recipe, target)
    assert sorted(tests) == ["tests/test_a.py", "tests/test_b.py"] and added == ("tests/test_b.py",)
    assert b"test_new" in tests["tests/test_a.py"].data


def test_rows_load_unchanged_and_are_told_from_our_own(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(dump_row(row("2" * 40)) + "\n")
    (task,) = load_tasks(file)
    assert task == row("2" * 40) and is_row(task)
    assert json.loads(dump_row(task))["log_parser"] == "parse_log_pytest"
    assert not any(is_row(task) for task in load_tasks("starter"))


def test_what_a_row_lacks_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="--repos DIR"):
        Everything("local").prepare(row("2" * 40))
    with pytest.raises(TaskError, match=r"recipes\.toml has no recipe for own/toy 1\.0"):
        Everything("local", tmp_path).prepare(row("2" * 40))


def test_every_recipe_is_pinned_and_leaves_its_own_package_out() -> None:
    for recipe in recipes():
        own = recipe.repo.partition("/")[2]
        names = {line.partition("==")[0].lower() for line in recipe.requirements}
        assert own not in names and all("==" in line for line in recipe.requirements)
        for version in recipe.versions:
            assert recipe_of(row("2" * 40, repo=recipe.repo, version=version)) == recipe


def test_an_id_that_a_log_parser_changed_stands_for_all_tests_that_it_may_have_been() -> None:
    paths = {"t.py::p[/a/b.py]": "passed", "t.py::p[/c/b.py]": "passed", "t.py::q[/a/b.py]": "failed"}
    outcomes = {
        **paths,
        "t.py::a[x y]": "passed",
        "t.py::a[x z]": "passed",
        "t.py::b[q r]": "passed",
        "t.py::b[q s]": "failed",
    }
    report = Report(collected=tuple(outcomes), outcomes=outcomes, messages={}, errors={}, exit=1)
    assert report.passed("t.py::a[x") and not report.passed("t.py::b[q")
    assert report.passed("t.py::p[/b.py]") and not report.passed("t.py::q[/b.py]")
    assert not report.passed("t.py::p[/.py]") and not report.passed("t.py::p[/a/b]")
    assert not report.passed("t.py::c[x") and not report.passed("t.py::a") and not report.passed("t.py::a[")


PROGRAM = """\
[[recipe]]
repo = "own/toy"
versions = ["1.0"]
python = "{python}"
requirements = []
command = "{{python}} -m unittest -v tests.test_unit"
"""
UNIT_PATCH = """\
diff --git a/tests/test_unit.py b/tests/test_unit.py
new file mode 100644
--- /dev/null
+++ b/tests/test_unit.py
@@ -0,0 +1,9 @@
+import unittest
+from pathlib import Path
+
+class Unit(unittest.TestCase):
+    def test_fixed(self):
+        self.assertEqual(Path("a.py").read_text(), "the fix")
+
+    def test_there(self):
+        self.assertTrue(Path("a.py").exists())
"""
GOLD = "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-2\n\\ No newline at end of file\n+the fix\n\\ No newline at end of file\n"
WHERE = "tests.test_unit.Unit"


def unit(commit: str, **fields: object) -> Task:
    ids = {
        "FAIL_TO_PASS": f'["test_fixed ({WHERE}.test_fixed)"]',
        "PASS_TO_PASS": f'["test_there ({WHERE}.test_there)"]',
    }
    parser = {"log_parser": "parse_log_django", "test_patch": UNIT_PATCH, "patch": GOLD}
    return row(commit, **{**ids, **parser, **fields})


def test_a_recipe_with_a_test_program_of_its_own_is_graded_by_the_parser_of_its_row(
    clone: tuple[Path, str], tmp_path: Path
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(PROGRAM.format(python=f"{sys.version_info.major}.{sys.version_info.minor}"))
    source = SWEBenchSource("local", clone[0].parent, file)
    prepared = source.prepare(unit(clone[1]))
    assert prepared.task.test_files == ("tests/test_unit.py",) and prepared.log == "parse_log_django"

    async def both() -> list[Verdict]:
        backend = LocalBackend()
        try:
            return [await grade(prepared, text, backend) for text in (GOLD, "")]
        finally:
            await backend.close()

    gold, empty = asyncio.run(both())
    assert (gold.status, gold.flags) == (Status.RESOLVED, (BY_LOG,)), gold.detail
    assert empty.status is Status.FAILED and list(empty.results.values()) == [False, True]
    with pytest.raises(TaskError, match="no parser of logs 'parse_log_jest'"):
        source.prepare(unit(clone[1], log_parser="parse_log_jest"))


def test_a_test_that_no_sandbox_can_hold_is_left_out_by_name_and_a_row_of_such_tests_is_refused(
    clone: tuple[Path, str], tmp_path: Path
) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    there, fixed = f"test_there ({WHERE}.test_there)", f"test_fixed ({WHERE}.test_fixed)"

    def prepared(test: str) -> Task:
        file = tmp_path / f"{test[:10]}.toml"
        out = f'[[left_out]]\nrow = "own__toy-1"\nwhy = "it asks the internet"\ntests = ["{test}"]\n'
        file.write_text(PROGRAM.format(python=version) + out)
        return SWEBenchSource("local", clone[0].parent, file).prepare(unit(clone[1])).task

    kept = prepared(there)
    assert [*kept.FAIL_TO_PASS] == [fixed] and not kept.PASS_TO_PASS
    with pytest.raises(TaskError, match=r"own__toy-1 is left out of test_fixed\.toml: it asks the internet"):
        prepared(fixed)


def test_every_test_that_is_left_out_has_its_reason() -> None:
    assert all(one.tests and one.why for one in left_out().values())
