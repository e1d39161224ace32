"""What a run keeps of its rewards: their audit, stored with the metrics and rebuilt from them, and the time they take.

The audit itself (:mod:`rewards.audit`) is a pure function of the recorded steps, so that the summary of a run, and a
replay of its trajectories, give the same warnings as the run did.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.trajectory import Trajectory
from rewards.audit import Audit, Step
from rewards.credit import Credit
from trainers.protocol import Scorer
from trainers.step import Scored


@dataclass(slots=True)
class Auditor:
    """Watches the steps of one run."""

    audit: Audit = field(default_factory=Audit)

    def step(self, scored: Scored) -> dict[str, Any]:
        """Record a step; what its metrics line holds of it."""
        seen = self.audit.add(scored.groups, scored.credits)
        return {"audit": asdict(seen), "warnings": self.audit.warnings()}

    def news(self) -> list[str]:
        """Warnings that were not given at the step before."""
        return self.audit.news()


@dataclass(slots=True)
class Stopwatch:
    """A scorer that knows how long it took, wherever it is asked."""

    inner: Scorer
    seconds: float = 0.0

    def score(self, group: Sequence[Trajectory]) -> Credit:
        """As ``inner`` does."""
        began = time.perf_counter()
        credit = self.inner.score(group)
        self.seconds += time.perf_counter() - began
        return credit

    def lap(self) -> float:
        """Wall seconds since the last lap."""
        spent, self.seconds = self.seconds, 0.0
        return spent


def rebuilt(records: Iterable[Mapping[str, Any]]) -> Auditor:
    """The auditor as it was after these lines of metrics."""
    made = Auditor()
    made.audit.steps += [Step(**record["audit"]) for record in records if "audit" in record]
    made.news()
    return made


def report(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The part of a summary: slopes over the last steps, the warnings that stand, and when each was first given."""
    audit, first = Audit(), list[dict[str, Any]]()
    for record in (record for record in records if "audit" in record):
        audit.steps.append(Step(**record["audit"]))
        first += [{"step": record["step"], "warning": sentence} for sentence in audit.news()]
    found = audit.data()
    return {"slopes": found["slopes"], "warnings": found["warnings"], "given": first}
