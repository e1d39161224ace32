"""``python -m benchmarks.factsheet RUN``: stored trajectories as Markdown, with every fact of every turn.

One table an episode, for reports under ``docs/reports``: what was called with which arguments, what became a fact (an
empty cell was not measured), what was observed, and the final patch. Digests are shortened; ``bundles/`` of the run
holds what they name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.store import Store, StoreError
from agent.text import fence
from agent.trajectory import Action, Facts, Trajectory, Turn

HEAD = (
    "turn",
    "call",
    "ok",
    "exit",
    "tree",
    "attempt",
    "errors (suppressed)",
    "targets",
    "confidence",
    "safe",
    "bundle",
    "answer",
    "hidden tests",
    "observation",
)
CALL = 110
SEEN = 60
SHORT = 8
"""Characters of a digest."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.factsheet", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder or a trajectory file")
    run: Path = parser.parse_args(arguments).run
    file = run / "trajectories.jsonl" if run.is_dir() else run
    try:
        found = sorted(Store(file).read(), key=lambda one: (str(one.key), one.task))
    except StoreError as error:
        return _refuse(str(error))
    if not found:
        return _refuse(f"{file} holds no trajectory; name a run folder or a file of trajectories")
    print("\n".join(line for one in found for line in (f"## {one.task}, sample {one.key.sample}", "", *sheet(one), "")))
    return 0


def sheet(trajectory: Trajectory) -> Iterator[str]:
    """The lines of one episode's table, and its patch."""
    base = trajectory.base_diagnostics
    before = "no diagnostics" if base is None else f"{base} errors"
    yield f"Ended: {trajectory.end.value}; outcome {trajectory.outcome.value}; {before} before the first turn."
    yield ""
    yield f"| {' | '.join(HEAD)} |"
    yield "|---" * len(HEAD) + "|"
    for index, turn in enumerate(trajectory.turns):
        yield f"| {index} | {' | '.join(_cells(turn))} |"
    if trajectory.patch:
        yield from ("", *fence(trajectory.patch.rstrip("\n"), "diff").split("\n"))


def _cells(turn: Turn) -> Iterator[str]:
    calls = " + ".join(_call(action) for action in (turn.action, *turn.more) if action)
    yield calls or "none"
    yield from _facts(turn.facts)
    yield _line(turn.observation, SEEN)


def _facts(facts: Facts) -> Iterator[str]:
    yield "yes" if facts.tool_ok else "no"
    yield "" if facts.exit_code is None else str(facts.exit_code)
    yield _digest(facts.tree)
    yield "new" if facts.attempt else "seen before" if facts.changed else ""
    yield "" if facts.diagnostics is None else f"{facts.diagnostics} ({facts.suppressed})"
    yield _digest(facts.targets)
    yield "" if facts.confidence is None else f"{facts.confidence:.3g}"
    yield "" if facts.safe is None else "yes" if facts.safe else "no"
    yield _digest(facts.bundle)
    yield _digest(facts.answer)
    yield "" if facts.tests is None else f"{facts.tests.count('1')}/{len(facts.tests)}"


def _call(action: Action) -> str:
    args = json.dumps(action.args, ensure_ascii=False) if action.args else ""
    return _line(f"{action.tool} {args}".strip(), CALL)


def _digest(name: str | None) -> str:
    return "" if name is None else name.removeprefix("sha256:")[:SHORT]


def _line(text: str, most: int) -> str:
    """On one line of a table, where nothing in it is markup."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= most else f"{flat[:most]}..."
    return "".join(f"\\{one}" if one in "\\`*_|<[" else one for one in short)


def _refuse(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
