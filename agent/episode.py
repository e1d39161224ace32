"""One episode: run -> step -> act.

A step appends what the policy has not seen yet, samples one turn, acts on it, and records the turn; it is left by an
exception that says why the episode is over (``agent.errors``). What was recorded in an earlier attempt is *replayed*:
the same deltas, the same sampled tokens, the same observations as the policy saw, acted out again in a fresh sandbox.

The loop awaits ``policy.sample`` and the sandbox and nothing else: many episodes run as coroutines of one thread, and
an engine is free to gather their samples into one batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from agent.config import AgentConfig
from agent.context import Window, cap
from agent.errors import Fault, FormatError, Stop, ToolError, boundary
from agent.facts import Tracker
from agent.formats.format import Format
from agent.patch import collect
from agent.policy import Message, Policy, Sampled
from agent.prompt import first_messages
from agent.scrub import scrub
from agent.tools.tool import Arguments, Result, Scene, Tool
from agent.trajectory import Action, End, Facts, Key, Trajectory, Turn
from sandbox.protocol import Sandbox
from sandbox.task import Failure, Prepared


@dataclass(frozen=True, slots=True)
class Done:
    """What one answer did."""

    action: Action | None
    observation: str
    facts: Facts
    leave: Stop | Fault | None = None
    """Why the episode is over with this turn."""


class Episode:
    """One policy on one task in one sandbox."""

    def __init__(
        self,
        policy: Policy,
        prepared: Prepared,
        sandbox: Sandbox,
        key: Key,
        config: AgentConfig,
        tools: Mapping[str, Tool],
        form: Format,
        tracker: Tracker,
        recorded: Sequence[Turn] = (),
    ) -> None:
        self._policy, self._key, self._config = policy, key, config
        self._task, self._base, self._sandbox = prepared.task, prepared.base, sandbox
        self._tools, self._form, self._tracker, self._recorded = tools, form, tracker, recorded
        self._deadline = time.monotonic() + config.wall_s
        self._scene = Scene(self._task, sandbox, config.command_s, self._deadline)
        self._window = Window(config.max_context)
        self._delta: tuple[int, ...] = ()
        self._malformed = 0
        self.turns: list[Turn] = []

    async def run(self) -> Trajectory:
        """Play to the end. Nothing but a bug of ours (or a cancellation) is raised."""
        try:
            await self._begin()
            while True:
                await self.step()
        except Stop as stop:
            return await self._finish(stop)
        except Fault as fault:
            return self._trajectory(End.INFRA, fault.detail, failure=fault.failure)

    async def step(self) -> None:
        """One turn. Raises ``Stop`` when the episode is over and ``Fault`` when something broke."""
        index = len(self.turns)
        self._check_budget(index)
        self._window.extend(self._delta)
        sampled = await self._sample(index)
        self._window.extend(sampled.ids)
        done = await self.act(sampled)
        self._record(index, sampled, done)
        if done.leave is not None:
            raise done.leave
        with boundary(Failure.INFRA):
            self._delta = self._next_delta(index, sampled)

    async def act(self, sampled: Sampled) -> Done:
        """Parse, call the tool, take the facts."""
        try:
            action = self._form.parse(sampled.text, sampled.cut)
        except FormatError as error:
            return self._refused(str(error))
        self._malformed = 0
        try:
            result = await self._use(action)
            return Done(action, self._tidy(result.text), await self._tracker.after(result))
        except ToolError as error:
            return Done(action, self._tidy(str(error)), self._tracker.still(format_ok=True, tool_ok=False))
        except Stop as stop:
            return Done(action, "", self._tracker.still(format_ok=True, tool_ok=True), stop)
        except Fault as fault:
            # Kept for the replay. No tree: this turn was never finished.
            return Done(action, "", Facts(format_ok=True, tool_ok=False), fault)

    # -- parts of a step ----------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        await self._tracker.start()
        with boundary(Failure.SANDBOX):
            messages = await first_messages(self._task, self._sandbox, self._config, self._form)
        with boundary(Failure.INFRA):
            self._delta = self._recorded[0].prompt if self._recorded else self._policy.open(messages)

    def _check_budget(self, index: int) -> None:
        if index >= self._config.max_turns:
            raise Stop(End.TURNS, f"{index} turns")
        if time.monotonic() >= self._deadline:
            raise Stop(End.TIME, f"{self._config.wall_s:g} s are over")

    async def _sample(self, index: int) -> Sampled:
        if index < len(self._recorded):
            turn = self._recorded[index]
            return Sampled(ids=turn.sampled, logprobs=turn.logprobs, text=turn.text, cut=turn.cut, version=turn.version)
        room = self._window.room(self._config.max_tokens)
        clock = asyncio.timeout(max(0.0, self._deadline - time.monotonic()))
        try:
            with boundary(Failure.INFRA):
                async with clock:
                    return await self._policy.sample(self._window.ids, self._key, index, room)
        except Fault:
            if clock.expired():
                raise Stop(End.TIME, f"{self._config.wall_s:g} s were over while sampling") from None
            raise

    async def _use(self, action: Action) -> Result:
        tool = self._tools.get(action.tool)
        if tool is None:
            raise ToolError(f"error: there is no tool {action.tool}.")
        args = _arguments(tool, action)
        with boundary(Failure.TOOL):
            return await tool.run(args, self._scene)

    def _refused(self, message: str) -> Done:
        self._malformed += 1
        over = self._malformed >= self._config.format_errors
        stop = Stop(End.FORMAT, f"{self._malformed} malformed answers in a row") if over else None
        return Done(None, message, self._tracker.still(format_ok=False, tool_ok=False), stop)

    def _tidy(self, text: str) -> str:
        return cap(scrub(text), self._config.observation_chars)

    def _record(self, index: int, sampled: Sampled, done: Done) -> None:
        seen = self._recorded[index] if index < len(self._recorded) else None
        known = seen is not None and seen.facts.tree is not None
        turn = Turn(
            prompt=self._delta,
            sampled=sampled.ids,
            logprobs=sampled.logprobs,
            text=sampled.text,
            cut=sampled.cut,
            version=sampled.version,
            action=done.action,
            # What the policy saw stands, even where the fresh sandbox words it differently.
            observation=seen.observation if seen is not None and known else done.observation,
            facts=done.facts,
        )
        self.turns.append(turn)

    def _next_delta(self, index: int, sampled: Sampled) -> tuple[int, ...]:
        if index + 1 < len(self._recorded):
            return self._recorded[index + 1].prompt
        message = Message(role="user", text=self.turns[index].observation)
        return self._policy.reply([message], sampled.cut)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _finish(self, stop: Stop) -> Trajectory:
        try:
            with boundary(Failure.SANDBOX):
                patch = await collect(self._sandbox, self._base, self._tracker.base.manifest, self._tracker.manifest)
        except Fault as fault:
            return self._trajectory(End.INFRA, fault.detail, failure=fault.failure)
        return self._trajectory(stop.end, stop.detail, patch=patch)

    def _trajectory(self, end: End, detail: str, *, failure: Failure | None = None, patch: str = "") -> Trajectory:
        measured = self._tracker.base.measured
        return Trajectory(
            task=self._task.instance_id,
            key=self._key,
            policy=self._policy.name,
            turns=tuple(self.turns),
            end=end,
            failure=failure,
            detail=detail,
            base_tree=self._tracker.base.tree,
            base_diagnostics=measured.count if measured else None,
            patch=patch,
        )


def _arguments(tool: Tool, action: Action) -> Arguments:
    try:
        return tool.Args.model_validate(action.args)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "arguments"
        raise ToolError(f"error: {action.tool}: {where}: {first['msg']}.") from None
