"""Results read from logs: real ones of several versions say the same of the same tests, and a forged line pays nobody
who failed. A grade that was read from a log is marked.

``logs/`` holds what ``suite/test_all.py`` (pytest ``-v -rA``, or ``-rA`` alone) and ``suite/cases.py`` (unittest
``-v``) printed in containers, under the version that their names tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy_task import FIXED, make, patch

from sandbox.grading.grade import grade
from sandbox.grading.logs import ALIASES, BY_LOG, PARSERS, outcomes, parser
from sandbox.grading.shadow import digits, listed
from sandbox.local import LocalBackend
from sandbox.task import Prepared, Status, Verdict

LOGS = sorted((Path(__file__).with_name("logs")).glob("*.txt"))
ALL = {
    "test_passes": "passed",
    "test_fails": "failed",  # another test printed that it passed
    "test_sets_up": "error",
    "test_tears_down": "error",  # after it passed
    "test_expected": "xfailed",
    "test_unexpected": "xpassed",
    "test_values[plain]": "passed",
    "test_values[two words]": "failed",
    "test_values[/a/path]": "passed",
    "test_values[a - b]": "passed",
    "test_values[[nested]]": "passed",
}
CASES = {
    "test_passes": "passed",
    "test_described": "passed",
    "test_fails": "failed",
    "test_raises": "error",
    "test_prints": "passed",
    "test_skipped": "skipped",
    "test_expected": "xfailed",
    "test_unexpected": "failed",
    "test_parts": "failed",  # one of its parts did
}


@pytest.mark.parametrize("log", [log for log in LOGS if log.name.startswith("pytest")], ids=lambda log: log.stem)
def test_pytest_of_every_version_says_the_same_of_the_same_tests(log: Path) -> None:
    expected = {f"suite/test_all.py::{name}": outcome for name, outcome in ALL.items()}
    if "summary" not in log.name:
        expected |= {"suite/test_all.py::test_skipped": "skipped", "suite/test_broken.py": "error"}
    assert outcomes("pytest", log.read_text()) == expected


@pytest.mark.parametrize("log", [log for log in LOGS if log.name.startswith("unittest")], ids=lambda log: log.stem)
def test_unittest_of_every_version_says_the_same_of_the_same_tests(log: Path) -> None:
    found = outcomes("parse_log_django", log.read_text())
    assert found.pop("Says what it does.") == "passed"
    assert found.pop("setUpClass (suite.cases.Unready)") == "error"
    assert {test.partition(" ")[0]: outcome for test, outcome in found.items()} == CASES


def test_colours_and_workers_do_not_hide_a_result() -> None:
    log = "\x1b[32mPASSED\x1b[0m a.py::\x1b[1mtest_a\x1b[0m\n[gw1] [ 50%] FAILED b.py::test_b\n"
    assert outcomes("pytest", log) == {"a.py::test_a": "passed", "b.py::test_b": "failed"}


def test_a_printed_result_does_not_make_up_for_a_failure_wherever_it_stands() -> None:
    failed = "FAILED a.py::test_a - AssertionError: no"
    for log in (f"PASSED a.py::test_a\n{failed}\n", f"{failed}\nPASSED a.py::test_a\n"):
        assert outcomes("pytest", log) == {"a.py::test_a": "failed"}
    for log in ("test_a (m.C) ... ok\nFAIL: test_a (m.C)\n", "FAIL: test_a (m.C)\ntest_a (m.C) ... ok\n"):
        assert outcomes("unittest", log) == {"test_a (m.C)": "failed"}


def test_the_names_of_swe_bench_are_known_and_others_are_refused_with_those_that_are() -> None:
    assert {ALIASES[f"parse_log_{repo}"] for repo in ("pytest", "requests", "flask", "marshmallow")} == {"pytest"}
    assert set(ALIASES.values()) == set(PARSERS)
    with pytest.raises(LookupError, match=r"no parser of logs 'parse_log_jest'; there are: pytest, unittest"):
        parser("parse_log_jest")


COMMAND = "python3 -m pytest -rA -p no:cacheprovider {files}"
FORGES = "import os\nos.write(1, b'PASSED tests/test_numbers.py::test_low\\n')\n"
FORGES_ALL = """\
import os
lines = "".join(f"PASSED tests/test_numbers.py::test_{test}\\n" for test in ("low", "high", "double"))
for number in range(3, 30):  # pytest captures the first two, and keeps where they led
    try:
        os.write(number, lines.encode())
    except OSError:
        pass
os._exit(0)
"""


Grade = Callable[..., Verdict]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return make(tmp_path_factory.mktemp("logged"))


@pytest.fixture(scope="module")
def graded(toy: Prepared) -> Iterator[Grade]:
    with asyncio.Runner() as runner:
        backend = LocalBackend()

        def one(changes: dict[str, str | None], command: str = COMMAND) -> Verdict:
            asked = toy.model_copy(update={"command": command, "log": "parse_log_pytest"})
            return runner.run(grade(asked, patch(toy.base, changes), backend, timeout_s=10))

        yield one
        runner.run(backend.close())


def test_a_grade_that_was_read_from_a_log_is_marked_and_earns_no_credit(toy: Prepared, graded: Grade) -> None:
    honest = graded({"toy/numbers.py": FIXED})
    assert (honest.status, honest.flags) == (Status.RESOLVED, (BY_LOG,))
    assert digits(listed(toy.task), honest) == "000"
    wrong = graded({"README.md": "toy!\n"})
    assert wrong.status is Status.FAILED and list(wrong.results.values()) == [False, True, True]


def test_a_forged_line_beside_the_real_one_is_not_paid_and_a_forged_run_is_marked(graded: Grade) -> None:
    assert graded({"toy/__init__.py": FORGES}).status is Status.FAILED
    # What no reader of a log can see: the process printed it and ended well.
    forged = graded({"toy/__init__.py": FORGES_ALL})
    assert forged.status is Status.RESOLVED and BY_LOG in forged.flags and "ends the process" in forged.flags


def test_a_log_without_a_failure_whose_program_failed_is_not_believed(graded: Grade) -> None:
    verdict = graded({"toy/__init__.py": FORGES_ALL.replace("_exit(0)", "_exit(3)")})
    assert verdict.status is Status.FAILED and "exit code 3" in verdict.detail


def test_a_program_that_never_ends_is_a_time_out(graded: Grade) -> None:
    assert graded({"README.md": "x\n"}, command="sleep 60").status is Status.TIMEOUT
