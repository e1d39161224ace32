"""Episodes in real sandboxes: commands, diagnostics, patches of odd trees, grading by hidden tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from agent_stage import FAULTY, Stage, key, make_prepared, make_site

from agent.doubles import DyingBackend, ExactGrader
from agent.finish import SandboxGrader
from agent.scripted import ScriptedPolicy, scripted
from agent.store import SideFiles
from agent.trajectory import End, Outcome, Trajectory
from sandbox.local import LocalBackend
from sandbox.protocol import Backend, SandboxError
from sandbox.task import Prepared, TaskError

CLAMP = "def clamp(x, low, high):\n    return {}"


def bash(command: str) -> str:
    return f"```bash\n{command}\n```"


def rewrite(body: str) -> str:
    return f"```python\n{CLAMP.format(body)}\n```"


SUBMIT = "```submit\n```"


@asynccontextmanager
async def local(prepared: Prepared) -> AsyncIterator[Stage]:
    backend = LocalBackend(unsafe=True)
    try:
        yield Stage(prepared, backend, ExactGrader())
    finally:
        await backend.close()


async def says(stage: Stage, *texts: str, backend: Backend | None = None, **config: object) -> Trajectory:
    policy = ScriptedPolicy("says", lambda _, turn: texts[min(turn, len(texts) - 1)])
    return await stage.scaffold(backend, **config).play_with_retries(stage.prepared.task, policy, key())


def run[T](prepared: Prepared, work: Callable[[Stage], Awaitable[T]]) -> T:
    async def main() -> T:
        async with local(prepared) as stage:
            return await work(stage)

    return asyncio.run(main())


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return make_prepared(tmp_path)


MIXED = (
    bash("cd pack && ls && pwd"),
    bash("export WORD=kept; exit_with() { return $1; }; exit_with 3"),
    bash('echo "$WORD in $PWD"'),
    '```edit\n{"command": "str_replace", "path": "pack/core.py", "old_str": "max(x,", "new_str": "min(x,"}\n```',
    bash("python -c 'from pack.core import clamp; print(clamp(9, 0, 3))'"),
    SUBMIT,
)
SEEN = (
    "__init__.py\ncore.py\n/workspace/pack",
    "[exit code 3]",
    "kept in /workspace/pack",
    None,
    "3",
    "",
)


def check_mixed(trajectory: Trajectory) -> None:
    for turn, expected in zip(trajectory.turns, SEEN, strict=True):
        assert turn.facts.tool_ok and (expected is None or turn.observation == expected)
    assert [turn.facts.exit_code for turn in trajectory.turns] == [0, 3, 0, None, 0, None]
    assert [turn.facts.attempt for turn in trajectory.turns] == [False, False, False, True, False, False]
    assert trajectory.outcome is Outcome.TESTS_PASS


def test_the_shell_the_editor_and_the_task_work_together(prepared: Prepared) -> None:
    check_mixed(run(prepared, lambda stage: says(stage, *MIXED)))


@pytest.mark.docker
def test_docker_and_local_leave_the_same_trajectory(prepared: Prepared) -> None:
    from sandbox.docker import DockerBackend

    async def both() -> list[Trajectory]:
        found: list[Trajectory] = []
        for backend in (DockerBackend(), LocalBackend(unsafe=True)):
            stage = Stage(prepared, backend, ExactGrader())
            found.append(await says(stage, *MIXED, diagnostics=True))
            await backend.close()
        return found

    docker, here = asyncio.run(both())
    check_mixed(docker)
    assert [t.model_copy(update={"facts": t.facts.model_copy(update={"bundle": None})}) for t in docker.turns] == [
        t.model_copy(update={"facts": t.facts.model_copy(update={"bundle": None})}) for t in here.turns
    ]
    assert docker.patch == here.patch and docker.base_tree == here.base_tree


def test_what_differs_between_two_runs_is_not_observed(prepared: Prepared) -> None:
    noisy = bash("python -c 'import tempfile; print(object(), tempfile.mkdtemp())'; mktemp -u; time true")

    async def work(stage: Stage) -> tuple[Trajectory, Trajectory]:
        return await says(stage, noisy, SUBMIT), await says(stage, noisy, SUBMIT)

    first, second = run(prepared, work)
    assert first == second and "object at 0x0" in first.turns[0].observation


def test_a_command_that_takes_too_long_is_killed_and_said_so(prepared: Prepared) -> None:
    trajectory = run(prepared, lambda stage: says(stage, bash("echo on; sleep 60"), bash("echo after"), command_s=1))
    first, second = trajectory.turns[:2]
    assert "timed out" in first.observation and not first.facts.tool_ok and first.facts.exit_code is None
    assert second.observation == "after" and second.facts.tool_ok


def test_the_patch_carries_links_modes_new_and_deleted_files(prepared: Prepared) -> None:
    command = "ln -s core.py pack/alias.py; chmod +x tool.sh; rm README.md; mkdir -p 'a b'; printf 'x' > 'a b/c d'"
    trajectory = run(prepared, lambda stage: says(stage, bash(command), SUBMIT))
    for part in ("new file mode 120000", "old mode 100644", "new mode 100755", "deleted file mode", "a b/c d"):
        assert part in trajectory.patch


def test_what_the_agent_does_to_its_git_folder_is_no_change_and_no_crash(prepared: Prepared) -> None:
    trajectory = run(prepared, lambda stage: says(stage, bash("rm -rf .git; echo '#!/bin/sh\nexit 1' > .git"), SUBMIT))
    assert trajectory.end is End.SUBMITTED and trajectory.failure is None


def test_rights_taken_away_are_no_way_out_of_an_outcome(prepared: Prepared) -> None:
    trajectory = run(prepared, lambda stage: says(stage, bash("chmod 000 pack/core.py; rm pack/__init__.py"), SUBMIT))
    assert trajectory.outcome is Outcome.TESTS_FAIL


def test_a_workspace_that_is_removed_is_an_outcome_too(prepared: Prepared) -> None:
    trajectory = run(prepared, lambda stage: says(stage, bash("rm -rf /workspace/* .[a-z]*; cd /tmp"), SUBMIT))
    assert trajectory.outcome is Outcome.TESTS_FAIL


# -- diagnostics ------------------------------------------------------------------------------------------------------


def test_diagnostics_follow_the_tree_and_come_with_a_bundle(prepared: Prepared, tmp_path: Path) -> None:
    async def work(stage: Stage) -> Trajectory:
        scaffold = stage.scaffold(diagnostics=True)
        scaffold.side = side
        scaffold.__post_init__()
        texts = (rewrite("nowhere + elsewhere"), bash("true"), rewrite("min(high, max(x, low))"), SUBMIT)
        policy = ScriptedPolicy("says", lambda _, turn: texts[turn])
        return await scaffold.play_with_retries(stage.prepared.task, policy, key())

    side = SideFiles(tmp_path / "side")
    trajectory = run(prepared, work)
    assert trajectory.base_diagnostics == 0
    assert [turn.facts.diagnostics for turn in trajectory.turns] == [2, None, 0, None]
    bundle = side.get(trajectory.turns[0].facts.bundle or "")
    errors = [item["code"] for item in bundle["facts"]["diagnostics"] if item["severity"] == "error"]
    assert errors == ["unresolved-reference"] * 2


def test_equal_trees_are_measured_once_for_the_whole_group(prepared: Prepared) -> None:
    async def work(stage: Stage) -> list[Trajectory]:
        # Of four sandboxes only the first may be asked: any other one that is asked dies, and would be missing.
        asked = DyingBackend(DyingBackend(DyingBackend(stage.backend, "lsp", 1, 1), "lsp", 1, 2), "lsp", 1, 3)
        scaffold = stage.scaffold(asked, diagnostics=True)
        texts = (rewrite("nowhere"), SUBMIT)
        policy = ScriptedPolicy("says", lambda _, turn: texts[turn])
        return [await scaffold.play_with_retries(prepared.task, policy, key(sample)) for sample in range(4)]

    for trajectory in run(prepared, work):
        assert trajectory.base_diagnostics == 0 and trajectory.turns[0].facts.diagnostics == 1


@pytest.mark.parametrize("command", ["rm pack/core.py", "printf 'x = 1\\n' > pack/core.py", "chmod 000 pack/core.py"])
def test_diagnostics_do_not_fall_by_removing_what_has_them(tmp_path: Path, command: str) -> None:
    prepared = make_prepared(tmp_path)
    (prepared.base / "pack/core.py").write_text(FAULTY + "\n\ndef broken():\n    return nowhere\n")
    trajectory = run(prepared, lambda stage: says(stage, bash(command), SUBMIT, diagnostics=True))
    assert trajectory.base_diagnostics == 1 and trajectory.turns[0].facts.diagnostics == 1


# -- grading ----------------------------------------------------------------------------------------------------------


def test_hidden_tests_in_a_fresh_sandbox_grade_the_patch(prepared: Prepared) -> None:
    async def work(stage: Stage) -> dict[str, Trajectory]:
        scaffold = stage.scaffold()
        scaffold.grader = SandboxGrader(stage.backend)
        names = ("gold", "spoiler", "quitter")
        policies = {name: scripted(name, prepared, scaffold.config) for name in names}
        return {n: await scaffold.play_with_retries(prepared.task, p, key()) for n, p in policies.items()}

    make_site(prepared.site)
    graded = run(prepared, work)
    assert {name: t.outcome for name, t in graded.items()} == {
        "gold": Outcome.TESTS_PASS,
        "spoiler": Outcome.TESTS_FAIL,
        "quitter": Outcome.EMPTY_PATCH,
    }
    assert graded["quitter"].verdict is None
    assert graded["spoiler"].verdict is not None and not any(
        graded["spoiler"].verdict.results[test] for test in prepared.task.FAIL_TO_PASS
    )


@pytest.mark.docker
def test_a_real_image_without_bash_is_refused_at_start(prepared: Prepared) -> None:
    from sandbox.docker import DockerBackend
    from sandbox.images import HOSTILE, build

    async def work() -> None:
        backend = DockerBackend()
        try:
            stage = Stage(prepared.model_copy(update={"image": HOSTILE}), backend, ExactGrader())
            with pytest.raises(TaskError, match="has no bash: add it to the image"):
                await says(stage, SUBMIT)
        finally:
            await backend.close()

    try:
        build(HOSTILE, say=lambda _: None)
    except SandboxError as error:
        pytest.skip(f"no busybox image can be made here: {error}")
    asyncio.run(work())
