"""TEMPO, prefix to tree (arXiv 2509.18314; rewards.md, section 3.4), with turns as nodes.

    V(s) = mean return of all members that pass through s,     A_t = (V(s_{t+1}) - V(s_t)) / std(R)

A member's prefixes are nodes; the term is zero except where the group branches, and without branching the sum with
A_traj reduces to GRPO. Over a member that ends alone it telescopes to R - mean(R). The returns are the composed ones;
the turn values are not looked at. Nodes are the sampled actions, or the tree hashes they led to (an inference of the
specification; the paper merges tokens).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

from agent.scored import ScoredTurn
from agent.trajectory import Turn
from rewards.facts import Member
from rewards.normalise.base import TurnReturns, View
from rewards.normalise.statistics import degenerate, deviation, mean
from rewards.option import Option, Positive


class PrefixTree(Option):
    kind: Literal["prefix_tree"] = "prefix_tree"
    biased: ClassVar[bool] = True
    nodes: Literal["action", "tree"] = "action"
    divide: bool = True
    """Divide by the group's standard deviation, as in the paper."""
    eps: Positive = 1e-6

    def turns(self, values: TurnReturns, view: View) -> list[list[float]]:
        """Value differences along each member's path; exactly 0 where all returns are equal."""
        if degenerate(view.totals):
            return [[0.0] * len(row) for row in values]
        scale = 1.0 / (deviation(view.totals) + self.eps) if self.divide else 1.0
        paths = self._paths(view.group.members)
        through: dict[int, list[float]] = {}
        for path, total in zip(paths, view.totals, strict=True):
            for node in path:
                through.setdefault(node, []).append(total)
        worth = {node: mean(found) for node, found in through.items()}
        return [[(worth[after] - worth[here]) * scale for here, after in pairwise(path)] for path in paths]

    def gain(self) -> float:
        """Its values are differences of composed returns, whose order the gate's bounds keep."""
        return 0.0

    def _paths(self, members: Sequence[Member]) -> list[list[int]]:
        """Per member, the nodes before the first turn and after each; 0 is the root."""
        known: dict[tuple[int, Hashable], int] = {}
        paths: list[list[int]] = []
        for member in members:
            path, tree = [0], member.source.base_tree
            for turn in member.source.turns:
                tree = turn.facts.tree or tree
                step = tree if self.nodes == "tree" else _action(turn)
                path.append(known.setdefault((path[-1], step), len(known) + 1))
            paths.append(path)
        return paths


def _action(turn: Turn | ScoredTurn) -> Hashable:
    return (turn.sampled, turn.text, turn.action.model_dump_json() if turn.action else None)
