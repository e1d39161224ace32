"""Agents of others in our sandbox: mini-swe-agent's own loop over any backend.

mini-swe-agent (the extra ``mini``) asks of an environment three methods; :class:`SandboxEnvironment` gives it ours, so
that its commands meet the same walls, limits and clean patches as our own episodes. Its loop is synchronous and runs in
a thread; its commands run on our event loop. As with its own environments each command is a fresh ``bash`` in a working
directory, and the magic first line of output ends the task.

What a dead sandbox raises is not made an observation: the agent stops at once instead of paying for turns in a sandbox
that is gone. Nothing here imports the package until an agent is played.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from agent.finish import Grader
from agent.patch import collect
from sandbox.protocol import WORKSPACE, Backend, ExecResult, Limits, Sandbox, Spec
from sandbox.task import Prepared, Task, TaskError, Verdict

SUBMIT = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""The first line of output that ends a task, mini-swe-agent's own word."""


class SandboxEnvironment:
    """What mini-swe-agent calls an environment, over a live sandbox whose event loop is ``loop``.

    To be called from any other thread than the loop's.
    """

    def __init__(
        self, sandbox: Sandbox, loop: asyncio.AbstractEventLoop, cwd: str = WORKSPACE, timeout: float = 60.0
    ) -> None:
        """``timeout``: seconds of one command."""
        self.config: dict[str, Any] = {"cwd": cwd, "timeout": timeout, "backend": sandbox.backend}
        self._sandbox, self._loop = sandbox, loop

    def execute(self, action: Mapping[str, Any], cwd: str = "", *, timeout: float | None = None) -> dict[str, Any]:
        """Run ``action["command"]``; its output and return code. Raises mini-swe-agent's ``Submitted``, and
        ``SandboxError`` when the sandbox is gone.
        """
        command = shlex.quote(str(action.get("command", "")))
        where = shlex.quote(cwd or self.config["cwd"])
        running = self._sandbox.run(f"(cd {where} && exec bash -c {command})", timeout or self.config["timeout"])
        done = asyncio.run_coroutine_threadsafe(running, self._loop).result()
        output = _output(done)
        _leave_when_submitted(output)
        return output

    def get_template_vars(self, **more: Any) -> dict[str, Any]:
        """What its prompts may say of the machine."""
        return {**self.config, **platform.uname()._asdict(), **more}

    def serialize(self) -> dict[str, Any]:
        """For its own trajectory file."""
        kind = f"{type(self).__module__}.{type(self).__name__}"
        return {"info": {"config": {"environment": self.config, "environment_type": kind}}}


@dataclass(frozen=True, slots=True)
class Played:
    """What an agent of mini-swe-agent's left."""

    messages: tuple[dict[str, Any], ...]
    exit_status: str
    patch: str
    """Of the final tree against the base tree, taken as for our own episodes: its own submission text is not used."""
    verdict: Verdict | None
    """``None``: there was nothing to grade."""


async def play(
    prepared: Prepared,
    backend: Backend,
    grader: Grader,
    model: Callable[[], Any],
    limits: Limits | None = None,
    **agent: Any,
) -> Played:
    """One task by mini-swe-agent's ``DefaultAgent``, graded. ``model`` makes one of its models; ``agent`` overrides its
    settings (``step_limit``, templates). Raises ``TaskError`` when the package is absent, ``SandboxError`` when the
    sandbox failed.
    """
    make = _default_agent()
    sandbox = await backend.open(_spec(prepared, limits or Limits()))
    try:
        before = await sandbox.manifest()
        environment = SandboxEnvironment(sandbox, asyncio.get_running_loop())
        played = make(model(), environment, agent)
        result = await asyncio.to_thread(played.run, prepared.task.problem_statement)
        patch = await collect(sandbox, prepared.base, before, await sandbox.manifest())
    finally:
        await asyncio.shield(sandbox.close())
    verdict = await grader(prepared, patch) if patch else None
    return Played(tuple(played.messages), str(result.get("exit_status", "")), patch, verdict)


def scripted(commands: list[str]) -> Callable[[], Any]:
    """Makes mini-swe-agent's own deterministic model, which answers these commands one a turn."""

    def make() -> Any:
        shipped = import_module("minisweagent.models.test_models")
        outputs = [
            shipped.make_output(f"```mswea_bash_command\n{one}\n```", [{"command": one}], 0.0) for one in commands
        ]
        return shipped.DeterministicModel(outputs=outputs, cost_per_call=0.0)

    return make


def gold_commands(task: Task) -> list[str]:
    """Shell commands that apply the gold patch, where the image has ``git`` or ``patch``, and submit."""
    apply = "git apply -p1 /tmp/gold.diff || patch -p1 -i /tmp/gold.diff"
    return [f"cat > /tmp/gold.diff <<'END-OF-GOLD'\n{task.patch}\nEND-OF-GOLD\n{apply}", f"echo {SUBMIT}"]


def _spec(prepared: Prepared, limits: Limits) -> Spec:
    return Spec(
        tree=prepared.base,
        site=prepared.site,
        source_root=prepared.task.source_root,
        image=prepared.image,
        python=prepared.python,
        limits=limits,
        editor=False,
    )


def _output(done: ExecResult) -> dict[str, Any]:
    if done.timed_out or done.exit_code is None:
        reason = "the command took too long and was killed" if done.timed_out else "the shell died"
        return {"output": done.output, "returncode": -1, "exception_info": reason}
    return {"output": done.output, "returncode": done.exit_code, "exception_info": ""}


def _leave_when_submitted(output: Mapping[str, Any]) -> None:
    first, _, rest = str(output["output"]).lstrip().partition("\n")
    if first.strip() == SUBMIT and output["returncode"] == 0:
        extra = {"exit_status": "Submitted", "submission": rest}
        raise import_module("minisweagent.exceptions").Submitted({"role": "exit", "content": rest, "extra": extra})


def _default_agent() -> Callable[[Any, SandboxEnvironment, Mapping[str, Any]], Any]:
    # Read at its import: no banner.
    os.environ.setdefault("MSWEA_SILENT_STARTUP", "1")
    try:
        kind, config = import_module("minisweagent.agents.default").DefaultAgent, import_module("minisweagent.config")
    except ImportError as error:
        raise TaskError(f"mini-swe-agent is not installed ({error}): pip install 'repodojo[mini]'") from None

    def make(model: Any, environment: SandboxEnvironment, settings: Mapping[str, Any]) -> Any:
        shipped = config.get_config_from_spec("default")["agent"]
        return kind(model, environment, **{**shipped, **settings})

    return make
