"""Relocation: a selector that may be stale against the code as it is now (section 4 of docs/lanser.md).

Candidates come from :mod:`lsp.candidates` and :mod:`lsp.anchors`, their scores from :mod:`lsp.ranking`. Invariants:

* An exact, unique structural hit scores 1.0; so does a position that is taken as it stands.
* Nothing is guessed: a best score below ``tau``, or two best closer than ``margin``, is ``AMBIGUOUS`` with the
  candidates and their evidence.
* The order of candidates, ties by (uri, range), is a function of the content alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsp.errors import Code, LanserError
from lsp.ranking import MARGIN, SHOWN, TAU, WEIGHTS, Candidate, Tree
from lsp.selectors import AnchorSpec, AstSpec, CursorSpec, RangeSpec, Spec, SymbolSpec, check


@dataclass(frozen=True)
class Resolution:
    """Where a selector leads now."""

    winner: Candidate
    others: tuple[Candidate, ...] = ()
    tau: float = TAU

    @property
    def confidence(self) -> float:
        """alpha_t."""
        return round(self.winner.score, 6)

    def as_dict(self, original: str | Mapping[str, Any], version: str | None) -> dict[str, Any]:
        """The ``resolution`` part of a bundle. ``version`` is the digest of the file's content now."""
        found = self.winner.as_dict()
        return {
            "original": original,
            "resolved": {**found, "docVersion": version},
            "confidence": self.confidence,
            "disambiguation": [candidate.as_dict() for candidate in self.others[:SHOWN]],
            "weights": dict(WEIGHTS),
            "tau": self.tau,
        }


def resolve(spec: Spec, tree: Tree, tau: float = TAU) -> Resolution:
    """Where ``spec`` leads in ``tree``. ``NOT_FOUND``, ``AMBIGUOUS``, ``VERSION_SKEW``, ``JAIL`` or
    ``BAD_SELECTOR_SYNTAX``.
    """
    from lsp import anchors, candidates

    check(spec)
    match spec:
        case CursorSpec() | RangeSpec():
            return Resolution(candidates.position(spec, tree), tau=tau)
        case SymbolSpec():
            return choose(candidates.symbols(spec, tree), spec, tau)
        case AstSpec():
            return choose(candidates.nodes(spec, tree), spec, tau)
        case AnchorSpec():
            return choose(anchors.snippets(spec, tree), spec, tau)


def choose(found: Iterable[Candidate], spec: Spec, tau: float = TAU) -> Resolution:
    """The best candidate when it is good enough and clearly the best."""
    from lsp.selectors import format as write

    ranked = sorted(found, key=lambda candidate: (-candidate.score, candidate.uri, candidate.range))
    if not ranked:
        raise LanserError(Code.NOT_FOUND, f"nothing in the workspace answers to {write(spec)}")
    best, rest = ranked[0], ranked[1:]
    exact = [candidate for candidate in ranked if candidate.exact]
    if len(exact) == 1:
        return Resolution(best, tuple(rest), tau)
    if best.score < tau or (rest and best.score - rest[0].score < MARGIN):
        raise ambiguous(ranked, spec, tau)
    return Resolution(best, tuple(rest), tau)


def ambiguous(ranked: Sequence[Candidate], spec: Spec, tau: float) -> LanserError:
    """The refusal, with the candidates and what speaks for each."""
    from lsp.selectors import format as write

    shown = [candidate.as_dict() for candidate in ranked[:SHOWN]]
    places = "; ".join(f"{c.uri}:{c.range[0] + 1}" + (f" ({c.name})" if c.name else "") for c in ranked[:SHOWN])
    if ranked[0].score < tau:
        message = f"nothing in the workspace is surely {write(spec)}; nearest: {places}"
    else:
        message = f"{write(spec)} could mean {len(ranked)} places: {places}; name one of them exactly"
    return LanserError(Code.AMBIGUOUS, message, {"candidates": shown, "tau": tau, "weights": dict(WEIGHTS)})
