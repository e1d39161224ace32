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

from agent import templates
from agent.act import Actor, Done
from agent.config import AgentConfig
from agent.context import SUMMARISE, Window, dropped, resumed
from agent.errors import Fault, Stop, boundary
from agent.facts import Tracker
from agent.formats.format import Format
from agent.patch import collect
from agent.policy import Message, Policy, Sampled
from agent.prompt import first_messages
from agent.scrub import scrub
from agent.text import cap, fit
from agent.tools.tool import Scene, Tool, Web
from agent.trajectory import End, Key, Trajectory, Turn
from sandbox.protocol import Sandbox
from sandbox.task import Failure, Prepared


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
        web: Web | None = None,
    ) -> None:
        self._policy, self._key, self._config = policy, key, config
        self._task, self._base, self._sandbox = prepared.task, prepared.base, sandbox
        self._form, self._tracker, self._recorded = form, tracker, recorded
        self._deadline = time.monotonic() + config.wall_s
        scene = Scene(
            self._task,
            sandbox,
            config.command_s,
            self._deadline,
            web or Web(),
            prepared.python or "python",
            prepared.pytest_args,
        )
        self._actor = Actor(form, tools, scene, tracker, self._tidy, config)
        self._window = Window(config.max_context)
        self._messages: tuple[Message, ...] = ()
        self._opening: tuple[int, ...] = ()
        self._delta: tuple[int, ...] = ()
        self._fork = False
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
        if not self._next_recorded():
            await self._make_room()
        index = len(self.turns)
        self._check_budget(index)
        sampled = await self._draw(index)
        done = await self._acted(index, sampled)
        self._record(index, sampled, done)
        if done.leave is not None:
            raise done.leave
        with boundary(Failure.INFRA):
            self._advance(index, sampled)

    # -- parts of a step ----------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        await self._tracker.start()
        with boundary(Failure.SANDBOX):
            self._messages = await first_messages(self._task, self._sandbox, self._config, self._form)
        with boundary(Failure.INFRA):
            self._opening = self._recorded[0].prompt if self._recorded else self._policy.open(self._messages)
        self._delta = self._opening

    def _check_budget(self, index: int) -> None:
        if index >= self._config.max_turns:
            raise Stop(End.TURNS, f"{index} turns")
        if time.monotonic() >= self._deadline:
            raise Stop(End.TIME, f"{self._config.wall_s:g} s are over")

    async def _draw(self, index: int) -> Sampled:
        """The next sample, in the window with what precedes it."""
        if self._fork:
            self._window.restart(self._delta)
        else:
            self._window.extend(self._delta)
        sampled = await self._sample(index)
        self._window.extend(sampled.ids)
        return sampled

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

    async def _acted(self, index: int, sampled: Sampled) -> Done:
        seen = self._next_recorded()
        if seen is not None and seen.action == SUMMARISE:
            return self._summed_up()
        return await self._actor.act(sampled)

    def _tidy(self, text: str) -> str:
        short = cap(scrub(text), self._config.observation_chars)
        budget = self._config.observation_tokens
        return short if budget is None else fit(short, budget, self._count)

    def _count(self, text: str) -> int:
        """Tokens of a text in a message, without those that frame it."""
        frame, framed = (len(self._policy.reply([Message(role="user", text=t)], False)) for t in ("", text))
        return framed - frame

    def _record(self, index: int, sampled: Sampled, done: Done) -> None:
        seen = self._next_recorded()
        known = seen is not None and seen.facts.tree is not None
        turn = Turn(
            prompt=self._delta,
            sampled=sampled.ids,
            logprobs=sampled.logprobs,
            text=sampled.text,
            cut=sampled.cut,
            fork=self._fork,
            masked=sampled.cut and self._config.cut_turns == "mask",
            version=sampled.version,
            spans=sampled.spans,
            action=done.actions[0] if done.actions else None,
            more=done.actions[1:],
            # What the policy saw stands, even where the fresh sandbox words it differently.
            observation=seen.observation if seen is not None and known else done.observation,
            facts=done.facts,
        )
        self.turns.append(turn)

    def _next_recorded(self) -> Turn | None:
        """The recorded turn that is acted out next."""
        return self._recorded[len(self.turns)] if len(self.turns) < len(self._recorded) else None

    def _advance(self, index: int, sampled: Sampled) -> None:
        """What the next turn begins with."""
        following, turn = self._next_recorded(), self.turns[index]
        self._fork = turn.action == SUMMARISE if following is None else following.fork
        if following is not None:
            self._delta = following.prompt
        elif self._fork:
            self._delta = resumed(self._policy, self._messages, turn.text, self.turns[index - 1].observation)
        else:
            self._delta = self._policy.reply([Message(role="user", text=turn.observation)], sampled.cut)

    # -- the end of the window ----------------------------------------------------------------------------------------

    async def _make_room(self) -> None:
        """Rewrite history when the next turn would not have its full budget. Raises as :meth:`step`."""
        config, ask = self._config, 0
        if config.overflow == "stop" or not self.turns:
            return
        if config.overflow == "summarise":
            ask = config.max_tokens + len(self._request())
        if self._fork or self._window.holds(len(self._delta) + config.max_tokens + ask):
            return
        with boundary(Failure.INFRA):
            if config.overflow == "summarise":
                await self._summarise()
                return
            shorter = dropped(self._policy, self._opening, self.turns, config.max_context, config.max_tokens)
            if len(shorter) < len(self._window.ids) + len(self._delta):
                self._delta, self._fork = shorter, True

    async def _summarise(self) -> None:
        """A turn that sums up; the next one goes on from it."""
        index = len(self.turns)
        self._check_budget(index)
        self._delta = self._request()
        sampled = await self._draw(index)
        self._record(index, sampled, self._summed_up())
        self._advance(index, sampled)

    def _request(self) -> tuple[int, ...]:
        text = templates.load(self._config.prompt).summary
        return self._policy.reply([Message(role="user", text=text)], self.turns[-1].cut)

    def _summed_up(self) -> Done:
        return Done((SUMMARISE,), "", self._tracker.still(format_ok=True, tool_ok=True))

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
