"""The shipped rows hold what is said of them; a broken row is refused with its line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from agent.tools.functions import locate
from benchmarks.packages import DIGEST, digest, packages
from benchmarks.rows import dump_row, load_tasks, shipped, write_rows
from benchmarks.statement import LOCAL
from sandbox.grading.patch import parse
from sandbox.task import Task, TaskError

ROWS = [task for name in ("starter", "standard") for task in load_tasks(name)]
SWEBENCH = {
    "instance_id": "owner__name-1",
    "repo": "owner/name",
    "base_commit": "0" * 40,
    "problem_statement": "x",
    "patch": "",
    "test_patch": "",
    "FAIL_TO_PASS": '["t.py::a"]',
    "PASS_TO_PASS": "[]",
    "hints_text": "",
    "created_at": "2023-03-04T18:36:21Z",
    "version": "2.3",
}


def test_the_committed_hash_is_that_of_the_package_list() -> None:
    assert DIGEST.read_text().strip() == digest()


def test_at_least_three_packages_are_held_out_and_licences_are_permissive() -> None:
    found = packages().package
    assert sum(package.split == "heldout" for package in found) >= 3
    assert len({package.name for package in found}) == len(found)
    allowed = {"MIT", "BSD-3-Clause", "BSD-2-Clause", "Apache-2.0"}
    assert all(set(package.license.split(" OR ")) <= allowed for package in found)


def test_there_are_enough_tasks_of_each_level_and_split() -> None:
    count = Counter((task.level, task.split) for task in ROWS)
    assert count["starter", "train"] >= 200
    assert count["starter", "heldout"] >= 40
    assert count["standard", "train"] + count["standard", "heldout"] >= 40
    assert len(ROWS) >= 280
    assert len({task.origin for task in ROWS if task.split == "heldout"}) >= 3


def test_the_split_is_by_package() -> None:
    for task in ROWS:
        package = packages().of(task)
        assert (task.split, task.license, task.source_root) == (package.split, package.license, package.source_root)


@pytest.mark.parametrize("task", ROWS, ids=lambda task: task.instance_id)
def test_a_row_is_complete(task: Task) -> None:
    assert len(task.FAIL_TO_PASS) >= 1 and len(task.PASS_TO_PASS) >= 5
    assert not set(task.FAIL_TO_PASS) & set(task.PASS_TO_PASS)
    listed = {test.split("::")[0] for test in (*task.FAIL_TO_PASS, *task.PASS_TO_PASS)}
    assert listed <= set(task.test_files)
    assert set(task.hidden) == {test.split("::")[0] for test in task.FAIL_TO_PASS}
    assert (task.sha256, len(task.base_commit)) == (packages().of(task).sha256, 40)
    assert "/" not in task.instance_id and task.difficulty


@pytest.mark.parametrize("task", ROWS, ids=lambda task: task.instance_id)
def test_a_statement_gives_neither_line_nor_fix_nor_anything_of_one_machine(task: Task) -> None:
    [change] = parse(task.patch)
    [hunk] = change.hunks
    said = task.problem_statement
    added = [line.strip() for line in hunk.new if line not in hunk.old]
    assert not [line for line in added if len(line) > 3 and line in said]
    assert f"line {hunk.start + 1}" not in said and not LOCAL.search(said)
    assert change.path in said and len(said) <= 480
    path, _, qualname = (task.focus or "").partition("::")
    assert path == change.path
    assert (qualname in said) or task.level == "standard"


def test_no_row_lists_a_quarantined_test() -> None:
    quarantine: dict[str, list[str]] = json.loads((shipped()["starter"].parent / "quarantine.json").read_text())
    for task in ROWS:
        assert not {*task.FAIL_TO_PASS, *task.PASS_TO_PASS} & set(quarantine.get(task.repo, ()))


def test_rows_carry_little_of_anybodys_source() -> None:
    for task in ROWS:
        [hunk] = parse(task.patch)[0].hunks
        assert len(hunk.old) <= 12 and len(task.patch) <= 2000


def test_a_row_survives_being_written_and_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS[:20])
    assert load_tasks(tmp_path / "rows.jsonl") == ROWS[:20]
    assert "test_patch" not in json.loads(dump_row(ROWS[0]))


def test_filters_keep_the_order_of_the_file() -> None:
    held = load_tasks("starter", split="heldout")
    assert held == [task for task in load_tasks("starter") if task.split == "heldout"]
    assert load_tasks("starter", level="standard") == []


def test_a_row_of_swe_bench_loads_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(SWEBENCH) + "\n\n")
    [task] = load_tasks(file)
    assert (task.FAIL_TO_PASS, task.PASS_TO_PASS) == (("t.py::a",), ())
    assert (task.model_extra or {})["version"] == "2.3"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "row: "),
        (json.dumps({**SWEBENCH, "repo": 1}), "repo"),
        (json.dumps({key: value for key, value in SWEBENCH.items() if key != "patch"}), "patch: Field required"),
        (json.dumps({**SWEBENCH, "FAIL_TO_PASS": "not a list"}), "list of tests|FAIL_TO_PASS"),
        (json.dumps(SWEBENCH), "there twice"),
    ],
)
def test_a_broken_row_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(SWEBENCH)}\n{line}\n")
    with pytest.raises(TaskError, match=f"(?s)rows.jsonl, line 2.*({said})") as caught:
        load_tasks(file)
    assert "\n" not in str(caught.value)


def test_an_unknown_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TaskError, match=r"'starters'.*standard, starter"):
        load_tasks("starters")


def test_a_qualified_name_means_the_function_that_the_scaffold_finds() -> None:
    text = "class A:\n    def f(self):\n        return 1\n\n\ndef f():\n    return 2\n"
    assert (locate(text, "A.f").header, locate(text, "f").header) == (1, 5)
