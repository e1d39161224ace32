"""Rows of SWE-bench, unchanged, made concrete from local clones: :class:`SWEBenchSource`.

The agent's tree is the row's commit and nothing later. The hidden tests are that tree's tests with ``test_patch`` over
them. The environment comes from a recipe, not from the row's image and script: sandboxes have no network, and grading
reads structured results. Where a recipe names a test program that is not pytest, the row's parser reads its log.

Ids that name no test of the tree (a log parser took ``[100%]``, or a line of a nested run, for one) are left out, and
so are those that ``recipes.toml`` names with a reason. Validation says how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.clones import check_out, find_clone
from benchmarks.interpreters import place
from benchmarks.packages import under
from benchmarks.prepare import build, build_tree, home, key
from benchmarks.recipes import FILE, Recipe, left_out, recipe_of
from benchmarks.sites import site
from benchmarks.trees import CONFIG
from sandbox.grading.logs import parser
from sandbox.grading.patch import PatchError, apply_changes, parse
from sandbox.grading.paths import is_test
from sandbox.grading.tree import Entry, read_frozen
from sandbox.task import Prepared, Task, TaskError


def is_row(task: Task) -> bool:
    """Whether a task names a commit of a repository rather than a distribution."""
    return task.origin is None and bool(task.test_patch)


class SWEBenchSource:
    """Builds the folders of SWE-bench's rows."""

    def __init__(self, backend: str, repos: Path | None, recipes: Path = FILE) -> None:
        """``backend``: the kind of sandbox that they are for. ``repos``: the folder of the clones."""
        self._backend, self._repos, self._recipes = backend, repos, recipes

    def prepare(self, task: Task) -> Prepared:
        """Base tree, tests and environment. Raises :class:`TaskError` with one sentence."""
        if self._repos is None:
            raise TaskError(f"{task.instance_id} needs a clone of {task.repo}: name its folder with --repos DIR")
        recipe = recipe_of(task, self._recipes)
        base = self._base(task, recipe, self._repos)
        tests, added = restored_tests(task, recipe, base)
        files = _test_files(task, recipe, tests)
        out = self._left_out(task)
        listed = {
            name: tuple(test for test in ids if (recipe.command or _file(test) in files) and test not in out)
            for name, ids in (("FAIL_TO_PASS", task.FAIL_TO_PASS), ("PASS_TO_PASS", task.PASS_TO_PASS))
        }
        where = place(recipe.python, self._backend)
        filled = task.model_copy(
            update={
                "hidden": added,
                "test_files": tuple(sorted(files)),
                "source_root": recipe.source_root,
                **listed,
            }
        )
        folder = home("tests") / key("swebench", task.repo, task.base_commit, task.test_patch, recipe.model_dump())
        return Prepared(
            task=filled,
            base=base,
            tests=build_tree(folder, tests, repository=False),
            site=site(recipe.requirements, recipe.python, recipe.helpers),
            image=where.image,
            python=where.python,
            pytest_args=recipe.args,
            command=recipe.command,
            log=_log(task) if recipe.command else "",
        )

    def _left_out(self, task: Task) -> tuple[str, ...]:
        """Listed tests that no sandbox can hold. Raises :class:`TaskError` where the row is about nothing else."""
        out = left_out(self._recipes).get(task.instance_id)
        if out is not None and {*task.FAIL_TO_PASS} <= {*out.tests}:
            raise TaskError(f"{task.instance_id} is left out of {self._recipes.name}: {out.why}")
        return out.tests if out else ()

    def _base(self, task: Task, recipe: Recipe, repos: Path) -> Path:
        def fill(folder: Path) -> None:
            check_out(find_clone(repos, task.repo), task.base_commit, folder)
            version = str((task.model_extra or {}).get("version", ""))
            for name, text in recipe.files.items():
                (folder / name).write_text(text.format(version=version))

        return build(home("base") / key("swebench", task.repo, task.base_commit, recipe.files), fill)


def _file(test: str) -> str:
    return test.partition("::")[0]


def _test_files(task: Task, recipe: Recipe, tests: Mapping[str, Entry]) -> set[str]:
    """What is run: the files of the listed ids, or, where the ids of the program name no file, those of the patch."""
    if recipe.command:
        changed = {change.new for change in parse(task.test_patch)}
        return {path for path in changed if path is not None and path.endswith(".py")} & {*tests}
    return {_file(test) for test in (*task.FAIL_TO_PASS, *task.PASS_TO_PASS)} & {*tests}


def _log(task: Task) -> str:
    """The parser that a row asks for. Raises :class:`TaskError`."""
    name = str((task.model_extra or {}).get("log_parser", ""))
    try:
        parser(name)
    except LookupError as error:
        raise TaskError(f"{task.instance_id}: {error}") from None
    return name


def restored_tests(task: Task, recipe: Recipe, base: Path) -> tuple[dict[str, Entry], tuple[str, ...]]:
    """The tests that grading restores, and which of their files the agent's tree lacks."""
    before = read_frozen(base)
    try:
        changes = parse(task.test_patch)
        after = apply_changes(before, changes)
    except PatchError as error:
        raise TaskError(f"the test patch of {task.instance_id} does not fit its commit: {error}") from None
    touched = {path for change in changes for path in (change.old, change.new) if path is not None}

    def wanted(path: str) -> bool:
        return path in touched or path in CONFIG or is_test(path) or under(path, recipe.tests)

    tests = {path: entry for path, entry in after.items() if wanted(path)}
    return tests, tuple(sorted(path for path in touched if path in after and path not in before))
