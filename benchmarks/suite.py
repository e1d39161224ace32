"""A package's own test suite, observed on the pristine tree: what is stable, how long it takes, what it runs.

Every test file is run five times on its own. A test that is not there and passed in each run is unstable: it is named
in the quarantine and never listed by a task. One more run is traced, so that a fault is tried on the files that reach
it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

from benchmarks.packages import under
from benchmarks.workbench import Workbench
from sandbox.grading.command import Report
from sandbox.grading.tree import Tree

RUNS = 5
SECONDS = 4.0
"""A test file that takes longer than this is left out: a grading runs it again and again."""


class Suite(BaseModel):
    """What the five runs and the trace said."""

    model_config = ConfigDict(frozen=True)

    seconds: dict[str, float]
    """Wall time of each usable test file."""
    stable: dict[str, tuple[str, ...]]
    """Per file, the tests that passed in every run."""
    unstable: tuple[str, ...]
    """Tests that passed in some run and not in all of them."""
    hits: dict[str, tuple[str, ...]]
    """``path::qualname`` of a function -> the stable tests whose call runs it."""


def observe(bench: Workbench, tree: Tree) -> Suite:
    """Run the suite of ``bench``'s package."""
    seconds: dict[str, float] = {}
    stable: dict[str, tuple[str, ...]] = {}
    unstable: list[str] = []
    hits: defaultdict[str, list[str]] = defaultdict(list)
    for file in suite_files(bench.package.tests, tree):
        first, trace = bench.traced([file], SECONDS * 3)
        began = time.monotonic()
        reports = [bench.run([file], SECONDS)] if first else [None]
        took = time.monotonic() - began
        if reports[0] is None or not _passed(reports[0]):
            continue
        reports += [bench.run([file], SECONDS) for _ in range(RUNS - 1)]
        passed = [_passed(report) for report in reports]
        always = frozenset.intersection(*passed)
        seconds[file], stable[file] = took, tuple(sorted(always))
        unstable += sorted(frozenset.union(*passed) - always)
        for test, functions in trace.items():
            for path, qualname in functions if test in always else ():
                hits[f"{path}::{qualname}"].append(test)
    return Suite(
        seconds=seconds,
        stable=stable,
        unstable=tuple(unstable),
        hits={name: tuple(tests) for name, tests in sorted(hits.items())},
    )


def _passed(report: Report | None) -> frozenset[str]:
    return frozenset(test for test, out in report.outcomes.items() if out == "passed") if report else frozenset()


def suite_files(roots: tuple[str, ...], tree: Tree) -> list[str]:
    """Test files below ``roots``, by pytest's conventions and the older ``tests.py``."""
    found: list[str] = []
    for path in sorted(tree):
        name = PurePosixPath(path).name
        named = name.startswith("test_") or name.endswith("_test.py") or name == "tests.py"
        if under(path, roots) and name.endswith(".py") and named:
            found.append(path)
    return found
