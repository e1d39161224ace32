"""An account of one group as plain data and as text: who was paid what, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agent.trajectory import Trajectory
from rewards.recipe import Account, Recipe


def as_data(group: Sequence[Trajectory], recipe: Recipe, account: Account) -> dict[str, Any]:
    """Per trajectory and turn: rewards by critic, gate, reward, A_traj, A_turn, advantage. Ready for JSON."""
    rows = {member.place: index for index, member in enumerate(account.group.members)}
    return {
        "recipe": recipe.config.name,
        "degenerate": account.credit.degenerate,
        "trajectories": [_trajectory(account, place, one, rows.get(place)) for place, one in enumerate(group)],
    }


def _trajectory(account: Account, place: int, one: Trajectory, member: int | None) -> dict[str, Any]:
    credit = account.credit
    head: dict[str, Any] = {"outcome": one.outcome.value, "valid": credit.valid[place]}
    if member is None:
        return head | {"turns": [{"advantage": value} for value in credit.turns[place]]}
    return head | {
        "gate": "open" if credit.gate[place] else "closed",
        "rewards": {name: values[place] for name, values in credit.parts.items()},
        "reward": credit.returns[place],
        "A_traj": credit.trajectory[place],
        "turns": [_turn(account, place, member, turn) for turn in range(len(one.turns))],
    }


def _turn(account: Account, place: int, member: int, turn: int) -> dict[str, Any]:
    credit = account.credit
    return {
        "rewards": {channel.name: channel.turns[turn] for channel in account.channels[member]},
        "reward": account.combined[member].steps[turn],
        "R_turn": {name: rows[member][turn] for name, rows in account.turn_rewards.items()},
        "A_turn": {name: rows[place][turn] for name, rows in credit.turn_parts.items()},
        "advantage": credit.turns[place][turn],
    }


def as_text(data: dict[str, Any]) -> str:
    """Two tables: trajectories, then turns. Plain ASCII, columns aligned."""
    trajectories = data["trajectories"]
    note = "  (degenerate: A_traj is 0)" if data["degenerate"] else ""
    critics = list(dict.fromkeys(name for one in trajectories for name in one.get("rewards", ())))
    head = ["#", "outcome", "gate", *critics, "reward", "A_traj"]
    rows = [
        [str(index), one["outcome"], one.get("gate", "masked"), *_numbers(one, critics, ("reward", "A_traj"))]
        for index, one in enumerate(trajectories)
    ]
    return "\n".join([f"recipe {data['recipe']}{note}", *_aligned([head, *rows]), "", *_turn_table(trajectories)])


def _turn_table(trajectories: Sequence[dict[str, Any]]) -> Iterator[str]:
    turns = [(f"{i}.{t}", turn) for i, one in enumerate(trajectories) for t, turn in enumerate(one["turns"])]
    critics = list(dict.fromkeys(name for _, turn in turns for name in turn.get("rewards", ())))
    sources = list(dict.fromkeys(name for _, turn in turns for name in turn.get("R_turn", ())))
    head = ["turn", *critics, "reward", *(f"{p}({s})" for s in sources for p in ("R", "A")), "advantage"]
    rows = [
        [name, *_numbers(turn, critics, ("reward",)), *_sources(turn, sources), _number(turn["advantage"])]
        for name, turn in turns
    ]
    yield from _aligned([head, *rows])


def _numbers(row: dict[str, Any], critics: Sequence[str], fields: Sequence[str]) -> list[str]:
    own = row.get("rewards", {})
    return [_number(own.get(name)) for name in critics] + [_number(row.get(name)) for name in fields]


def _sources(turn: dict[str, Any], sources: Sequence[str]) -> list[str]:
    return [_number(turn.get(part, {}).get(name)) for name in sources for part in ("R_turn", "A_turn")]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value + 0.0:.4f}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
