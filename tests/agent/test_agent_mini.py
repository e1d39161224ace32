"""mini-swe-agent's environment and its own loop over our sandboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from agent_stage import make_prepared

from agent.doubles import DyingBackend, ExactGrader
from agent.mini import Played, SandboxEnvironment, gold_commands, play, scripted
from sandbox.local import LocalBackend
from sandbox.protocol import Backend, Sandbox, SandboxError, Spec
from sandbox.task import Prepared, Status


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import makes a folder for settings: here, not in the user's home."""
    monkeypatch.setenv("MSWEA_GLOBAL_CONFIG_DIR", str(tmp_path / "mini"))


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return make_prepared(tmp_path)


async def opened[T](prepared: Prepared, work: Callable[[Sandbox], Awaitable[T]]) -> T:
    backend = LocalBackend(unsafe=True)
    try:
        return await work(await backend.open(Spec(tree=prepared.base)))
    finally:
        await backend.close()


def test_each_command_is_a_fresh_bash_with_output_and_return_code(prepared: Prepared) -> None:
    async def work(sandbox: Sandbox) -> list[dict[str, object]]:
        environment = SandboxEnvironment(sandbox, asyncio.get_running_loop())
        commands = ("cd pack; export WORD=lost; pwd", 'echo "$WORD"; pwd; exit 3', "echo 'it''s' >&2", "sleep 30")
        return [
            await asyncio.to_thread(
                environment.execute, {"command": command}, timeout=1 if command == "sleep 30" else None
            )
            for command in commands
        ]

    first, second, third, late = asyncio.run(opened(prepared, work))
    assert first == {"output": "/workspace/pack\n", "returncode": 0, "exception_info": ""}
    assert second == {"output": "\n/workspace\n", "returncode": 3, "exception_info": ""}
    assert third["output"] == "its\n"
    assert late["returncode"] == -1 and "killed" in str(late["exception_info"])


def test_a_sandbox_that_is_gone_stops_the_agent(prepared: Prepared) -> None:
    async def work(sandbox: Sandbox) -> None:
        environment = SandboxEnvironment(sandbox, asyncio.get_running_loop())
        await sandbox.close()
        with pytest.raises(SandboxError):
            await asyncio.to_thread(environment.execute, {"command": "true"})

    asyncio.run(opened(prepared, work))


def run(prepared: Prepared, commands: list[str], backend: Backend | None = None) -> Played:
    async def work() -> Played:
        where = backend or LocalBackend(unsafe=True)
        try:
            return await play(prepared, where, ExactGrader(), scripted(commands), step_limit=len(commands))
        finally:
            await where.close()

    return asyncio.run(work())


@pytest.mark.extra("minisweagent")
def test_its_own_loop_resolves_a_task_with_a_scripted_model(prepared: Prepared) -> None:
    played = run(prepared, ["ls -a", *gold_commands(prepared.task)])
    assert played.exit_status == "Submitted" and played.patch == prepared.task.patch
    assert played.verdict is not None and played.verdict.status is Status.RESOLVED
    assert "pack" in str(played.messages[3]["content"])


@pytest.mark.extra("minisweagent")
def test_an_agent_that_does_nothing_has_no_verdict(prepared: Prepared) -> None:
    played = run(prepared, ["ls"])
    assert played.exit_status == "LimitsExceeded" and not played.patch and played.verdict is None


@pytest.mark.extra("minisweagent")
def test_its_loop_leaves_no_sandbox_when_one_dies(prepared: Prepared) -> None:
    watched = DyingBackend(LocalBackend(unsafe=True), "run", 2)
    with pytest.raises(SandboxError):
        run(prepared, ["ls", "ls", "ls"], watched)
    assert not watched.live
