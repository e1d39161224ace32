"""``make soak``: what is too long for ``make test``, with a dated report under ``docs/reports/``.

The tests marked ``slow``, every shipped task and release pair through the real grader (gold 1, empty 0), 64 sandboxes
at once for ``SOAK_MINUTES``, ``SOAK_EPISODES`` episodes with faults, and the speed measurements; with rows of SWE-bench
and clones at hand (``SOAK_ROWS``, ``SOAK_REPOS``) the gold solver in every action format and mini-swe-agent's own loop
on them. The report says what was run, on what, and how it ended; a part that fails, or that needs a docker engine which
is not there, is in it and in the exit code. ``--only PART`` runs some of the parts; the report names those that it left
out.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.formats import FORMATS

REPORTS = Path("docs/reports")
TAIL = 40
"""Lines of a part's output that the report keeps."""
PATIENT = ("-o", "faulthandler_timeout=3600")
"""A slow test may take longer than one of ``make test`` before it is taken to hang."""


class Part(NamedTuple):
    """One command of the soak."""

    name: str
    command: Sequence[str]
    fine: tuple[int, ...] = (0,)
    """Exit codes that are no failure."""


class Ended(NamedTuple):
    part: Part
    code: int
    seconds: float
    output: str

    @property
    def failed(self) -> bool:
        return self.code not in self.part.fine


def parts() -> tuple[Part, ...]:
    """The parts in their order. pytest exits with 5 when no test carries the mark."""
    python, dojo = sys.executable, str(Path(sys.executable).with_name("dojo"))
    return (
        Part("slow tests", (python, "-m", "pytest", "-q", "-m", "slow", *PATIENT), fine=(0, 5)),
        Part("starter tasks", (dojo, "tasks", "validate", "starter")),
        Part("standard tasks", (dojo, "tasks", "validate", "standard")),
        Part("release pairs", (dojo, "tasks", "validate", "release-pairs", "--json")),
        Part("load", (python, "-m", "benchmarks.load", "--minutes", os.environ.get("SOAK_MINUTES", "15"))),
        Part("chaos", (python, "-m", "benchmarks.chaos", *_chaos())),
        Part("speed", (python, "-m", "benchmarks.speed")),
        *(Part("real tasks", (python, "-m", "benchmarks.solve", *rows)) for rows in _real()),
    )


def _real() -> Iterator[tuple[str, ...]]:
    """``SOAK_ROWS``: a file of rows; ``SOAK_REPOS``: the folder with their clones. Nothing where either is not set."""
    rows, repos = os.environ.get("SOAK_ROWS", ""), os.environ.get("SOAK_REPOS", "")
    formats = [word for form in FORMATS for word in ("--format", form)]
    if rows and repos:
        yield ("--rows", rows, "--repos", repos, "--mini", *formats)


def _chaos() -> tuple[str, ...]:
    """``SOAK_EPISODES``: how many; ``SOAK_RESTART``: the command that restarts the engine, where that may be done."""
    restart = os.environ.get("SOAK_RESTART", "")
    return ("--episodes", os.environ.get("SOAK_EPISODES", "500"), *(("--restart", restart) if restart else ()))


def run(part: Part, keep: int = TAIL) -> Ended:
    """Run one part, showing its output as it comes; its last ``keep`` lines are kept."""
    print(f"==> {part.name}: {' '.join(part.command)}", flush=True)
    began, lines = time.monotonic(), list[str]()
    with subprocess.Popen(part.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    return Ended(part, process.returncode, time.monotonic() - began, "\n".join(lines[-keep:]))


def report(ended: Sequence[Ended]) -> Iterator[str]:
    """The report's text, in Markdown."""
    yield f"# Soak of {time.strftime('%Y-%m-%d %H:%M')}\n"
    yield f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores.\n"
    left = [part.name for part in parts() if part.name not in {one.part.name for one in ended}]
    yield f"Not run this time: {', '.join(left)}.\n" if left else "Every part of `make soak`.\n"
    for one in ended:
        mark = "FAILED" if one.failed else "passed"
        yield f"## {one.part.name}: {mark} ({one.seconds:.0f} s, exit {one.code})\n"
        command = " ".join([Path(one.part.command[0]).name, *one.part.command[1:]])
        yield f"    $ {command}\n" + "".join(f"    {line}\n" for line in one.output.split("\n"))


def main() -> int:
    """Run every part, or those named, write the report, and say where it is; 1 when a part failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--only", choices=[part.name for part in parts()], action="append", help="only this part")
    only = parser.parse_args().only
    ended = [run(part) for part in parts() if not only or part.name in only]
    REPORTS.mkdir(parents=True, exist_ok=True)
    file = REPORTS / f"soak-{time.strftime('%Y%m%d-%H%M')}.md"
    file.write_text("\n".join(report(ended)))
    print(f"report: {file}")
    return int(any(one.failed for one in ended))


if __name__ == "__main__":
    raise SystemExit(main())
