"""The process reward of arXiv 2510.22907, and one that cannot be farmed (pure functions, standard library only).

``D`` is the diagnostic count of a target set fixed at the start, ``S`` in {0, 1} whether the last prospective
mutation passed every safety check, ``alpha`` in [0, 1] the confidence of the last resolution. A turn that neither
mutates nor resolves carries S and alpha forward, one whose diagnostics are missing carries D forward; S_0 = alpha_0 =
1.

* ``pr-v1`` (eq. 5.1 of the paper): r_t = a (D_{t-1} - D_t) + b S_t - c (1 - alpha_t). Farmable: b S_t pays every
  harmless mutation.
* ``pr-v2`` (after Ng, Harada, Russell 1999, gamma = 1): Phi_t = -a D_t / max(1, D_0) + b S_t + c alpha_t and r_t =
  Phi_t - Phi_{t-1}. The sum over any stretch is Phi_end - Phi_start, so what ends where it began earns exactly what
  rounding leaves of 0.

Invariant: the same numbers online, from a replayed trace and from a stored trajectory, since both read the same three
fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

Version = Literal["pr-v1", "pr-v2"]
Terminal = Literal["keep", "zero"]


@dataclass(frozen=True)
class Weights:
    """Weights of the three terms; the paper's by default."""

    a: float = 0.5
    b: float = 0.4
    c: float = 0.1


@dataclass(frozen=True)
class Observation:
    """What one turn tells. ``None``: nothing new, carried forward; a missing D is never 0."""

    diagnostics: int | None = None
    safe: bool | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class State:
    """What is known after a turn."""

    diagnostics: int
    safe: bool = True
    confidence: float = 1.0

    def after(self, turn: Observation) -> State:
        """The state after ``turn``. ``ValueError`` for values outside their domain."""
        if turn.diagnostics is not None and turn.diagnostics < 0:
            raise ValueError(f"a diagnostic count cannot be {turn.diagnostics}")
        if turn.confidence is not None and not 0 <= turn.confidence <= 1:
            raise ValueError(f"a confidence lies in [0, 1], not at {turn.confidence}")
        return State(
            self.diagnostics if turn.diagnostics is None else turn.diagnostics,
            self.safe if turn.safe is None else turn.safe,
            self.confidence if turn.confidence is None else turn.confidence,
        )


@dataclass(frozen=True)
class Reward:
    """One turn's reward and where it came from."""

    version: Version
    r: float
    components: Mapping[str, float]
    weights: Weights

    def as_dict(self) -> dict[str, Any]:
        """The ``processReward`` part of a bundle."""
        components = dict(self.components)
        return {"version": self.version, "r": self.r, "components": components, "weights": asdict(self.weights)}


def pr_v1(before: State, after: State, weights: Weights = Weights()) -> Reward:
    """Equation 5.1. For D 5 -> 2, S = 1, alpha = 0.94: 1.894."""
    components = {
        "diagnostics": weights.a * (before.diagnostics - after.diagnostics),
        "safety": weights.b * after.safe,
        "ambiguity": -weights.c * (1 - after.confidence),
    }
    return Reward("pr-v1", sum(components.values()), components, weights)


def potential(state: State, start: int, weights: Weights = Weights()) -> float:
    """Phi of a state whose episode began with ``start`` diagnostics. D is clamped at twice its start (of 1, when that
    is 0), which bounds it.
    """
    return sum(_terms(state, start, weights).values())


def pr_v2(before: State, after: State, start: int, weights: Weights = Weights()) -> Reward:
    """The difference of potentials of two states of one episode."""
    old, new = _terms(before, start, weights), _terms(after, start, weights)
    components = {name: new[name] - old[name] for name in new}
    return Reward("pr-v2", sum(new.values()) - sum(old.values()), components, weights)


def states(start: int, turns: Iterable[Observation]) -> list[State]:
    """The states before the first turn and after each, S and alpha carried forward."""
    reached = [State(start)]
    for turn in turns:
        reached.append(reached[-1].after(turn))
    return reached


def rewards(
    start: int,
    turns: Sequence[Observation],
    version: Version = "pr-v2",
    weights: Weights = Weights(),
    *,
    terminal: Terminal = "keep",
    gamma: float = 1.0,
) -> list[float]:
    """r_1 .. r_T of one episode that began with ``start`` diagnostics.

    ``terminal="zero"`` (pr-v2 only) appends -Phi_T, one more entry: the sum is then -Phi_0 for every trajectory, a
    control variate that leaves the expected gradient alone. ``keep`` adds Phi_T - Phi_0 to the return and so changes
    the objective towards leaving the code clean. ``ValueError`` for gamma other than 1: a step that improves
    everything would then cost something when Phi > 0.
    """
    if gamma != 1.0:
        raise ValueError(f"gamma must be 1, not {gamma}: a smaller one charges steps that improve everything")
    reached = states(start, turns)
    pairs = list(pairwise(reached))
    if version == "pr-v1":
        if terminal != "keep":
            raise ValueError("terminal is an option of pr-v2: eq. 5.1 has no potential to take back")
        return [pr_v1(before, after, weights).r for before, after in pairs]
    found = [pr_v2(before, after, start, weights).r for before, after in pairs]
    return found if terminal == "keep" else [*found, -potential(reached[-1], start, weights)]


def observe(bundle: Mapping[str, Any]) -> Observation:
    """What one bundle tells: ``facts.count``, ``edits.safe``, ``resolution.confidence``. A bundle of a dead server
    has no count.
    """
    parts = {key: bundle.get(key) or {} for key in ("facts", "edits", "resolution")}
    return Observation(
        diagnostics=parts["facts"].get("count"),
        safe=parts["edits"].get("safe"),
        confidence=parts["resolution"].get("confidence"),
    )


def _terms(state: State, start: int, weights: Weights) -> dict[str, float]:
    scale = max(1, start)
    return {
        "diagnostics": -weights.a * min(state.diagnostics, 2 * scale) / scale,
        "safety": weights.b * state.safe,
        "ambiguity": weights.c * state.confidence,
    }
