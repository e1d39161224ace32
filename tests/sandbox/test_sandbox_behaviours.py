"""Every behaviour of the self-check holds over every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import cgroup, tree
from sandbox.protocol import Backend, ExecResult, Sandbox, SandboxError, Spec
from sandbox.selfcheck import BEHAVIOURS, LIMITS, Behaviour, make_tree, problem_of


class Bench:
    """One backend, one event loop, one shared sandbox."""

    def __init__(self, backend: Backend, spec: Spec, loop: asyncio.Runner) -> None:
        self.backend, self.spec, self.loop = backend, spec, loop
        self.shared = loop.run(backend.open(spec))

    def problem(self, item: Behaviour) -> str:
        return self.loop.run(self._problem(item))

    async def _problem(self, item: Behaviour) -> str:
        box = await self.backend.open(self.spec) if item.alone else self.shared
        problem = await problem_of(item, box)
        if item.alone:
            await box.close()
        return problem


def _backend(name: str) -> Backend:
    if name == "docker":
        from sandbox.docker import DockerBackend

        return DockerBackend()
    from sandbox.local import LocalBackend

    return LocalBackend()


@pytest.fixture(scope="module", params=["local", pytest.param("docker", marks=pytest.mark.docker)])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = make_tree(tmp_path_factory.mktemp("tree"))
    before = tree.Hasher(str(folder)).manifest()
    with asyncio.Runner() as loop:
        backend = _backend(request.param)
        yield Bench(backend, Spec(tree=folder, limits=LIMITS), loop)
        loop.run(backend.close())
    assert tree.Hasher(str(folder)).manifest() == before, "the tree on the host was changed"


@pytest.mark.parametrize("item", BEHAVIOURS, ids=lambda item: item.name.replace(" ", "_"))
def test_behaviour(bench: Bench, item: Behaviour) -> None:
    if bench.backend.name == "local" and "together" in item.name and cgroup.missing():
        pytest.skip(cgroup.missing())
    assert bench.problem(item) == ""


def test_there_are_at_least_forty_behaviours() -> None:
    assert len({item.name for item in BEHAVIOURS}) >= 40


def test_a_behaviour_that_does_not_hold_is_reported() -> None:
    """The self-check can fail: a sandbox that runs nothing breaks most behaviours."""
    from sandbox.memory import MemoryBackend

    async def count() -> int:
        backend = MemoryBackend()
        box = await backend.files({"crlf.txt": "one\r\n"})
        problems = [await problem_of(item, box) for item in BEHAVIOURS if not item.alone]
        await backend.close()
        return sum(bool(problem) for problem in problems)

    assert asyncio.run(count()) > 25


def test_sandboxes_of_one_backend_do_not_see_each_other(bench: Bench) -> None:
    async def look() -> tuple[ExecResult, ExecResult]:
        one, two = await asyncio.gather(bench.backend.open(bench.spec), bench.backend.open(bench.spec))
        await one.write("secret.txt", b"1")
        await one.run("echo 1 > /tmp/secret; sleep 77 &")
        seen = await two.run("ls /tmp /dev/shm; grep -lz '[s]leep' /proc/[0-9]*/cmdline 2>/dev/null; ls")
        killed = await two.run("kill -9 -1; true")
        assert (await one.run("echo alive")).output == "alive\n"
        await asyncio.gather(one.close(), two.close())
        return seen, killed

    seen, _ = bench.loop.run(look())
    assert "secret" not in seen.output and "/proc" not in seen.output


def test_a_language_server_answers_inside_and_outlives_a_time_out(bench: Bench) -> None:
    async def ask(box: Sandbox) -> list[int]:
        counts = [len((await box.lsp("diag"))["facts"]["diagnostics"])]
        await box.write("pkg/answer.py", b"def answer() -> int:\n    return missing\n")
        counts.append(len((await box.lsp("diag"))["facts"]["diagnostics"]))
        await box.run("sleep 9", 0.2)
        counts.append(len((await box.lsp("diag"))["facts"]["diagnostics"]))
        return counts

    async def session() -> list[int]:
        box = await bench.backend.open(bench.spec)
        try:
            return await ask(box)
        finally:
            await box.close()

    assert bench.loop.run(session()) == [0, 1, 1]


def test_a_tree_that_is_absent_is_one_clear_sentence(bench: Bench) -> None:
    with pytest.raises(SandboxError, match="no folder /nowhere"):
        bench.loop.run(bench.backend.open(Spec(tree=Path("/nowhere"))))


def test_the_site_is_imported_but_cannot_be_written(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "extra_module.py").write_text("value = 5\n")
    tmp_path.chmod(0o755)

    async def use() -> tuple[ExecResult, ExecResult]:
        box = await bench.backend.open(bench.spec.model_copy(update={"site": tmp_path}))
        imported = await box.run("python -c 'import extra_module as e; print(e.value, e.__file__)'")
        written = await box.run("touch /opt/site/x")
        await box.close()
        return imported, written

    imported, written = bench.loop.run(use())
    assert imported.output == "5 /opt/site/extra_module.py\n"
    assert written.exit_code != 0
    assert [path.name for path in tmp_path.iterdir()] == ["extra_module.py"]
