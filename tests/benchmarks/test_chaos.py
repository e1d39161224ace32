"""The chaos counts what it promises: a third of the waves is hit, and each kind of wrong ending fails the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from agent.trajectory import End, Key, Trajectory
from benchmarks.chaos import Ended, Watched, report
from benchmarks.chaos_play import CONTAINER, ENGINE, PARENT, Plan
from sandbox.task import Failure, Status, Verdict

PLAN = Plan(episodes=36, at_once=2, seed=0, restart="", faults=(CONTAINER, PARENT, ENGINE))
NOTHING = {"containers": 0, "processes": 0}


def test_each_third_wave_is_hit_by_one_kind_after_the_other_and_every_episode_is_in_one_wave() -> None:
    waves = list(PLAN.waves())
    assert [index for wave in waves for index in wave.episodes] == list(range(36))
    assert [wave.fault for wave in waves[:9]] == ["", "", CONTAINER, "", "", PARENT, "", "", ENGINE]
    assert Counter(wave.fault for wave in waves) == {"": 12, CONTAINER: 2, PARENT: 2, ENGINE: 2}


def played(index: int, script: str, status: Status) -> Trajectory:
    return Trajectory(
        task="t", key=Key(seed=0, step=index, prompt=0, sample=0), policy=script, turns=(), end=End.SUBMITTED,
        patch="x", verdict=Verdict(status=status),
    )  # fmt: skip


def whole() -> list[Ended]:
    earned = {"gold": Status.RESOLVED, "spoiler": Status.FAILED}
    return [
        Ended(PLAN.script(index), wave.fault, played(index, "p", earned[PLAN.script(index)]))
        for wave in PLAN.waves()
        for index in wave.episodes
    ]


def watched() -> Watched:
    return Watched(hits=Counter((CONTAINER, PARENT, ENGINE)), done=Counter(range(36)))


def test_a_run_in_which_everything_holds_is_good() -> None:
    lines, good = report(PLAN, whole(), watched(), NOTHING)
    assert good and "| none | 0 | 24 | 24 | 0 | 0 |" in lines


INFRA = {"verdict": None, "failure": Failure.SANDBOX, "end": End.INFRA, "patch": "", "detail": "the container is gone"}


def wrong(ended: list[Ended], index: int, **change: object) -> list[Ended]:
    one = ended[index]
    return [*ended[:index], one._replace(trajectory=one.trajectory.model_copy(update=change)), *ended[index + 1 :]]


@pytest.mark.parametrize(
    "change",
    [
        lambda e, w, n: (wrong(e, 4, verdict=Verdict(status=Status.FAILED)), w, n),
        lambda e, w, n: (wrong(e, 0, **INFRA), w, n),
        lambda e, w, n: (e[:-1], w, n),
        lambda e, w, n: ([*e, e[3]], w, n),
        lambda e, w, n: (e, Watched(w.hits, w.done, lingering=1), n),
        lambda e, w, n: (e, Watched(w.hits, w.done, broken=["it hung"]), n),
        lambda e, w, n: (e, Watched(Counter((CONTAINER, PARENT)), w.done), n),
        lambda e, w, n: (e, w, {**n, "processes": 1}),
    ],
    ids=[
        "zero for a fault",
        "no fault, no verdict",
        "lost",
        "played twice",
        "lingers",
        "hung",
        "no hit",
        "left behind",
    ],
)
def test_each_wrong_ending_fails_the_run(change: Callable[..., tuple[list[Ended], Watched, dict[str, int]]]) -> None:
    assert not report(PLAN, *change(whole(), watched(), NOTHING))[1]


def test_a_faulted_episode_may_end_in_a_typed_failure_whose_cause_is_said() -> None:
    ended = whole() * 3
    plan = PLAN.model_copy(update={"episodes": 36})
    lines, _ = report(plan, wrong(ended, 4, **INFRA), watched(), NOTHING)
    assert "| container killed | 1 | 12 | 11 | 1 | 0 |" in lines
    assert "* not right: 1 x sandbox: the container is gone" in lines
