"""History that is rewritten is counted by cause; weights that changed on the way are counted token by token."""

from __future__ import annotations

from agent.context import SUMMARISE
from agent.trajectory import Action, End, Facts, Key, Trajectory, Turn
from trainers.rollout.drift import forks
from trainers.rollout.sources import staleness


def turn(
    tokens: int = 1, *, fork: bool = False, action: Action | None = None, version: int = 0, spans: object = ()
) -> Turn:
    return Turn.model_validate(
        {
            "prompt": (1,),
            "sampled": (2,) * tokens,
            "logprobs": (-1.0,) * tokens,
            "text": "",
            "fork": fork,
            "action": action,
            "version": version,
            "spans": spans,
            "facts": Facts(format_ok=True, tool_ok=True),
        }
    )


def episode(*turns: Turn) -> Trajectory:
    return Trajectory(task="t", key=Key(seed=0, step=0, prompt=0, sample=0), policy="p", turns=turns, end=End.TURNS)


def test_a_fork_behind_a_summary_is_one_cause_and_a_dropped_turn_the_other() -> None:
    told = episode(turn(), turn(action=SUMMARISE), turn(fork=True), turn())
    cut = episode(turn(), turn(fork=True), turn(fork=True))
    assert forks([told, cut, episode(turn())]) == {"summed_up": 1, "dropped": 2}


def test_staleness_counts_the_tokens_of_each_weights() -> None:
    played = [episode(turn(6, version=3, spans=((3, 2), (5, 4))), turn(2, version=5))]
    assert staleness(played, 5) == {"mean": 2 * 2 / 8, "max": 2.0}
