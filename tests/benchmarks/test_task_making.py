"""Tasks are made from a real suite: unstable tests are found, faults that a suite notices are kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_sdist import SOURCE, archive, pinned, toy_package

from benchmarks import trees
from benchmarks.faults import Fault, Module, faults
from benchmarks.make import LISTED, Making, Quota, chosen, outcome, spread
from benchmarks.packages import Package
from benchmarks.sources import pristine, sdist_path
from benchmarks.statement import standard_statement, starter_statement
from benchmarks.suite import Suite, observe
from benchmarks.warm import warm_start
from benchmarks.workbench import Workbench
from sandbox.grading.command import Report
from sandbox.grading.tree import write_tree
from sandbox.task import TaskError

NUMBERS = "tests/test_numbers.py"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setenv("REPODOJO_CACHE", str(tmp_path / "cache"))
    package = toy_package(archive())
    sdist_path(package).parent.mkdir(parents=True)
    sdist_path(package).write_bytes(archive())
    return package


@pytest.fixture
def bench(package: Package, tmp_path: Path) -> Iterator[Workbench]:
    tree = pristine(package)
    write_tree(trees.tests_tree(package, tree), tmp_path / "tests")
    # pytest itself comes from where these tests run: nothing has to be installed.
    site = Path(pytest.__file__).parent.parent
    assert str(site) in sys.path
    with Workbench(package, tree, tmp_path / "tests", site) as bench:
        yield bench


def test_a_suite_is_observed_and_its_faults_become_tasks(package: Package, bench: Workbench) -> None:
    tree = pristine(package)
    suite = observe(bench, tree)
    assert f"{NUMBERS}::test_wavers" not in suite.stable[NUMBERS]
    assert suite.hits["src/toy/numbers.py::Counter.add"] == (f"{NUMBERS}::test_counter_counts",)
    assert set(suite.seconds) == {NUMBERS, "tests/test_other.py"}
    tasks = Making(package, tree, suite, bench, Quota(starter=3, standard=1), 0).tasks()
    assert {task.level for task in tasks} == {"starter", "standard"} and len(tasks) == 4
    for task in tasks:
        assert task.hidden == task.test_files == (NUMBERS,)
        assert f"{NUMBERS}::test_wavers" not in {*task.FAIL_TO_PASS, *task.PASS_TO_PASS}
        assert {*task.FAIL_TO_PASS, *task.PASS_TO_PASS} == set(suite.stable[NUMBERS])
    assert (bench.root / "src/toy/numbers.py").read_text() == SOURCE


def test_a_changed_module_is_seen_and_put_back(bench: Workbench) -> None:
    first = bench.run([NUMBERS], 30, bytecode=True)
    with bench.changed("src/toy/numbers.py", SOURCE.replace("return low", "return lox").encode()):
        broken = bench.run([NUMBERS], 30)
    last = bench.run([NUMBERS], 30)
    test = f"{NUMBERS}::test_clamp[-1-0]"
    assert first and broken and last
    assert [report.outcomes[test] for report in (first, broken, last)] == ["passed", "failed", "passed"]
    assert broken.messages[test].startswith("NameError")


def test_a_run_that_hangs_or_dies_gives_no_report(bench: Workbench) -> None:
    with bench.changed("src/toy/numbers.py", b"while True:\n    pass\n"):
        assert bench.run([NUMBERS], 1) is None
    with bench.changed("src/toy/numbers.py", b"import os\nos._exit(0)\n"):
        assert bench.run([NUMBERS], 30) is None
    assert bench.run([NUMBERS], 30) is not None


def report(collected: list[str], failed: list[str], errors: dict[str, str] | None = None) -> Report:
    outcomes = {test: "failed" if test in failed else "passed" for test in collected}
    return Report(collected=tuple(collected), outcomes=outcomes, messages={}, errors=errors or {}, exit=1)


def test_a_run_makes_a_task_only_when_it_fails_cleanly() -> None:
    tests = [f"t.py::t{number}" for number in range(6)]
    assert outcome(report(tests, tests[:1]), tests) == (tests[:1], tests[1:])
    assert outcome(report(tests, []), tests) is None
    assert outcome(report(tests, tests[:2]), tests) is None
    assert outcome(report(tests, tests[:1], {"t.py": "ImportError"}), tests) is None
    assert outcome(report(tests[1:], []), tests) is None
    assert outcome(None, tests) is None


def test_listed_tests_are_spread_over_all_of_them() -> None:
    tests = [str(number) for number in range(100)]
    assert spread(tests[:LISTED], LISTED) == tuple(tests[:LISTED])
    some = spread(tests, 10)
    assert len(set(some)) == 10 and some[:5] == tuple(tests[:5]) and int(some[-1]) > 80


def test_the_files_that_reach_a_function_best_are_run() -> None:
    suite = Suite(
        seconds={"a.py": 3.0, "b.py": 0.1, "c.py": 0.2},
        stable={},
        unstable=(),
        hits={"m.py::f": ("a.py::1", "a.py::2", "b.py::1", "b.py::2", "b.py::3"), "m.py::g": ("a.py::1",)},
    )
    assert chosen(suite, "m.py::f") == ["b.py"]
    assert chosen(suite, "m.py::g") == ["a.py"]


def wrong_bound() -> Fault:
    found = faults(Module(b"def f(a, b):\n    return a < b\n").functions()[0])
    return next(fault for fault in found if fault.kind.slug == "bound")


def test_a_statement_names_function_kind_and_evidence() -> None:
    said = starter_statement(wrong_bound(), "m.py", ["t.py::A::test_x[1]"], {"t.py::A::test_x[1]": "assert 1 == 2"})
    assert said == "`f` in m.py is wrong: a comparison is off at its bound.\ntest_x[1] fails: assert 1 == 2"


@pytest.mark.parametrize("message", ["", "got return a < b", "at <f 0x7f60b806b7e0>", "no /tmp/x", "assert \x00"])
def test_a_message_that_tells_too_much_or_differs_between_machines_is_left_out(message: str) -> None:
    assert starter_statement(wrong_bound(), "m.py", ["t.py::t"], {"t.py::t": message}).endswith("\nt fails.")


def test_a_standard_statement_names_tests_and_the_module_only() -> None:
    said = standard_statement(wrong_bound(), "m.py", [f"t.py::t{n}" for n in range(5)], {"t.py::t3": "assert x"})
    assert said == "t3 fails: assert x\nAlso failing: t0, t1 (2 more).\nThe tests are in t.py, the fault is in m.py."


def test_examples_of_the_warm_start_are_the_same_for_the_same_seed(package: Package) -> None:
    def made(seed: int, **more: object) -> list[str]:
        found = warm_start(("toy-numbers",), seed, limit=12, pinned=pinned(package), **more)  # type: ignore[arg-type]
        return [example.task.instance_id for example in found]

    assert made(3) == made(3) and len(set(made(3))) == 12 and made(3) != made(4)
    assert not set(made(3, skip=made(3)[:4])) & set(made(3)[:4])
    for example in warm_start(("toy-numbers",), 3, limit=12, pinned=pinned(package)):
        assert example.files == {"src/toy/numbers.py": example.files["src/toy/numbers.py"]}
        assert example.files["src/toy/numbers.py"] != SOURCE and example.task.FAIL_TO_PASS == ()


def test_no_example_is_made_from_a_held_out_package(package: Package) -> None:
    held = package.model_copy(update={"split": "heldout"})
    with pytest.raises(TaskError, match="held-out"):
        next(warm_start(("toy-numbers",), pinned=pinned(held)))
    assert list(warm_start(pinned=pinned(held))) == []
