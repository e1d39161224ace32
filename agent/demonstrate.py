"""Demonstrations for a warm start: gold episodes over a model's own tokenizer, played without walls and checked.

Nothing is run and nothing is sampled: the scripted solver plays its edits over a memory sandbox, through the same
prompt, format, tools and window as a model does, so that what is imitated is exactly what will be met. An episode
whose tree is not the gold tree at its end is no demonstration.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.chat import Chat
from agent.config import AgentConfig
from agent.doubles import ExactGrader, Shelf
from agent.scaffold import Scaffold
from agent.scripted import scripted
from agent.trajectory import Key, Outcome, Trajectory
from sandbox.memory import MemoryBackend
from sandbox.task import Prepared, TaskError

STEP = -2
"""Step of a demonstration's key: it belongs to no training step."""


async def demonstrate(prepared: Iterable[Prepared], config: AgentConfig, chat: Chat, seed: int = 0) -> list[Trajectory]:
    """Sealed gold episodes in the order of the tasks; one that the solver cannot play within the budgets is left out.

    The training rows are their ``segments()``. Equal arguments give equal trajectories.
    """
    quiet = config.model_copy(update={"diagnostics": False})
    backend = MemoryBackend()
    try:
        played = [await _play(one, index, quiet, chat, backend, seed) for index, one in enumerate(prepared)]
    finally:
        await backend.close()
    return [t for t in played if t is not None and t.outcome is Outcome.TESTS_PASS]


async def _play(
    prepared: Prepared, index: int, config: AgentConfig, chat: Chat, backend: MemoryBackend, seed: int
) -> Trajectory | None:
    scaffold = Scaffold(config, backend, Shelf((prepared,)), ExactGrader())
    try:
        policy = scripted("gold", prepared, config, chat)
    except TaskError:
        return None
    key = Key(seed=seed, step=STEP, prompt=index, sample=0)
    return await scaffold.play_with_retries(prepared.task, policy, key)
