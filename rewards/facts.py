"""A group of trajectories as the reward functions see it.

Invariants: an infrastructure failure is not a member, so no statistic can touch it (invariant 6); an attempt is a
turn that reached a tree not seen before in its episode (rewards.md, section 5.2), so that reading, undoing and
redoing are no attempts; a fact that was not measured raises :class:`RewardError` and is never taken for 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from agent.scored import Played, ScoredFacts
from agent.trajectory import Facts, Outcome
from rewards.errors import RewardError
from sandbox.task import Failure, Status


@dataclass(frozen=True, slots=True)
class Suite:
    """Which hidden tests must be fixed and which must not break."""

    f2p: Collection[str]
    p2p: Collection[str]


@dataclass(frozen=True, slots=True)
class Member:
    """One valid trajectory of a group."""

    source: Played
    facts: tuple[Facts | ScoredFacts, ...]
    """Of each turn."""
    place: int
    """Index in the group as it was given."""
    outcome: Outcome
    """Never ``INFRA``."""
    flagged: bool
    """Grading suspects tampering: no positive credit (rewards.md, section 5.7)."""
    attempts: tuple[int, ...]
    """Turns that are attempts, ascending."""

    @property
    def name(self) -> str:
        return f"{self.source.task} sample {self.source.key.sample}"


@dataclass(frozen=True, slots=True)
class Grades:
    """The test vectors of all attempts of a group, in the order of members and turns."""

    names: tuple[str, ...]
    rows: tuple[str, ...]
    """One digit per test and attempt: 1 passed, 0 did not. Shape (M_x, number of tests)."""
    owner: tuple[tuple[int, int], ...]
    """(index of the member, index of the turn) of each row."""


@dataclass(frozen=True)
class Group:
    """The valid members of a group."""

    size: int
    """Number of trajectories given, masked ones included."""
    members: tuple[Member, ...]
    suite: Suite | None = field(default=None)

    @cached_property
    def grades(self) -> Grades:
        """Raises :class:`RewardError` where an attempt has no test vector or the vectors name different tests."""
        return _grades(self.members)


def read(group: Sequence[Played], suites: Mapping[str, Suite] | None = None) -> Group:
    """Keep the valid trajectories. Raises :class:`RewardError` for a mixed group or a fact that is no number."""
    tasks = sorted({trajectory.task for trajectory in group})
    if len(tasks) > 1:
        raise RewardError(f"one group holds one task, not {len(tasks)}: {', '.join(tasks[:3])}")
    members = tuple(_member(place, one, outcome) for place, one in enumerate(group) if (outcome := outcome_of(one)))
    return Group(len(group), members, (suites or {}).get(tasks[0]) if tasks else None)


def outcome_of(trajectory: Played) -> Outcome | None:
    """The outcome that is scored; ``None`` for an infrastructure failure.

    A failure that is the policy's own (one that the same actions cause again) is worth at most "tests fail".
    """
    outcome = trajectory.outcome
    if trajectory.failure is Failure.POLICY and outcome in (Outcome.INFRA, Outcome.TESTS_PASS):
        return Outcome.TESTS_FAIL
    return None if outcome is Outcome.INFRA else outcome


def _member(place: int, trajectory: Played, outcome: Outcome) -> Member:
    facts = tuple([turn.facts for turn in trajectory.turns])
    for index, one in enumerate(facts):
        if (confidence := one.confidence) is not None and not 0.0 <= confidence <= 1.0:
            raise RewardError(f"{trajectory.task}, turn {index}: confidence is {confidence}, which is not in [0, 1]")
    verdict = trajectory.verdict
    flagged = verdict is not None and (bool(verdict.flags) or verdict.status is Status.TAMPERED)
    return Member(trajectory, facts, place, outcome, flagged, _attempts(trajectory.base_tree, facts))


def _attempts(base: str, facts: Sequence[Facts | ScoredFacts]) -> tuple[int, ...]:
    seen: set[str | None] = {base} if base else set()
    found: list[int] = []
    for index, one in enumerate(facts):
        if (tree := one.tree) not in seen and one.attempt:
            found.append(index)
        if tree is not None:
            seen.add(tree)
    return tuple(found)


def _grades(members: Sequence[Member]) -> Grades:
    names = next((member.source.tests for member in members if member.attempts and member.source.tests), ())
    rows: list[str] = []
    owner: list[tuple[int, int]] = []
    for index, member in enumerate(members):
        rows += _rows(member, names)
        owner += [(index, turn) for turn in member.attempts]
    return Grades(names, tuple(rows), tuple(owner))


def _rows(member: Member, names: Sequence[str]) -> list[str]:
    """The vectors of a member's attempts, one digit per test of ``names``."""
    if not member.attempts:
        return []
    order, width = _order(member, names), len(member.source.tests)
    found = [member.facts[turn].tests for turn in member.attempts]
    rows = [digits for digits in found if digits is not None and len(digits) == width]
    if len(rows) < len(found):
        raise _ungraded(member, found, width)
    return rows if order is None else ["".join([digits[place] for place in order]) for digits in rows]


def _ungraded(member: Member, found: Sequence[str | None], width: int) -> RewardError:
    """The first attempt without a vector, or with one of another length, by its name."""
    turn, digits = next((t, d) for t, d in zip(member.attempts, found, strict=True) if d is None or len(d) != width)
    where = f"{member.name}, turn {turn}"
    if digits is not None:
        return RewardError(f"{where}: {len(digits)} grades of {width} tests")
    return RewardError(
        f"{where}: the attempt was not graded; record the run with --agent.shadow on, "
        "or take a recipe without test vectors"
    )


def _order(member: Member, names: Sequence[str]) -> list[int] | None:
    """Places of the group's tests in the member's own list; ``None`` where the lists are the same or it has none."""
    own = member.source.tests
    if not own or own == names:
        return None
    if odd := sorted({*own} ^ {*names}):
        raise RewardError(f"{member.name}: the attempts of a group were graded on different tests ({odd[0]})")
    return [own.index(name) for name in names]
