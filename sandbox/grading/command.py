"""The run of a task's tests as plain data, and the reading of what it wrote (pure: no file, no process).

:func:`test_run` says which files to create, what to execute and where the results will lie; :func:`read_report` turns
the results into a :class:`Report` and refuses what the recorder did not write. Between the two, the caller runs it
wherever it likes: grading does so in a fresh sandbox, the validation of new tasks in whatever it has.

Two canaries run behind the real tests, in a file outside the tree: one kind must fail, one must pass. A tree that flips
every report is caught by the first, one that breaks the test runner by the second.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sandbox.protocol import WORKSPACE
from sandbox.task import Prepared, Task

PLUGIN = Path(__file__).with_name("plugin.py")

ENV = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PY_COLORS": "0",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}
UNSET = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTEST_ADDOPTS", "PYTEST_PLUGINS")

INI = "[pytest]\n"
"""Test configuration of a task that brings none: pytest's defaults, not what a parent folder may hold."""

PASSED = frozenset({"passed"})
KEPT = frozenset({"passed", "xfailed", "xpassed"})
"""Outcomes that a PASS_TO_PASS test may end with; an expected failure counts only under the test's own marker."""

CANARY = """\
import pytest

def test_{0}_equal():
    assert [{1}] == [{2}]

def test_{0}_raise():
    raise ValueError("{1}")

@pytest.fixture
def broken():
    raise RuntimeError("{1}")

def test_{0}_setup(broken):
    pass

def test_{0}_holds():
    assert sorted([{2}, {1}]) == [{1}, {2}]
"""
MUST_FAIL = ("equal", "raise", "setup")
MUST_PASS = ("holds",)


class Report(BaseModel):
    """What one run of the tests said. Canaries are taken out of ``collected``, ``outcomes`` and ``messages``."""

    model_config = ConfigDict(frozen=True)

    collected: tuple[str, ...]
    outcomes: dict[str, str]
    """Per test id: ``passed``, ``failed``, ``error``, ``skipped``, ``xfailed`` or ``xpassed``."""
    messages: dict[str, str]
    """Per failed test id: the first line of what it raised (the first 40 failures)."""
    errors: dict[str, str]
    """Per file that could not be collected: the last line of why."""
    exit: int
    """pytest's exit status; not trusted for anything."""

    def passed(self, test_id: str, kept: frozenset[str] = PASSED) -> bool:
        """Whether the test was collected, ran and ended well."""
        meant = self._meant(test_id)
        return bool(meant) and all(outcome in kept for outcome in meant)

    def _meant(self, test_id: str) -> list[str]:
        """Outcomes of the tests that an id stands for.

        SWE-bench's rows hold ids that its log parsers changed: cut at the first blank within the brackets, or with a
        path there reduced to its last part. Such an id stands for every test that it may have been.
        """
        if test_id in self.outcomes:
            return [self.outcomes[test_id]]
        name, bracket, option = test_id.partition("[")
        if bracket and not option.endswith("]"):
            return [outcome for test, outcome in self.outcomes.items() if test.startswith(f"{test_id} ")]
        if option.startswith("/") and "/" not in option[1:]:
            head = f"{name}[/"
            return [out for test, out in self.outcomes.items() if test.startswith(head) and test.endswith(option)]
        return []


class Forged(Exception):
    """The results were not written by the recorder, or the test runner lied in front of it. The message says what gave
    it away.
    """


@dataclass(frozen=True)
class TestRun:
    """One run of tests: create ``files`` in ``folder``, execute ``argv`` with ``env`` in ``cwd``, read ``results``."""

    folder: str
    cwd: str
    argv: tuple[str, ...]
    env: dict[str, str]
    """Added to the environment, with ``UNSET`` taken away."""
    files: dict[str, str]
    """Name below ``folder`` -> text."""
    nonce: str
    canary: str
    results: str = field(init=False)
    started: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", f"{self.folder}/results.json")
        object.__setattr__(self, "started", f"{self.results}.started")

    def shell(self) -> str:
        """The run as one command of a POSIX shell; the files must be there."""
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(self.env.items()))
        run = f"cd {shlex.quote(self.cwd)} && exec {shlex.join(self.argv)}"
        return f"(unset {' '.join(UNSET)}; export {exports}; {run}) </dev/null >/dev/null 2>&1"


def test_run(
    task: Task,
    folder: str,
    *,
    python: str = "python3",
    workspace: str = WORKSPACE,
    site: str | None = None,
    config: str | None = None,
    targets: Sequence[str] = (),
    extra: Sequence[str] = (),
    nonce: str | None = None,
) -> TestRun:
    """The run of ``targets`` (by default the task's test files) by ``python`` in ``workspace``.

    :param folder: absolute folder outside the workspace, empty, writable by the tests' process and private to this run.
    :param site: folder with pytest and the test dependencies; ``None`` where the interpreter has them itself.
    :param config: the task's own pytest configuration file, absolute and already restored; its ``addopts`` are ignored.
    :param extra: further arguments of pytest.
    """
    secret = nonce or secrets.token_hex(16)
    word = "t" + secret[:6]
    canary = f"{folder}/{word}/test_{word}.py"
    root = str(PurePosixPath(workspace, task.source_root))
    args = [*_options(workspace, config or f"{folder}/pytest.ini"), *extra, *(targets or task.test_files), canary]
    job: dict[str, Any] = {"nonce": secret, "results": f"{folder}/results.json", "path": [root, site], "args": args}
    low, high = int(secret[6:10], 16), int(secret[6:10], 16) + 1
    files = {
        "plugin.py": PLUGIN.read_text(encoding="utf-8"),
        "job.json": json.dumps(job),
        "pytest.ini": INI,
        f"{word}/test_{word}.py": CANARY.format(word, low, high),
    }
    # Without the site module nothing that an interpreter has installed can stand before the task's folder. Interpreters
    # before 3.11 cannot be told to leave the script's own folder off the path: it is this run's, and the plugin does.
    flags = ("-s", "-S") if site else ("-s",)
    argv = (python, *flags, f"{folder}/plugin.py", f"{folder}/job.json")
    return TestRun(folder=folder, cwd=workspace, argv=argv, env=dict(ENV), files=files, nonce=secret, canary=word)


def _options(workspace: str, config: str) -> list[str]:
    quiet = ["-q", "--tb=short", "--color=no", "--continue-on-collection-errors"]
    own = ["-o", "addopts=", "-o", "required_plugins="]
    return ["-c", config, "--rootdir", workspace, "-p", "no:cacheprovider", *quiet, *own]


def log_command(prepared: Prepared) -> str:
    """The task's own test program as one command of a POSIX shell, its errors among its output."""
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(ENV.items()))
    files = shlex.join(prepared.task.test_files)
    command = prepared.command.replace("{python}", prepared.python or "python3").replace("{files}", files)
    return f"(export {exports}; cd {WORKSPACE} && {command}) </dev/null 2>&1"


def read_report(text: str, run: TestRun) -> Report:
    """Check and read the results of ``run``. Raises :class:`Forged`."""
    try:
        raw: dict[str, Any] = json.loads(text)
        if not secrets.compare_digest(str(raw.pop("nonce")), run.nonce):
            raise Forged("the results carry another run's nonce")
        forged: list[str] = raw.pop("forged")
        full = Report.model_validate(raw)
    except (ValueError, KeyError, AttributeError, ValidationError) as error:
        raise Forged("the results are not the recorder's") from error
    if forged:
        raise Forged(f"the runner reported {forged[0]} as passed while it held an exception")
    _check_canaries(full, run.canary)
    return _without_canaries(full, run.canary)


def _check_canaries(report: Report, word: str) -> None:
    """Whether the runner tells failure from success, where the session came that far."""
    for kind in (*MUST_FAIL, *MUST_PASS):
        seen = next((out for test, out in report.outcomes.items() if test.endswith(f"::test_{word}_{kind}")), None)
        if kind in MUST_FAIL and seen not in (None, "failed", "error"):
            raise Forged(f"a test that must fail was reported as {seen}")
        if kind in MUST_PASS and seen not in (None, "passed"):
            raise Forged(f"a test that must pass was reported as {seen}")
        if seen is None and any(outcome == "passed" for outcome in report.outcomes.values()):
            raise Forged("the canaries did not run although other tests passed")


def _without_canaries(report: Report, word: str) -> Report:
    def ours(name: str) -> bool:
        return f"::test_{word}_" in name

    return report.model_copy(
        update={
            "collected": tuple(test for test in report.collected if not ours(test)),
            "outcomes": {test: out for test, out in report.outcomes.items() if not ours(test)},
            "messages": {test: text for test, text in report.messages.items() if not ours(test)},
        }
    )
