"""A task whose folders would give the answer away is found before an agent sees them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from toy_task import BASE, IDENTITY, make

from sandbox.grading.hygiene import problems


def git(tree: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(tree), *args], check=True, capture_output=True, env={**os.environ, **IDENTITY}
    )
    return done.stdout.decode()


def test_a_clean_task_has_no_problem(tmp_path: Path) -> None:
    assert problems(make(tmp_path)) == []


def test_a_later_commit_is_found_also_when_nothing_points_to_it(tmp_path: Path) -> None:
    toy = make(tmp_path)
    git(toy.base, "commit", "-q", "--allow-empty", "-m", "the fix")
    git(toy.base, "reset", "-q", "--hard", toy.task.base_commit)
    git(toy.base, "reflog", "expire", "--expire=now", "--all")
    assert git(toy.base, "rev-list", "--all", "--count").strip() == "1"
    (found,) = problems(toy)
    assert "not before the base commit" in found


def test_earlier_history_is_allowed_and_a_foreign_base_is_not(tmp_path: Path) -> None:
    toy = make(tmp_path)
    git(toy.base, "commit", "-q", "--allow-empty", "-m", "second")
    moved = toy.task.model_copy(update={"base_commit": git(toy.base, "rev-parse", "HEAD").strip()})
    assert problems(toy.model_copy(update={"task": moved})) == []
    lost = toy.task.model_copy(update={"base_commit": "1" * 40})
    assert "does not hold the base commit" in problems(toy.model_copy(update={"task": lost}))[0]


def test_a_hidden_test_in_the_base_and_an_installed_copy_are_found(tmp_path: Path) -> None:
    toy = make(tmp_path, {**BASE, "tests/test_numbers.py": ""})
    (toy.site / "toy_pkg-1.0.dist-info").mkdir()
    about = toy.task.model_copy(update={"origin": "pkg:pypi/Toy.Pkg@0.9"})
    hidden, installed = problems(toy.model_copy(update={"task": about}))
    assert "tests/test_numbers.py" in hidden and "toy-pkg" in installed
