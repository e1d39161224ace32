"""What a task tells: written from the failing tests and the kind of fault, never from the fix.

A starter statement names the function, the kind of fault and one failing test with what it said. A standard one names
failing tests and the module. Neither gives a line, nor the text that belongs there: evidence that quotes the gold
line is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from benchmarks.faults import Fault

EVIDENCE_CHARS = 110
"""Most characters of a failing test's message."""
LOCAL = re.compile(r"0x[0-9a-f]{6,}|/tmp\b|/home\b|/root\b|environ\(|PYTEST_|repodojo", re.IGNORECASE)
"""What differs between machines or runs: a message that holds it is no evidence."""
NAMED = 3
"""Most failing tests that a standard statement names."""
STARTER = "names the function, the kind of fault and a failing test"
UNTESTED = "names the function and the kind of fault"
STANDARD = "names failing tests and the module"


def starter_statement(fault: Fault, path: str, failing: Sequence[str], messages: Mapping[str, str]) -> str:
    """The statement of a starter task."""
    best = min(failing, key=lambda test: (not _evidence(fault, messages.get(test, "")), len(test), test))
    return f"{untested_statement(fault, path)}\n{_sentence(fault, best, messages)}"


def untested_statement(fault: Fault, path: str) -> str:
    """The statement of a warm-start example: no test was run, so none is named."""
    return f"`{fault.function.qualname}` in {path} is wrong: {fault.kind.name}."


def standard_statement(fault: Fault, path: str, failing: Sequence[str], messages: Mapping[str, str]) -> str:
    """The statement of a task above the starter level."""
    told = sorted(failing, key=lambda test: (not _evidence(fault, messages.get(test, "")), len(test), test))
    others = [_short(test) for test in told[1:NAMED]]
    more = f" ({len(failing) - NAMED} more)" if len(failing) > NAMED else ""
    also = f"\nAlso failing: {', '.join(others)}{more}." if others else ""
    where = PurePosixPath(told[0].split("::")[0])
    return f"{_sentence(fault, told[0], messages)}{also}\nThe tests are in {where.name}, the fault is in {path}."


def _sentence(fault: Fault, test: str, messages: Mapping[str, str]) -> str:
    evidence = _evidence(fault, messages.get(test, ""))
    return f"{_short(test)} fails: {evidence}" if evidence else f"{_short(test)} fails."


def _short(test: str) -> str:
    """The test's own name, without file, class and long parameters."""
    name = test.rsplit("::", 1)[-1] if "[" not in test else test[: test.index("[")].rsplit("::", 1)[-1]
    parameters = test[test.index("[") :] if "[" in test else ""
    return name + (parameters if len(parameters) <= 24 and parameters.isprintable() else "")


def _evidence(fault: Fault, message: str) -> str:
    """A test's message on one line, trimmed; empty when it would show the gold line."""
    text = " ".join(message.split())
    start, end = fault.edit.start, fault.edit.end
    data = fault.function.module.data
    line = data[data.rfind(b"\n", 0, start) + 1 : data.find(b"\n", end)].decode().strip()
    if not text or not text.isprintable() or LOCAL.search(text) or (len(line) > 3 and line in text):
        return ""
    return text if len(text) <= EVIDENCE_CHARS else text[: EVIDENCE_CHARS - 3] + "..."
