"""The process that runs a task's tests, and the recorder that it hands to pytest. Runs inside the grading sandbox.

One file, standard library and pytest only (any Python >= 3.8, any pytest >= 6): ``python plugin.py JOB.json``. It
lies outside the graded tree, is loaded by no name that the tree could shadow, and takes its job from a file that it
deletes before anything of the tree is imported, so that the nonce is neither in the environment nor on a command line.
The tree is put on the import path *behind* the standard library and before the task's site folder.

What it writes (JSON, one object, moved into place at the end of the session)::

    {"nonce": ..., "collected": [id, ...], "outcomes": {id: outcome}, "messages": {id: text}, "errors": {where: text},
     "forged": [id, ...], "exit": pytest's exit status}

``outcome`` is ``passed``, ``failed``, ``error`` (set-up, tear-down), ``skipped``, ``xfailed`` or ``xpassed``.
``forged`` names the tests whose report says passed although pytest's runner holds an exception. An empty file with the
suffix ``.started`` says that the recorder was reached: without it the fault is the grader's, with it and without
results the tests' process ended early.
"""

# pyright: reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# Unannotated: pytest is not imported here, and the file runs on interpreters that are older than ours.

import json
import os
import sys
from pathlib import Path

MESSAGE_CHARS = 300
MESSAGES = 40


class Recorder:
    """Outcome of every test, phase by phase, from the runner's own call records."""

    def __init__(self, job):
        self._nonce = job["nonce"]
        self.path = job["results"]
        self._collected = []
        self._outcomes = {}
        self._messages = {}
        self._errors = {}
        self._forged = []

    def pytest_collection_finish(self, session):
        self._collected = [item.nodeid for item in session.items]

    def pytest_collectreport(self, report):
        if report.failed:
            self._errors[report.nodeid or "."] = _last_line(report)

    def saw(self, item, call, report):
        """One phase of one test. The worst phase decides; a later phase never improves an earlier one."""
        new = _outcome(item, call, report)
        if report.passed and call.excinfo is not None:
            self._forged.append(item.nodeid)
            new = "failed"
        settled = self._outcomes.get(item.nodeid) in ("failed", "error")
        if (call.when == "call" or new != "passed") and not settled:
            self._outcomes[item.nodeid] = new
        if new in ("failed", "error") and len(self._messages) < MESSAGES:
            self._messages.setdefault(item.nodeid, _last_line(report))

    def write(self, status):
        """Move the results into place: a reader sees all of them or none."""
        result = {
            "nonce": self._nonce,
            "collected": self._collected,
            "outcomes": self._outcomes,
            "messages": self._messages,
            "errors": self._errors,
            "forged": self._forged,
            "exit": int(status),
        }
        part = Path(self.path + ".part")
        part.write_text(json.dumps(result), encoding="ascii")
        part.replace(self.path)


def _outcome(item, call, report):
    """pytest's outcome, with expected failures told from skips; an expected failure counts only where the test is
    marked.
    """
    if hasattr(report, "wasxfail"):
        if report.passed:
            return "xpassed"
        return "xfailed" if item.get_closest_marker("xfail") or _expected(item) else "skipped"
    if report.failed:
        return "failed" if call.when == "call" else "error"
    return "skipped" if report.skipped else "passed"


def _expected(item):
    """unittest's decorator for an expected failure."""
    return bool(getattr(getattr(item, "obj", None), "__unittest_expecting_failure__", False))


def _last_line(report):
    crash = getattr(getattr(report, "longrepr", None), "reprcrash", None)
    text = crash.message if crash is not None else str(getattr(report, "longreprtext", "") or report.longrepr)
    lines = [line for line in str(text).splitlines() if line.strip()]
    if not lines:
        return ""
    return (lines[0] if crash is not None else lines[-1])[:MESSAGE_CHARS]


def _hooks(pytest, recorder):
    """Hooks that wrap everybody else's, made where pytest is known (this file imports without it)."""

    class Hooks:
        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_runtest_makereport(self, item, call):
            outcome = yield
            recorder.saw(item, call, outcome.get_result())

    return Hooks()


def _behind_library(roots):
    """The import path with ``roots`` behind the standard library and before an image's own site-packages, if any."""
    here = str(Path(__file__).resolve().parent)
    entries = [entry for entry in sys.path if entry not in ("", here)]
    packages = [entry for entry in entries if Path(entry).name in ("site-packages", "dist-packages")]
    return [entry for entry in entries if entry not in packages] + roots + packages


def main(path):
    """Run the job, then leave without exit handlers: what the tree registered must not run after the results."""
    job = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    roots = [root for root in job["path"] if root]
    sys.path[:] = _behind_library(roots)
    os.environ["PYTHONPATH"] = os.pathsep.join(roots)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    import pytest

    recorder = Recorder(job)
    args = job["args"]
    del job
    Path(recorder.path + ".started").touch()
    status = pytest.main(args, plugins=[_hooks(pytest, recorder), recorder])
    recorder.write(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
