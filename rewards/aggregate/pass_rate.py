"""Raw pass rate: ``passed / tests``. A baseline: VeRPO's paper found it can be worse than the binary outcome."""

from __future__ import annotations

from typing import Literal

from rewards.facts import Grades, Suite
from rewards.option import Option


class PassRate(Option):
    kind: Literal["pass_rate"] = "pass_rate"

    def values(self, grades: Grades, suite: Suite | None) -> list[float]:
        """Per attempt, in [0, 1]; 0.0 where there is no test."""
        return [row.count("1") / len(row) if row else 0.0 for row in grades.rows]

    def top(self) -> float:
        """Greatest possible value."""
        return 1.0
