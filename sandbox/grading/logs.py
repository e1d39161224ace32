"""Results read from what a test program printed, for programs that no recorder can be put into (pure).

Two families of logs, each under the names by which SWE-bench's rows ask for it: ``pytest`` (its summary of ``-rA``, its
lines of ``-v``, and those of its workers) and ``unittest`` (the text runner with ``-v``, which Django's is too).

A log is a claim. The tests' process wrote it, so that code under test can write it as well: whoever uses this marks the
grade (:data:`BY_LOG`). Within that, the worst that a log says of a test is what counts, wherever it stands: no later
line makes up for a failure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

BY_LOG = "graded by a log"
"""The flag of every grade that was read from a log."""
RANK = ("passed", "xpassed", "xfailed", "skipped", "failed", "error")
"""Outcomes from the best to the worst."""

Said = Iterator[tuple[str, str]]
"""(test id, outcome), in the order of the log; a test may be named several times."""

_WORDS = {
    "PASSED": "passed",
    "XPASS": "xpassed",
    "XFAIL": "xfailed",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "ERROR": "error",
}
_STATUS = "|".join(_WORDS)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ID = r"(?P<id>[^\s\[]+(?:\[.*?\](?=\s|$))?)"
_SUMMARY = re.compile(rf"(?:\[gw\d+\] \[ *\d+%\] )?(?P<status>{_STATUS}) {_ID}")
_VERBOSE = re.compile(rf"(?P<id>[^\s\[]+::.*?) (?P<status>{_STATUS})(?: \(.*\))?(?: +\[ *\d+%\])?$")
_COUNT = re.compile(r"\[\d+\]")


def pytest_log(text: str) -> Said:
    """What pytest printed with ``-rA``, with ``-v``, or with both.

    A skipped test has no id in the summary, only a count and a line number: it is known by its line of ``-v``.
    """
    for raw in text.splitlines():
        line = _COLOUR.sub("", raw)
        found = _SUMMARY.match(line) or _VERBOSE.match(line)
        if found and not _COUNT.fullmatch(found["id"]):
            yield found["id"], _WORDS[found["status"]]


_RESULTS = {
    "ok": "passed",
    "FAIL": "failed",
    "ERROR": "error",
    "expected failure": "xfailed",
    "unexpected success": "failed",
}
_START = re.compile(r"(?:^|(?<= \.\.\. ))(\w+ \([\w.]+\))(?: \([^)]*\))?(?: \.\.\. ?|$)")
"""A test's name. It may stand behind another one: a test that failed in parts has no result on its own line."""
_BROKEN = re.compile(r"(?P<status>FAIL|ERROR): (?P<id>\w+ \([\w.]+\))")


def unittest_log(text: str) -> Said:
    """What unittest's text runner printed with ``-v``. A test's result may stand lines after its name; a test with a
    docstring is known by its name and by the docstring's first line, as SWE-bench's rows have it.
    """
    names: tuple[str, ...] = ()
    for raw in text.splitlines():
        line = raw.strip()
        if broken := _BROKEN.match(line):
            yield broken["id"], _RESULTS[broken["status"]]
            continue
        rest = line
        if starts := list(_START.finditer(line)):
            names, rest = (starts[-1][1],), line[starts[-1].end() :]
        elif names and " ... " in line:
            described, _, rest = line.rpartition(" ... ")
            names = (*names, described)
        outcome = "skipped" if rest.startswith("skipped ") else _RESULTS.get(rest)
        if outcome:
            yield from ((name, outcome) for name in names)
            names = ()  # what comes next may be of a whole class, or printed by anybody


PARSERS: dict[str, Callable[[str], Said]] = {"pytest": pytest_log, "unittest": unittest_log}
_PYTEST = "pytest pytest_v2 pytest_options astroid flask marshmallow matplotlib pvlib pydicom pylint pyvista requests"
_OTHER = "seaborn sphinx sqlfluff xarray scikit astropy"
ALIASES = {f"parse_log_{name}": "pytest" for name in f"{_PYTEST} {_OTHER}".split()} | {"parse_log_django": "unittest"}
"""SWE-bench's names of parsers -> ours."""


def parser(name: str) -> Callable[[str], Said]:
    """The parser of that name, ours or SWE-bench's. Raises ``LookupError`` with one sentence."""
    found = PARSERS.get(ALIASES.get(name, name))
    if found is None:
        raise LookupError(f"there is no parser of logs '{name}'; there are: {', '.join(PARSERS)}")
    return found


def outcomes(name: str, text: str) -> dict[str, str]:
    """Outcome per test id by the parser ``name``: the worst that the log says of it."""
    worst: dict[str, str] = {}
    for test, outcome in parser(name)(text):
        worst[test] = max(worst.get(test, outcome), outcome, key=RANK.index)
    return worst
