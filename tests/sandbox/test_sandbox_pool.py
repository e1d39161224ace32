"""The pool: bounds in order of arrival, and used sandboxes that nothing tells from new ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandbox.choose import choose
from sandbox.config import PoolConfig, SandboxConfig
from sandbox.docker import DockerBackend
from sandbox.memory import MemoryBackend
from sandbox.pool import Lease, Pool
from sandbox.protocol import Limits, SandboxError, Spec
from sandbox.selfcheck import make_tree


class Plain(MemoryBackend):
    """Sandboxes without walls behind the pool's protocol; none is used again."""

    def kind(self, spec: Spec) -> None: ...

    async def pack(self, spec: Spec) -> bytes:
        return b""


def test_live_sandboxes_are_bounded_and_served_in_order(tmp_path: Path) -> None:
    async def play() -> tuple[list[int], int]:
        pool = Pool(Plain(), live=2, patience_s=5)
        spec = Spec(tree=make_tree(tmp_path))
        order, most, now = list[int](), 0, 0

        async def one(number: int) -> None:
            nonlocal most, now
            box = await pool.open(spec)
            order.append(number)
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            await box.close()
            await box.close()

        await asyncio.gather(*(one(number) for number in range(8)))
        await pool.close()
        return order, most

    assert asyncio.run(play()) == (list(range(8)), 2)


def test_local_sandboxes_have_the_same_bounds_as_docker_ones(tmp_path: Path) -> None:
    async def play() -> tuple[list[int], int, list[str]]:
        backend, _ = choose(
            SandboxConfig(backend="local", prove_limits=False, pool=PoolConfig(live=2, starts=1, execs=1))
        )
        spec, order, open_now, most = Spec(tree=make_tree(tmp_path)), list[int](), 0, 0
        stamps = list[str]()

        async def one(number: int) -> None:
            nonlocal open_now, most
            box = await backend.open(spec)
            order.append(number)
            open_now += 1
            most = max(most, open_now)
            stamps.append((await box.run("date +%s%N; sleep 0.05; date +%s%N")).output)
            open_now -= 1
            await box.close()

        await asyncio.gather(*(one(number) for number in range(5)))
        await backend.close()
        return order, most, stamps

    order, most, stamps = asyncio.run(play())
    assert order == list(range(5)) and most == 2
    spans = sorted(tuple(map(int, stamp.split())) for stamp in stamps)
    assert all(begin >= end for (_, end), (begin, _) in itertools.pairwise(spans)), "two commands ran at a time"


def test_who_waits_too_long_is_refused_and_a_closed_pool_opens_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        pool = Pool(Plain(), live=1, patience_s=0.05)
        spec = Spec(tree=make_tree(tmp_path))
        box = await pool.open(spec)
        with pytest.raises(SandboxError, match="no sandbox became free"):
            await pool.open(spec)
        await box.close()
        with pytest.raises(SandboxError, match="closed"):
            await box.read("crlf.txt")
        again = await pool.open(spec)
        await pool.close()
        with pytest.raises(SandboxError, match="closed"):
            await again.manifest()
        with pytest.raises(SandboxError, match="pool of sandboxes is closed"):
            await pool.open(spec)

    asyncio.run(play())


def test_an_open_that_fails_gives_its_room_back(tmp_path: Path) -> None:
    async def play() -> int:
        pool = Pool(Plain(), live=1, patience_s=1)
        for _ in range(3):
            with pytest.raises(SandboxError):
                await pool.open(Spec(tree=tmp_path / "absent"))
        box = await pool.open(Spec(tree=make_tree(tmp_path)))
        await box.close()
        await pool.close()
        return pool.reused

    assert asyncio.run(play()) == 0


def with_pool[T](work: Callable[[Pool], Awaitable[T]], **options: int) -> T:
    async def play() -> T:
        pool = Pool(DockerBackend(warm=0), **options)
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(play())


LOOK = (
    "ls -A /workspace /tmp /dev/shm; cat /workspace/crlf.txt; env | sort; ps ax 2>/dev/null | wc -l; ulimit -a; id; pwd"
)


@pytest.mark.docker
def test_a_used_container_looks_like_a_new_one_and_is_used_again(tmp_path: Path) -> None:
    first, second = make_tree(tmp_path / "first"), make_tree(tmp_path / "second")
    (second / "crlf.txt").write_text("another tree\n")

    async def play(pool: Pool) -> tuple[list[str], list[str], int, list[str]]:
        fresh = await pool.open(Spec(tree=second))
        before = [(await fresh.run(LOOK)).output, (await fresh.run("cat /etc/hostname; echo $X")).output]
        used = await pool.open(Spec(tree=first))
        await used.run("export X=1; cd /tmp; echo left | tee /tmp/left /dev/shm/left /workspace/new; sleep 999 &")
        await used.run("setsid sleep 998 & mkdir -p /tmp/a/b; chmod 000 /tmp/a; rm /workspace/crlf.txt; umask 077")
        await used.edit(command="create", path="made.txt", file_text="made\n")
        await used.close()
        again = await pool.open(Spec(tree=second, limits=Limits(command_s=5)))
        after = [(await again.run(LOOK)).output, (await again.run("cat /etc/hostname; echo $X")).output]
        undo = await again.edit(command="undo_edit", path="made.txt")
        assert not undo.ok
        return before, after, pool.reused, pool.refused

    before, after, reused, refused = with_pool(play)
    assert (reused, refused) == (1, [])
    assert before == after and "another tree" in after[0]


DIRTY = {
    "priority": "renice -n 5 -p 1 >/dev/null; true",
    "limits": "python -c 'import resource as r; r.prlimit(1, r.RLIMIT_NOFILE, (900, 900))'",
    "files": "chmod 0700 /tmp; setfattr -n user.x -v 1 /tmp 2>/dev/null; true",
    "sysv": "python -c 'import ctypes; print(ctypes.CDLL(None).shmget(77, 4096, 0o1666))'",
}


@pytest.mark.docker
@pytest.mark.parametrize("what", DIRTY)
def test_what_a_command_left_on_the_sandbox_itself_ends_it(tmp_path: Path, what: str) -> None:
    async def play(pool: Pool) -> tuple[int, list[str]]:
        spec = Spec(tree=make_tree(tmp_path))
        used = await pool.open(spec)
        await used.run(DIRTY[what])
        await used.close()
        await (await pool.open(spec)).close()
        return pool.reused, pool.refused

    reused, refused = with_pool(play)
    assert reused == 0 and len(refused) == 1 and what in refused[0], refused


@pytest.mark.docker
def test_commands_in_flight_and_dead_sandboxes_are_not_kept(tmp_path: Path) -> None:
    async def play(pool: Pool) -> int:
        spec = Spec(tree=make_tree(tmp_path))
        busy = await pool.open(spec)
        waiting = asyncio.create_task(busy.run("sleep 30"))
        await asyncio.sleep(0.2)
        await busy.close()
        with pytest.raises(SandboxError):
            await waiting
        again: Lease = await pool.open(spec)
        await again.close()
        return pool.reused

    assert with_pool(play) == 0
