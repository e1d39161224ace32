"""Is an option's gradient the right one? Measured exactly on decision processes small enough to enumerate (invariant
4).

A toy is a tree of yes/no decisions with one logit each. The exact gradient of an objective J is ``sum over paths
p(path) J(path) grad log p(path)``; what an option does is the expectation, over all groups of n independent paths, of
``1/n sum_i sum_t A_it grad log pi(a_it)`` with the A_it that :class:`rewards.recipe.Recipe` really gives. No
sampling: the difference is bias, to rounding.

``python -m rewards.toys`` prints the table of docs/rewards.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

from agent.trajectory import Trajectory
from rewards.config import RewardConfig
from rewards.credit import Credit
from rewards.matrix import Matrix
from rewards.recipe import Recipe

SIZE = 3
"""Group size of the table."""
EXACT = 1e-9

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """One episode of a toy."""

    probability: float
    scores: tuple[Vector, ...]
    """Per turn, the gradient of log pi of its action by each logit."""
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class Toy:
    name: str
    logits: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """An expected gradient against the exact one."""

    exact: Vector
    expected: Vector

    @property
    def unbiased(self) -> bool:
        return all(abs(a - b) <= EXACT for a, b in zip(self.exact, self.expected, strict=True))

    @property
    def ratio(self) -> float:
        """Length of the expected gradient along the exact one, in units of the exact one."""
        square = _dot(self.exact, self.exact)
        return _dot(self.expected, self.exact) / square if square > EXACT else math.nan

    @property
    def astray(self) -> float:
        """Length of the rest, in the same units (absolute where the exact gradient is 0)."""
        square = _dot(self.exact, self.exact)
        along = self.ratio if square > EXACT else 0.0
        rest = [b - along * a for a, b in zip(self.exact, self.expected, strict=True)]
        return math.sqrt(_dot(rest, rest) / (square if square > EXACT else 1.0))


Step = tuple[int, int, float, dict[str, Any]]
"""A decision (logit, choice, probability of 1) and the facts of its turn; logit -1: no choice."""


def stopping() -> Toy:
    """One pass of the only test a turn, at most three turns, p(continue) = 0.5. J = 1 + p + p^2 and dJ/dlogit = 0.5."""
    on, end, last = (0, 1, 0.5), (0, 0, 0.5), (-1, 0, 0.5)
    return _toy(
        "stopping",
        1,
        [
            ("no_submit", [(*end, _facts("1", "a"))]),
            ("tests_fail", [(*on, _facts("1", "b")), (*end, _facts("1", "ba"))]),
            ("tests_pass", [(*on, _facts("1", "b")), (*on, _facts("1", "bb")), (*last, _facts("1", "bbb"))]),
        ],
    )


def two_turns() -> Toy:
    """Two decisions, the second seeing the first; each turn passes some of four tests, so that credit is due on
    either."""
    first, second, outcomes = (
        ("1000", "1110"),
        ("1111", "1000", "0000", "1100"),
        ("no_submit", "tests_fail", "tests_pass"),
    )
    paths: list[tuple[str, list[Step]]] = []
    for a in (0, 1):
        for b in (0, 1):
            tests = first[a], second[2 * a + b]
            good = tests[0].count("1") + tests[1].count("1")
            turns = [
                (0, a, 0.6, _facts(tests[0], f"{a}", 3 - a, 1)),
                (1 + a, b, (0.3, 0.7)[a], _facts(tests[1], f"{a}{b}", 2 * b, 2)),
            ]
            paths.append((outcomes[min(good // 2, 2)], turns))
    return _toy("two turns", 3, paths)


def varying_length() -> Toy:
    """Take a little at once, or go on to a long turn that wins or loses, and after a win may go on once more."""
    take = (0, 0, 0.7)
    go, lose, win = (0, 1, 0.7), (1, 0, 0.4), (1, 1, 0.4)
    return _toy(
        "varying length",
        3,
        [
            ("tests_fail", [(*take, _facts("1000", "a", 2))]),
            ("no_submit", [(*go, _facts("0000", "b", 4)), (*lose, _facts("0000", "ba", 5, 3))]),
            (
                "tests_pass",
                [(*go, _facts("0000", "b", 4)), (*win, _facts("1111", "bb", 1, 3)), (2, 0, 0.5, _facts("1110", "c"))],
            ),
            (
                "tests_pass",
                [(*go, _facts("0000", "b", 4)), (*win, _facts("1111", "bb", 1, 3)), (2, 1, 0.5, _facts("1111", "d"))],
            ),
        ],
    )


TOYS = (stopping, two_turns, varying_length)


def measure(
    toy: Toy, config: RewardConfig, objective: Callable[[Credit, int], float] | str, size: int = SIZE
) -> Measured:
    """``objective``: a function of the credit of all paths and a path's place, or the name of a turn source whose
    rewards are summed."""
    recipe = Recipe(config)
    account = recipe.explain([path.trajectory for path in toy.paths])
    if isinstance(objective, str):
        worth = [math.fsum(r for r in row if r is not None) for row in account.turn_rewards[objective]]
    else:
        worth = [objective(account.credit, place) for place in range(len(toy.paths))]
    exact = [0.0] * toy.logits
    for path, value in zip(toy.paths, worth, strict=True):
        _add(exact, path.scores, [path.probability * value] * len(path.scores))
    return Measured(tuple(exact), expected(toy, recipe.score, size))


def expected(toy: Toy, score: Callable[[Sequence[Trajectory]], Credit], size: int) -> Vector:
    """The mean gradient estimate over all groups of ``size`` independent paths."""
    total = [0.0] * toy.logits
    for chosen in combinations_with_replacement(toy.paths, size):
        chance = math.factorial(size) * math.prod(path.probability for path in chosen)
        chance /= math.prod(math.factorial(n) for n in Counter(map(id, chosen)).values())
        credit = score([path.trajectory for path in chosen])
        for path, advantages in zip(chosen, credit.turns, strict=True):
            _add(total, path.scores, [chance * advantage / size for advantage in advantages])
    return tuple(total)


def total_return(credit: Credit, place: int) -> float:
    """The composed return."""
    return credit.returns[place]


_BASE: dict[str, Any] = {"critics": [], "combination": {"kind": "d_ra"}, "withhold_flagged": False}


def of_returns(normaliser: str) -> RewardConfig:
    """The outcome alone, under a normaliser of returns."""
    return RewardConfig.model_validate(_BASE | {"normaliser": {"kind": normaliser}})


def of_turns(**channel: Any) -> RewardConfig:
    """One turn channel alone."""
    return RewardConfig.model_validate(_BASE | {"trajectory_weight": 0.0, "turns": [channel]})


def table() -> str:
    """Every option on every toy, as Markdown: ratio along the exact gradient, and what goes astray."""
    head = ["option", *(toy().name for toy in TOYS), "verdict"]
    lines = [head, ["---"] * len(head)]
    for name, config, objective in options():
        found = [measure(toy(), config, objective) for toy in TOYS]
        lines.append([name, *map(_cell, found), "unbiased" if all(one.unbiased for one in found) else "biased"])
    for name, score in trainer_options():
        found = [_trainer(toy(), score) for toy in TOYS]
        lines.append([name, *map(_cell, found), "unbiased" if all(one.unbiased for one in found) else "biased"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def options() -> Iterator[tuple[str, RewardConfig, Callable[[Credit, int], float] | str]]:
    """Name, recipe and the objective that its gradient is compared with."""
    tests = {"kind": "tests", "aggregation": {"kind": "pass_rate"}}
    alone, to_go = {"kind": "leave_one_out"}, {"kind": "return_to_go"}
    for kind in ("leave_one_out", "mean_only", "mean_std"):
        yield f"A_traj, {kind}", of_returns(kind), total_return
    for name, credit in (
        ("immediate", {"kind": "immediate"}),
        ("return_to_go", to_go),
        ("return_to_go, gamma 0.9", to_go | {"gamma": 0.9}),
        ("min_form", {"kind": "min_form"}),
        ("potential, keep", {"kind": "potential"}),
        ("potential, zero", {"kind": "potential", "terminal": "zero"}),
    ):
        yield f"credit {name}", of_turns(source=tests, credit=credit, normaliser=alone), "tests"
    for kind in ("mean_only", "mean_std", "per_index", "token_share", "anchor"):
        yield f"A_turn, {kind}", of_turns(source=tests, credit=to_go, normaliser={"kind": kind}), "tests"
    centred = of_turns(source=tests, credit={"kind": "immediate"}, normaliser={"kind": "per_index"})
    yield "A_turn, per_index of rewards", centred, "tests"
    tree = {"kind": "prefix_tree", "divide": False}
    yield "A_turn, prefix_tree", of_turns(source={"kind": "return"}, normaliser=tree), total_return
    for terminal in ("keep", "zero"):
        source = {"kind": "pr_v2", "terminal": terminal}
        yield f"pr_v2, {terminal}", of_turns(source=source, credit=to_go, normaliser=alone), "pr_v2"


def trainer_options() -> Iterator[tuple[str, Callable[[Credit], Sequence[float]]]]:
    """What a trainer may do to the credit of a leave-one-out group: a factor per group or per member; 0 drops a
    group."""
    yield "divided by length", lambda credit: [1 / len(row) for row in credit.turns]
    yield "dead groups dropped", lambda credit: [float(not credit.degenerate)] * len(credit.turns)


def _trainer(toy: Toy, factor: Callable[[Credit], Sequence[float]]) -> Measured:
    config = of_returns("leave_one_out")

    def score(group: Sequence[Trajectory]) -> Credit:
        credit = Recipe(config).score(group)
        turns = tuple(tuple(a * f for a in row) for row, f in zip(credit.turns, factor(credit), strict=True))
        return credit.model_copy(update={"turns": turns})

    found = expected(toy, score, SIZE)
    alive = _share_kept(toy, factor, config)
    return Measured(measure(toy, config, total_return).exact, tuple(value / alive for value in found))


def _share_kept(toy: Toy, factor: Callable[[Credit], Sequence[float]], config: RewardConfig) -> float:
    """Chance that a group is not dropped: a mean over kept groups divides by it."""
    kept = 0.0
    for chosen in combinations_with_replacement(toy.paths, SIZE):
        chance = math.factorial(SIZE) * math.prod(path.probability for path in chosen)
        chance /= math.prod(math.factorial(n) for n in Counter(map(id, chosen)).values())
        kept += chance * any(factor(Recipe(config).score([path.trajectory for path in chosen])))
    return kept


def _toy(name: str, logits: int, paths: Sequence[tuple[str, Sequence[Step]]]) -> Toy:
    matrix = Matrix.model_validate(
        {
            "trajectories": [
                {"outcome": outcome, "diagnostics": 3, "turns": [facts for *_, facts in steps]}
                for outcome, steps in paths
            ]
        }
    )
    made: list[Path] = []
    for (_, steps), trajectory in zip(paths, matrix.group(), strict=True):
        chosen = [(logit, choice, p) for logit, choice, p, _ in steps if logit >= 0]
        chance = math.prod(p if choice else 1 - p for _, choice, p in chosen)
        made.append(Path(chance, tuple(_score(logits, *step[:3]) for step in steps), trajectory))
    return Toy(name, logits, tuple(made))


def _score(logits: int, logit: int, choice: int, p: float) -> Vector:
    return tuple(choice - p if index == logit else 0.0 for index in range(logits))


def _facts(tests: str, tree: str, diagnostics: int = 1, tokens: int = 1) -> dict[str, Any]:
    return {"tests": tests, "tree": tree, "action": tree, "diagnostics": diagnostics, "tokens": tokens}


def _add(total: list[float], scores: Sequence[Vector], factors: Sequence[float]) -> None:
    for score, factor in zip(scores, factors, strict=True):
        for index, value in enumerate(score):
            total[index] += factor * value


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def _cell(found: Measured) -> str:
    if math.isnan(found.ratio):
        return f"0 exact, {found.astray:.4f} found"
    return f"{found.ratio + 0.0:.4f}".replace("-0.0000", "0.0000") + (
        f", astray {found.astray:.4f}" if found.astray > EXACT else ""
    )


if __name__ == "__main__":
    print(table())
