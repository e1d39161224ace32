"""The levels of the four outcomes (rewards.md, section 1.3), and what early success is worth.

The order no submit < empty patch < tests fail < tests pass is G-RA's; the values -1, -0.5, 0 and 1 are ours, since
the paper's could not be read. ``discount`` is VeRPO's gamma (equation 11): a pass after n attempts pays ``tests_pass
* discount ** n``. The exponent stops at ``horizon`` (ours), so that the least worth of a pass is known before any
trajectory exists.
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from agent.trajectory import Outcome
from rewards.facts import Member
from rewards.option import Discount, Finite, Option, Positive

ORDER = (Outcome.NO_SUBMIT, Outcome.EMPTY_PATCH, Outcome.TESTS_FAIL, Outcome.TESTS_PASS)
"""Ascending."""


class Levels(Option):
    no_submit: Finite = -1.0
    empty_patch: Finite = -0.5
    tests_fail: Finite = 0.0
    tests_pass: Positive = 1.0
    discount: Discount = 1.0
    """gamma; 1.0 pays every pass the same."""
    horizon: int = 16
    """Attempts after which waiting costs no more."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        ladder = [self.of(outcome) for outcome in ORDER]
        if sorted(ladder) != ladder or not self.least_pass > self.tests_fail:
            raise ValueError(
                "outcome levels must ascend (no_submit <= empty_patch <= tests_fail < tests_pass, discounts included), "
                f"but they are {ladder} with a pass worth at least {self.least_pass:g}"
            )
        return self

    @property
    def least_pass(self) -> float:
        """Worth of a pass that took ``horizon`` attempts or more."""
        return self.tests_pass * self.discount**self.horizon

    def of(self, outcome: Outcome) -> float:
        """The level of an outcome, before any discount."""
        return float(getattr(self, outcome.value))

    def worth(self, member: Member) -> float:
        """The level of a trajectory's outcome. A flagged pass is worth no more than "tests fail"."""
        if member.outcome is not Outcome.TESTS_PASS:
            return self.of(member.outcome)
        if member.flagged:
            return self.tests_fail
        return self.tests_pass * self.discount ** min(len(member.attempts), self.horizon)
