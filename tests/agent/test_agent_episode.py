"""Episodes of scripted policies over memory sandboxes: what each script comes to."""

from __future__ import annotations

import asyncio

import pytest
from agent_stage import Stage, context

from agent.scripted import ANYWHERE
from agent.trajectory import End, Outcome

GOLDEN = '''\
<|im_start|>user
```
`clamp` in pack/core.py is wrong: the wrong function is called.
```
```python
def clamp(x, low, high):
    """Keep ``x`` between ``low`` and ``high``."""
    return max(low, max(x, high))
```
Fix the function in a ```python block. Then ```submit.<|im_end|>
<|im_start|>assistant
```python
def clamp(x, low, high):
    """Keep ``x`` between ``low`` and ``high``."""
    return max(low, min(x, high))
```<|im_end|>
<|im_start|>user
clamp is replaced.<|im_end|>
<|im_start|>assistant
```submit
```<|im_end|>'''


def test_the_gold_solver_resolves_the_task_in_two_turns(stage: Stage) -> None:
    trajectory = asyncio.run(stage.play("gold"))
    assert trajectory.outcome is Outcome.TESTS_PASS and trajectory.end is End.SUBMITTED
    assert trajectory.patch == stage.prepared.task.patch
    assert trajectory.digest == trajectory.seal().digest
    assert context(trajectory) == GOLDEN


OUTCOMES = {
    "gold": Outcome.TESTS_PASS,
    "spoiler": Outcome.TESTS_FAIL,
    "quitter": Outcome.EMPTY_PATCH,
    "idler": Outcome.NO_SUBMIT,
    "breaker": Outcome.NO_SUBMIT,
}


@pytest.mark.parametrize(("name", "outcome"), OUTCOMES.items())
def test_each_script_has_its_outcome(stage: Stage, name: str, outcome: Outcome) -> None:
    assert asyncio.run(stage.play(name)).outcome is outcome


@pytest.mark.parametrize("name", ANYWHERE)
def test_every_episode_ends_with_a_reason_and_plays_the_same_again(stage: Stage, name: str) -> None:
    for sample in range(3):
        first, second = (asyncio.run(stage.play(name, sample)) for _ in range(2))
        assert first.failure is None and first.end in (End.SUBMITTED, End.TURNS, End.FORMAT)
        assert first == second
