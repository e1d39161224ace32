"""One answer acted on: parsed, its calls run in order, the facts taken.

What the policy did wrong is an observation and a fact; what broke outside it is a ``Fault`` that the record keeps. The
calls of one answer are one turn: they share its facts, which are taken once, after the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from agent.config import AgentConfig
from agent.errors import Fault, FormatError, Stop, ToolError, boundary
from agent.facts import Tracker
from agent.formats.format import Format
from agent.policy import Sampled
from agent.tools.tool import Arguments, Result, Scene, Tool
from agent.trajectory import Action, End, Facts
from sandbox.task import Failure


@dataclass(frozen=True, slots=True)
class Done:
    """What one answer did."""

    actions: tuple[Action, ...]
    """None when nothing parsed."""
    observation: str
    facts: Facts
    leave: Stop | Fault | None = None
    """Why the episode is over with this turn."""


class Actor:
    """Acts on the answers of one episode, and counts the malformed ones in a row."""

    def __init__(
        self,
        form: Format,
        tools: Mapping[str, Tool],
        scene: Scene,
        tracker: Tracker,
        tidy: Callable[[str], str],
        config: AgentConfig,
    ) -> None:
        """``tidy`` makes an observation of a text."""
        self._form, self._tools, self._scene, self._tracker = form, tools, scene, tracker
        self._tidy, self._limit = tidy, config.format_errors
        self._refuses_cut = config.cut_turns == "penalise"
        self._malformed = 0

    async def act(self, sampled: Sampled) -> Done:
        """Parse, call the tools, take the facts."""
        if sampled.cut and self._refuses_cut:
            return self._refused("error: the answer was too long and was cut. Be shorter.")
        try:
            actions = self._form.parse(sampled.text, sampled.cut)
        except FormatError as error:
            return self._refused(str(error))
        self._malformed = 0
        results: list[Result] = []
        try:
            leave = await self._run(actions, results)
            facts = await self._tracker.after(merged(results))
        except Fault as fault:
            # Kept for the replay. No tree: this turn was never finished.
            return Done(actions, "", Facts(format_ok=True, tool_ok=False), fault)
        texts = [self._tidy(result.text) for result in results]
        return Done(actions, self._form.observe(texts) if texts else "", facts, leave)

    async def _run(self, actions: Sequence[Action], results: list[Result]) -> Stop | None:
        """Run the calls in order, up to one that ends the episode."""
        for action in actions:
            try:
                results.append(await self._use(action))
            except ToolError as error:
                results.append(Result(text=str(error), ok=False))
            except Stop as stop:
                return stop
        return None

    async def _use(self, action: Action) -> Result:
        tool = self._tools.get(action.tool)
        if tool is None:
            raise ToolError(f"error: there is no tool {action.tool}.")
        args = _arguments(tool, action)
        with boundary(Failure.TOOL):
            return await tool.run(args, self._scene)

    def _refused(self, message: str) -> Done:
        self._malformed += 1
        over = self._malformed >= self._limit
        stop = Stop(End.FORMAT, f"{self._malformed} malformed answers in a row") if over else None
        return Done((), message, self._tracker.still(format_ok=False, tool_ok=False), stop)


def merged(results: Sequence[Result]) -> Result:
    """What the calls of one turn did together: all well, any touched, the last word on the rest. No call at all
    (the first one ended the episode) is one that went well.
    """
    safe = [result.safe for result in results if result.safe is not None]
    return Result(
        text="",
        ok=all(result.ok for result in results),
        touched=any(result.touched for result in results),
        exit_code=_last([result.exit_code for result in results]),
        confidence=_last([result.confidence for result in results]),
        safe=all(safe) if safe else None,
        bundle=_last([result.bundle for result in results]),
    )


def _last[T](values: Sequence[T | None]) -> T | None:
    return next((value for value in reversed(values) if value is not None), None)


def _arguments(tool: Tool, action: Action) -> Arguments:
    try:
        return tool.Args.model_validate(action.args)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "arguments"
        message = first["msg"].removeprefix("Value error, ")
        raise ToolError(f"error: {action.tool}: {where}: {message}.") from None
