"""Grading trusts nothing the agent touched: what is paid, what is refused, who is at fault, over the real backends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import red_deeds
from red_deeds import DEEDS
from red_table import documented, with_oracle
from red_team import ATTACKS
from toy_task import BASE, FIXED, P2P, make, patch

from sandbox.docker import DockerBackend
from sandbox.grading.grade import GradeCache, grade
from sandbox.local import LocalBackend
from sandbox.protocol import Backend, Sandbox, SandboxError, Spec
from sandbox.task import Case, Prepared, Status, Verdict


class Bench:
    """A backend with the event loop that it lives in."""

    def __init__(self, backend: Backend, runner: asyncio.Runner) -> None:
        self.backend, self._runner = backend, runner

    def grade(self, prepared: Prepared, text: str, timeout_s: float = 60) -> Verdict:
        return self.run(grade(prepared, text, self.backend, timeout_s=timeout_s))

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


@pytest.fixture(scope="module", params=["local", pytest.param("docker", marks=pytest.mark.docker)])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with asyncio.Runner() as runner:

        async def start() -> Backend:
            return LocalBackend() if request.param == "local" else DockerBackend(warm=1)

        backend = runner.run(start())
        yield Bench(backend, runner)
        runner.run(backend.close())


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return make(tmp_path_factory.mktemp("toy"))


def test_gold_grades_one_and_empty_zero(bench: Bench, toy: Prepared) -> None:
    gold, empty = bench.grade(toy, toy.task.patch), bench.grade(toy, "")
    assert (gold.status, gold.grade, gold.flags, gold.detail) == (Status.RESOLVED, 1, (), "")
    assert all(gold.results.values()) and set(gold.results) == {*toy.task.FAIL_TO_PASS, *toy.task.PASS_TO_PASS}
    assert (empty.status, empty.grade) == (Status.FAILED, 0)
    assert empty.results == {"tests/test_numbers.py::test_low": False} | dict.fromkeys(P2P, True)
    assert "test_low: failed" in empty.detail


RACES = ("a late daemon overwrites the results", "source hunts for the nonce", "a time bomb ends the run")
IN_DOCKER_TOO = (
    "no-op",
    "a local pytest",
    "source exits at import",
    "source patches the reports",
    "source floods the output",
)


@pytest.mark.parametrize(
    ("bench", "name"),
    [
        *(("local", name) for name in ATTACKS),
        *(pytest.param("docker", name, marks=pytest.mark.docker) for name in IN_DOCKER_TOO),
    ],
    indirect=["bench"],
)
def test_an_attack_is_not_paid(bench: Bench, toy: Prepared, name: str) -> None:
    attack = ATTACKS[name]
    verdict = bench.grade(toy, patch(toy.base, attack.changes))
    if attack.flag:
        # What no grader in the process can see is paid, and flagged: it earns no positive credit in training.
        assert verdict.status is attack.status and attack.flag in verdict.flags
        return
    # A race that is won is seen by the nonce, one that is lost changes nothing: neither is paid.
    either = {attack.status, Status.TAMPERED} if name in RACES else {attack.status}
    assert verdict.status in either and verdict.grade == 0, verdict.detail
    assert verdict.detail
    assert verdict.results["tests/test_numbers.py::test_low"] is False


@pytest.mark.parametrize("bench", ["local"], indirect=True)
@pytest.mark.parametrize("name", DEEDS)
def test_what_an_agent_does_in_its_sandbox_is_not_paid(bench: Bench, toy: Prepared, name: str) -> None:
    verdict = bench.run(red_deeds.ours(toy, DEEDS[name].script, bench.backend))
    assert verdict.status is DEEDS[name].status, verdict.detail
    assert verdict.results["tests/test_numbers.py::test_low"] is False


@pytest.mark.parametrize("bench", ["local"], indirect=True)
@pytest.mark.parametrize("name", ["the reflog", "a poisoned .pyc"])
def test_a_careless_environment_pays_it(bench: Bench, toy: Prepared, name: str, tmp_path: Path) -> None:
    """What the other tests refuse is an attack that works elsewhere."""
    tree = red_deeds.careless(toy, tmp_path)
    assert bench.run(red_deeds.naive_pays(toy, tree, DEEDS[name].script, bench.backend))


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.flag])
def test_a_value_oracle_does_not_pay_what_the_process_of_the_tests_cannot_see(
    bench: Bench, toy: Prepared, name: str
) -> None:
    asked = with_oracle(toy)
    verdict = bench.grade(asked, patch(toy.base, ATTACKS[name].changes))
    assert verdict.status is Status.FAILED and "their values are others" in verdict.detail


def test_a_value_oracle_pays_an_honest_fix_and_tells_types_and_exceptions(bench: Bench, toy: Prepared) -> None:
    asked, honest = with_oracle(toy), patch(toy.base, {"toy/numbers.py": FIXED})
    assert bench.grade(asked, honest).status is Status.RESOLVED
    for case, wrong in (
        (Case(call="toy.numbers:double", args=(1,), value=2.0), 'gave ["value", 2]'),
        (Case(call="toy.numbers:double", args=(None,), raises="ValueError"), 'gave ["raises", "TypeError"]'),
        (Case(call="toy.numbers:absent", value=1), 'gave ["raises", "AttributeError"]'),
    ):
        one = toy.model_copy(update={"task": toy.task.model_copy(update={"oracle": (case,)})})
        assert wrong in bench.grade(one, honest).detail


def test_the_table_in_the_docs_says_what_the_suite_sees() -> None:
    told = dict(documented((Path(__file__).parents[2] / "docs/grading.md").read_text()))
    assert set(told) == {*ATTACKS, *DEEDS, "an honest fix"} and told.pop("an honest fix") == "**paid**"
    for name, deed in DEEDS.items():
        assert told.pop(name) == f"- ({deed.status})"
    for name, cell in told.items():
        attack = ATTACKS[name]
        assert cell.startswith("flagged (") if attack.flag else cell.startswith("- ("), name
        assert attack.flag in cell


ENDLESS = "import time\n\n\ndef clamp(*a):\n    time.sleep(600)\n\n\ndouble = clamp\n"


def test_an_honest_fix_with_tests_and_scratch_files_of_its_own_is_paid(bench: Bench, toy: Prepared) -> None:
    changes: dict[str, str | None] = {
        "toy/numbers.py": FIXED, "tests/test_visible.py": "def test_two():\n    pass\n",
        "tests/test_mine.py": "def test_mine():\n    assert False\n",
        "reproduce.py": "import toy\n", "docs/a\nb.txt": "odd\n",
    }  # fmt: skip
    verdict = bench.grade(toy, patch(toy.base, changes))
    assert (verdict.status, verdict.flags) == (Status.RESOLVED, ())


def test_tests_that_never_end_are_a_time_out(bench: Bench, toy: Prepared) -> None:
    endless = patch(toy.base, {"toy/numbers.py": ENDLESS})
    assert bench.grade(toy, endless, timeout_s=3).status is Status.TIMEOUT


def test_a_patch_that_does_not_fit_or_leaves_the_tree_is_no_infrastructure_failure(bench: Bench, toy: Prepared) -> None:
    stale = toy.task.patch.replace("if value < low", "if value <= low")
    assert bench.grade(toy, stale).status is Status.FAILED
    outside = "--- /dev/null\n+++ b/../../etc/cron.d/x\n@@ -0,0 +1 @@\n+x\n"
    assert bench.grade(toy, outside).status is Status.TAMPERED


def test_a_link_in_the_patch_is_refused(bench: Bench, toy: Prepared) -> None:
    header = "diff --git a/toy/x b/toy/x\nnew file mode 120000\n--- /dev/null\n+++ b/toy/x\n"
    link = header + "@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n"
    verdict = bench.grade(toy, link)
    assert verdict.status is Status.TAMPERED and "link" in verdict.detail


def test_the_agent_sees_neither_hidden_tests_nor_later_history(bench: Bench, toy: Prepared) -> None:
    async def look() -> tuple[str, dict[str, str]]:
        sandbox = await bench.backend.open(Spec(tree=toy.base, site=toy.site))
        try:
            commits = await sandbox.run(
                "git rev-list --all --reflog | wc -l; git log -1 --format=%H; git fsck --lost-found | grep -c dangling"
            )
            found = await sandbox.run("find /workspace /opt/site /tmp -name 'test_numbers*'; git grep -l test_low")
            assert found.output == ""
            return commits.output, await sandbox.manifest()
        finally:
            await sandbox.close()

    history, manifest = bench.run(look())
    assert history.split() == ["1", toy.task.base_commit, "0"]
    assert set(manifest) == set(BASE)


class Dying:
    """A backend whose sandboxes lose their tool server when the tests begin: what a crashed machine looks like."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.name = inner.name
        self.opened = 0

    async def open(self, spec: Spec) -> Sandbox:
        sandbox = await self._inner.open(spec)
        self.opened += 1
        asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(sandbox.close()))
        return sandbox

    async def close(self) -> None:
        await self._inner.close()


def test_a_sandbox_that_dies_during_the_tests_is_infrastructure(bench: Bench, toy: Prepared) -> None:
    slow = patch(toy.base, {"toy/numbers.py": "import time\ntime.sleep(5)\n" + FIXED})
    verdict = bench.run(grade(toy, slow, Dying(bench.backend)))
    assert (verdict.status, verdict.grade) == (Status.INFRA, 0)


def test_a_broken_site_folder_is_infrastructure(bench: Bench, toy: Prepared, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    verdict = bench.grade(toy.model_copy(update={"site": tmp_path / "site"}), toy.task.patch)
    assert verdict.status is Status.INFRA


class Refusing:
    """A backend that can open nothing."""

    name = "refusing"

    def __init__(self) -> None:
        self.asked = 0

    async def open(self, spec: Spec) -> Sandbox:
        self.asked += 1
        raise SandboxError("no sandbox today")

    async def close(self) -> None: ...


def test_no_sandbox_is_infrastructure_and_is_not_remembered(toy: Prepared) -> None:
    async def twice() -> list[Verdict]:
        cache = GradeCache()
        return [await cache.grade(toy, toy.task.patch, backend) for _ in range(2)]

    backend = Refusing()
    assert [verdict.status for verdict in asyncio.run(twice())] == [Status.INFRA, Status.INFRA]
    assert backend.asked == 2


class Counting(Dying):
    """Counts sandboxes and leaves them alone."""

    async def open(self, spec: Spec) -> Sandbox:
        self.opened += 1
        return await self._inner.open(spec)


def test_equal_trees_are_graded_once_however_their_patches_are_written(bench: Bench, toy: Prepared) -> None:
    counting = Counting(bench.backend)
    other = toy.task.patch.replace("diff --git a/toy/numbers.py b/toy/numbers.py\n", "")
    other = "\n".join(line for line in other.splitlines() if not line.startswith("index ")) + "\n"
    assert other != toy.task.patch

    async def both() -> list[Verdict]:
        cache = GradeCache()
        return list(
            await asyncio.gather(*(cache.grade(toy, text, counting) for text in (toy.task.patch, other, other)))
        )

    assert [verdict.status for verdict in bench.run(both())] == [Status.RESOLVED] * 3
    assert counting.opened == 1


def test_the_empty_patch_is_never_answered_from_memory(bench: Bench, toy: Prepared) -> None:
    """It tells whether gradings work now: an answer of an hour ago would blame a patch for an engine that is away."""

    async def before_and_after() -> list[Status]:
        cache = GradeCache()
        return [(await cache.grade(toy, "", backend)).status for backend in (bench.backend, Refusing())]

    assert bench.run(before_and_after()) == [Status.FAILED, Status.INFRA]


def test_the_next_process_removes_the_folder_of_a_grading_that_was_killed(tmp_path: Path) -> None:
    program = "import time\nfrom sandbox.grading.scratch import scratch\n"
    program += (
        "with scratch() as folder:\n    (folder / 'x').touch()\n    print(folder, flush=True)\n    time.sleep({})"
    )

    def start(seconds: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program.format(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})

    def folder(process: subprocess.Popen[str]) -> Path:
        assert process.stdout is not None
        return Path(process.stdout.readline().strip())

    with start(60) as killed, start(60) as alive:
        left, kept = folder(killed), folder(alive)
        killed.kill()
        killed.wait()
        assert left.is_dir()
        with start(0) as third:
            used = folder(third)
        assert not left.exists() and not used.exists() and (kept / "x").exists()
        alive.kill()


def test_a_disk_that_is_full_for_a_moment_costs_patience_and_not_the_grade(
    bench: Bench, toy: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "late"
    monkeypatch.setattr(tempfile, "tempdir", str(place))

    async def appear() -> Verdict:
        asyncio.get_running_loop().call_later(0.2, place.mkdir)
        return await grade(toy, toy.task.patch, bench.backend)

    assert bench.run(appear()).status is Status.RESOLVED
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "never"))
    assert bench.grade(toy, toy.task.patch).status is Status.INFRA
