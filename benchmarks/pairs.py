"""Release pairs: two neighbouring releases of a package as one task, which behaves like a row of SWE-bench.

The agent starts from the older release without its tests; the newer one is the gold solution, and its test suite is
hidden. A pair is a measurement (names, versions, hashes, test ids): sources are fetched from the package index, and the
gold patch is computed from them, so that a file of pairs holds nobody's source.

What a pair lists is checked, not believed: :func:`derive` runs the whole suite on both releases, compares the failures
of the older one with the list, and takes what passes on both as PASS_TO_PASS.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.commit import commit_id
from benchmarks.interpreters import place
from benchmarks.packages import Package
from benchmarks.prepare import build_tree, home, key
from benchmarks.sites import site
from benchmarks.sources import pristine
from benchmarks.suite import suite_files
from benchmarks.trees import tests_tree
from sandbox.grading import survey
from sandbox.grading.command import Report
from sandbox.grading.diff import diff
from sandbox.grading.patch import PatchError
from sandbox.grading.tree import Entry, Tree
from sandbox.protocol import Backend, SandboxError
from sandbox.task import Prepared, Task, TaskError

PYTHON = "3.11"
"""What the pairs were measured on."""
ARGS = ("-o", "filterwarnings=", "-W", "ignore")
"""As they were measured: a warning of a dependency that came later is no failure."""
BROKEN = frozenset({"failed", "error"})
PASSING = frozenset({"passed", "xpassed"})


class Sdist(BaseModel):
    """A pinned source distribution."""

    model_config = ConfigDict(frozen=True)

    sha256: str


class Pair(BaseModel):
    """One measured pair."""

    model_config = ConfigDict(frozen=True)

    package: str
    old_version: str
    new_version: str
    license: str = ""
    old_sdist: Sdist
    new_sdist: Sdist
    source_root: str
    tests_path: str
    fail_to_pass: tuple[str, ...]
    n_pass_to_pass: int
    failing_in_new_too: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    """Pins of the test environment, shared by the pairs of a file."""

    @property
    def name(self) -> str:
        return f"{self.package}-{self.old_version}-to-{self.new_version}"

    def release(self, version: str, sdist: Sdist) -> Package:
        """One of the two releases, as a pinned package."""
        return Package(
            name=self.package,
            version=version,
            sha256=sdist.sha256,
            license=self.license,
            split="heldout",
            source_root=self.source_root,
            source=(self.source_root,),
            tests=(self.tests_path,),
        )


def read_pairs(file: Path) -> list[Task]:
    """The tasks of a file of pairs. Raises :class:`TaskError`."""
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        pins = data.get("how", {}).get("test_env_freeze", ())
        return [_task(Pair.model_validate({"environment": pins, **pair})) for pair in data["pairs"]]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise TaskError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise TaskError(f"{file} is no file of release pairs: {error}") from None


def _task(pair: Pair) -> Task:
    statement = (
        f"Change {pair.package} {pair.old_version} so that it behaves like its next release, {pair.new_version}. "
        f"Tests of the next release that fail now: {', '.join(pair.fail_to_pass)}."
    )
    return Task(
        instance_id=pair.name,
        repo=pair.package,
        base_commit="",
        problem_statement=statement,
        patch="",
        FAIL_TO_PASS=pair.fail_to_pass,
        PASS_TO_PASS=(),
        origin=f"pkg:pypi/{pair.package}@{pair.old_version}",
        sha256=pair.old_sdist.sha256,
        license=pair.license or None,
        source_root=pair.source_root,
        pair=pair.model_dump(mode="json"),  # pyright: ignore[reportCallIssue] - a row may carry more
    )


def pair_of(task: Task) -> Pair | None:
    """The pair that a task was made from; ``None`` for another kind of task."""
    found = (task.model_extra or {}).get("pair")
    return Pair.model_validate(found) if found else None


class PairSource:
    """Builds the folders of a pair's task."""

    def __init__(self, backend: str) -> None:
        """``backend``: the kind of sandbox that they are for."""
        self._backend = backend

    def prepare(self, task: Task) -> Prepared:
        """Base, hidden tests and environment; the task's gold patch is filled in. Raises :class:`TaskError`."""
        pair = pair_of(task)
        if pair is None:
            raise TaskError(f"{task.instance_id} is no release pair")
        old, new = pair.release(pair.old_version, pair.old_sdist), pair.release(pair.new_version, pair.new_sdist)
        before = _without_tests(old, pristine(old))
        after, tests = _without_tests(new, pristine(new)), tests_tree(new, pristine(new))
        where = place(PYTHON, self._backend)
        filled = task.model_copy(
            update={
                "patch": diff(before, after),
                "base_commit": commit_id(before),
                "hidden": tuple(path for path in tests if new.is_test(path)),
                "test_files": tuple(suite_files(new.tests, tests)),
            }
        )
        return Prepared(
            task=filled,
            base=build_tree(home("base") / key("pair", old.model_dump()), before),
            tests=build_tree(home("tests") / key("pair", new.model_dump()), tests, repository=False),
            site=site([pin for pin in pair.environment if _pinned(pin) != pair.package], PYTHON),
            image=where.image,
            python=where.python,
            pytest_args=ARGS,
        )


def _without_tests(package: Package, tree: Tree) -> dict[str, Entry]:
    return {path: entry for path, entry in tree.items() if not package.is_test(path)}


def _pinned(line: str) -> str:
    return line.partition("==")[0].strip()


async def derive(prepared: Prepared, backend: Backend) -> tuple[Prepared, list[str]]:
    """The pair with PASS_TO_PASS filled in, and how it differs from what was measured, each in one sentence."""
    pair = pair_of(prepared.task)
    if pair is None:
        return prepared, []
    old, why_old = await _surveyed(prepared, "", backend)
    new, why_new = await _surveyed(prepared, prepared.task.patch, backend)
    if old is None or new is None:
        return prepared, [why for why in (why_old, why_new) if why]
    kept = tuple(test for test, outcome in new.outcomes.items() if outcome in PASSING and old.passed(test, PASSING))
    broken = {test for test, outcome in old.outcomes.items() if outcome in BROKEN}
    wanted = {*pair.fail_to_pass, *pair.failing_in_new_too}
    found = [
        f"{test} {'fails' if test in broken else 'does not fail'} on {pair.old_version}, against the list"
        for test in sorted(broken ^ wanted)
    ]
    if len(kept) != pair.n_pass_to_pass:
        found.append(f"{len(kept)} tests pass before and after, {pair.n_pass_to_pass} were measured")
    task = prepared.task.model_copy(update={"PASS_TO_PASS": kept})
    return prepared.model_copy(update={"task": task}), found


async def _surveyed(prepared: Prepared, patch: str, backend: Backend) -> tuple[Report | None, str]:
    try:
        seen = await survey(prepared, patch, backend)
    except (SandboxError, PatchError, OSError) as error:
        return None, f"the suite cannot be run: {error}"
    return (seen, "") if isinstance(seen, Report) else (None, seen.detail)
