"""Making tasks: try faults on the package's own tests, keep those that a suite notices cleanly.

A fault becomes a task when, in each of five runs of the same test files, the same listed tests fail (at least one)
and at least five others pass; files that cannot be collected, runs that take too long, outcomes that waver: not
usable. A fault that breaks the import is never kept. What was decided is on disk after each package, so that an
interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.candidates import broken_tree, drawn, functions, task_of
from benchmarks.commit import commit_id
from benchmarks.faults import Fault, Function, starter
from benchmarks.packages import Package, packages
from benchmarks.rows import write_rows
from benchmarks.sites import site
from benchmarks.sources import fetch, pristine
from benchmarks.statement import STANDARD, STARTER, standard_statement, starter_statement
from benchmarks.suite import RUNS, Suite, observe
from benchmarks.trees import tests_tree
from benchmarks.workbench import Workbench
from sandbox.grading.command import Report
from sandbox.grading.tree import Tree, write_tree
from sandbox.task import Task

Say = Callable[[str], None]
MIN_P2P = 5
LISTED = 40
"""Most tests that a row lists on each side; what is cut is spread over the whole list."""
FILES = 2
"""Most test files that a task's grading runs."""
SECONDS = 1.5
"""Wall time of a task's test files on the pristine tree: a second file is only taken below it."""
START = 0.3
"""What a test session costs beside its tests, in seconds: it keeps tiny files from coming first."""
TRIALS = 6
"""Faults tried per function until enough are kept."""
LONGEST = 40
"""Lines of the largest function that gets a fault at the standard level."""


@dataclass(frozen=True)
class Quota:
    """How many tasks a package gives at most."""

    starter: int = 30
    standard: int = 8
    per_function: int = 1


MORE = {"boltons": Quota(70), "toolz": Quota(40), "sqlparse": Quota(40)}
"""Quotas of the packages with the most small functions."""


@dataclass
class Making:
    """One package on the workbench."""

    package: Package
    tree: Tree
    suite: Suite
    bench: Workbench
    quota: Quota
    seed: int
    kept: list[Task] = field(default_factory=list)
    tried: int = 0

    def tasks(self) -> list[Task]:
        """Try faults until the quotas are full or nothing is left."""
        for path, function in self._order():
            level = "starter" if starter(function) else "standard"
            room = self.quota.starter if level == "starter" else self.quota.standard
            if sum(task.level == level for task in self.kept) < room:
                self.kept += self._try(path, function, level)
        return self.kept

    def _order(self) -> list[tuple[str, Function]]:
        """Functions that a stable test runs, in an order of the seed, so that a quota takes from every module."""
        found = [
            (path, function)
            for path, function in functions(self.package, self.tree)
            if f"{path}::{function.qualname}" in self.suite.hits and 1 < function.lines <= LONGEST
        ]
        return sorted(found, key=lambda item: _digest(self.seed, self.package.name, item[0], item[1].qualname))

    def _try(self, path: str, function: Function, level: str) -> list[Task]:
        kept: list[Task] = []
        files = chosen(self.suite, f"{path}::{function.qualname}")
        trials = drawn(function, level == "starter", self.package.name, path, self.seed)[:TRIALS] if files else []
        for fault in trials:
            if len(kept) == self.quota.per_function:
                break
            self.tried += 1
            verdict = self._runs(path, fault, files)
            if verdict:
                kept.append(self._row(path, fault, level, files, *verdict))
        return kept

    def _runs(self, path: str, fault: Fault, files: Sequence[str]) -> tuple[Report, list[str], list[str]] | None:
        """First report, failing and passing tests; ``None`` when the fault makes no task."""
        limit = 3 * sum(self.suite.seconds[file] for file in files) + 2
        stable = [test for file in files for test in self.suite.stable[file]]
        with self.bench.changed(path, fault.apply()):
            first = self.bench.run(files, limit)
            split = outcome(first, stable)
            if first is None or split is None:
                return None
            for _ in range(RUNS - 1):
                if outcome(self.bench.run(files, limit), stable) != split:
                    return None
        return first, *split

    def _row(
        self, path: str, fault: Fault, level: str, files: Sequence[str], first: Report, failed: list[str], ok: list[str]
    ) -> Task:
        near = self.suite.hits[f"{path}::{fault.function.qualname}"]
        write = starter_statement if level == "starter" else standard_statement
        hidden = tuple(file for file in files if any(test.startswith(f"{file}::") for test in failed))
        base = {name: entry for name, entry in broken_tree(self.tree, path, fault).items() if name not in hidden}
        return task_of(
            self.package,
            path,
            fault,
            base_commit=commit_id(base),
            problem_statement=write(fault, path, failed, first.messages),
            FAIL_TO_PASS=spread(failed, LISTED),
            PASS_TO_PASS=spread(sorted(ok, key=lambda test: test not in near), LISTED),
            difficulty=STARTER if level == "starter" else STANDARD,
            level=level,
            hidden=hidden,
            test_files=tuple(files),
        )


def chosen(suite: Suite, name: str) -> list[str]:
    """Test files that a function's task runs: those with most tests that reach it per second, while time allows."""
    hits = suite.hits[name]
    reach = {file: sum(test.startswith(f"{file}::") for test in hits) for file in suite.seconds}
    order = sorted(
        (file for file in reach if reach[file]), key=lambda file: -reach[file] / (suite.seconds[file] + START)
    )
    taken: list[str] = []
    for file in order:
        total = sum(suite.seconds[other] for other in [*taken, file])
        if len(taken) < FILES and (not taken or total <= SECONDS):
            taken.append(file)
    return taken


def outcome(report: Report | None, stable: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Stable tests that now fail, and those that still pass; ``None`` when the run makes no task."""
    if report is None or report.errors or not set(stable) <= set(report.collected):
        return None
    failed = [test for test in stable if not report.passed(test)]
    passed = [test for test in stable if report.passed(test)]
    return (failed, passed) if failed and len(passed) >= MIN_P2P else None


def spread(tests: Sequence[str], most: int) -> tuple[str, ...]:
    """At most ``most`` of the tests: the first half from the front, the rest evenly from what follows."""
    if len(tests) <= most:
        return tuple(tests)
    head, rest = tests[: most // 2], tests[most // 2 :]
    count = most - len(head)
    return (*head, *(rest[at * len(rest) // count] for at in range(count)))


def _digest(*key: object) -> str:
    return hashlib.sha256("\0".join(map(str, key)).encode()).hexdigest()


def make(out: Path, names: Sequence[str], say: Say, quota: Quota | None = None, seed: int = 0) -> None:
    """Make the tasks of packages (all that have tests, when none is named) and write them below ``out``.

    Each package gets ``out/parts/NAME-VERSION.json`` once it is done; a package that has one is not made again.
    ``starter.jsonl``, ``standard.jsonl`` and ``quarantine.json`` are written from all parts. The faults that are
    tried, and their order, follow from the seed; which test files a task runs depends on how long they took here.
    Raises :class:`TaskError`.
    """
    pinned = packages()
    wanted = [package for package in pinned.named(tuple(names)) if package.tests]
    fetch(wanted)
    (out / "parts").mkdir(parents=True, exist_ok=True)
    for package in wanted:
        part = _part(out, package)
        if not part.is_file():
            size = quota or MORE.get(package.name, Quota())
            made = _make_one(package, site(pinned.site["requirements"]), size, seed, say)
            fresh = part.with_suffix(".part")
            fresh.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
            fresh.replace(part)
        gather(out)


def _make_one(package: Package, site_folder: Path, quota: Quota, seed: int, say: Say) -> dict[str, object]:
    tree = pristine(package)
    with tempfile.TemporaryDirectory(prefix="repodojo-tests-") as folder:
        tests = Path(folder) / "tests"
        write_tree(tests_tree(package, tree), tests)
        with Workbench(package, tree, tests, site_folder) as bench:
            suite = observe(bench, tree)
            say(f"{package.name}: {len(suite.seconds)} test files, {len(suite.hits)} functions reached")
            making = Making(package, tree, suite, bench, quota, seed)
            tasks = making.tasks()
    say(f"{package.name}: {len(tasks)} tasks of {making.tried} faults tried")
    rows = [task.model_dump(mode="json", exclude_defaults=True) for task in tasks]
    return {"rows": rows, "unstable": suite.unstable, "tried": making.tried}


def gather(out: Path) -> None:
    """Write the sets and the quarantine from all parts, in the order of the package list."""
    tasks: list[Task] = []
    unstable: dict[str, list[str]] = {}
    for package in packages().package:
        if (part := _part(out, package)).is_file():
            made = json.loads(part.read_text(encoding="utf-8"))
            tasks += [Task.model_validate(row) for row in made["rows"]]
            unstable[package.name] = made["unstable"]
    for level in ("starter", "standard"):
        write_rows(out / f"{level}.jsonl", [task for task in tasks if task.level == level])
    quarantine = {name: tests for name, tests in unstable.items() if tests}
    (out / "quarantine.json").write_text(json.dumps(quarantine, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _part(out: Path, package: Package) -> Path:
    return out / "parts" / f"{package.name}-{package.version}.json"
