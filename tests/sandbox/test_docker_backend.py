"""Containers of one use: what they confine, what they leave behind, and what a user hears when the engine does not
work.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox import owner
from sandbox.docker import LABEL, DockerBackend, reap, remove
from sandbox.door import Door
from sandbox.engine import connect
from sandbox.images import HOSTILE, build, list_images, unusable, usable_image
from sandbox.protocol import Limits, Sandbox, SandboxError, Spec


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "empty").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"one\r\n\xff")
    (root / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (root / "run.sh").chmod(0o755)
    (root / "secret").write_text("readable to the owner only\n")
    (root / "secret").chmod(0o600)
    (root / "link").symlink_to("a.txt")
    return root


def with_sandbox[T](spec: Spec, work: Callable[[Sandbox], Awaitable[T]], **options: Any) -> T:
    async def play() -> T:
        chosen: dict[str, Any] = {"warm": 0, **options}
        backend = DockerBackend(**chosen)
        try:
            return await work(await backend.open(spec))
        finally:
            await backend.close()

    return asyncio.run(play())


def ours() -> set[str]:
    # Not the SDK's list, which asks for each one again: other runs on the engine end theirs meanwhile.
    found: Any = connect().api.containers(all=True, filters={"label": f"{LABEL}={owner.me()}"})
    return {str(row["Id"]) for row in found}


@pytest.mark.docker
def test_a_container_is_confined_and_its_limits_hold(tree: Path) -> None:
    limits = Limits(memory_mb=256, pids=40, cpus=0.5)

    async def probe(sandbox: Sandbox) -> dict[str, str]:
        commands = {
            "user": "id -u",
            "capabilities": "grep CapEff /proc/1/status | cut -f2; grep NoNewPrivs /proc/self/status | cut -f2",
            "network": "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '",
            "root": "touch /usr/x 2>&1 | grep -c 'Read-only'; touch /opt/repodojo/x 2>&1 | grep -c 'Read-only'",
            "cpu": "cat /sys/fs/cgroup/{cpu.max,cpu/cpu.cfs_quota_us} 2>/dev/null | head -1 | cut -d' ' -f1",
            "disk": "head -c 200M /dev/zero > big 2>/dev/null; echo $?; stat -c %s big; rm big",
            "memory": "python3 -c 'x = bytearray(400 << 20)'; echo $?",
            "processes": "for i in $(seq 60); do sleep 5 & done 2>&1 | grep -c 'Resource temporarily unavailable'",
        }
        return {name: (await sandbox.run(command, 20)).output.strip() for name, command in commands.items()}

    seen = with_sandbox(Spec(tree=tree, limits=limits), probe)
    assert seen["user"] == "1000"
    assert seen["capabilities"].split() == ["0000000000000000", "1"]
    assert seen["network"].split() == ["lo"]
    assert seen["root"].split() == ["1", "1"]
    assert seen["cpu"] == "50000"
    code, size = seen["disk"].split()
    assert code == "1" and 120 << 20 < int(size) <= 128 << 20
    assert seen["memory"].splitlines()[-1] in ("137", "1")
    assert int(seen["processes"].splitlines()[-1]) > 0


@pytest.mark.docker
def test_the_tree_arrives_whole_and_the_original_stays_as_it_is(tree: Path) -> None:
    async def change(sandbox: Sandbox) -> tuple[dict[str, str], bytes, str]:
        before = await sandbox.manifest()
        data = await sandbox.read("a.txt")
        done = await sandbox.run("./run.sh; cat secret; readlink link; ls -d empty; echo changed > a.txt; rm run.sh")
        return before, data, done.output

    before, data, output = with_sandbox(Spec(tree=tree), change)
    assert {path: value[0] for path, value in before.items()} == {
        "a.txt": "f",
        "run.sh": "x",
        "secret": "f",
        "link": "l",
    }
    assert data == b"one\r\n\xff"
    assert output.splitlines() == ["ran", "readable to the owner only", "a.txt", "empty"]
    assert (tree / "a.txt").read_bytes() == b"one\r\n\xff" and (tree / "run.sh").exists()


@pytest.mark.docker
def test_the_toolbox_runs_in_an_image_without_libc_shell_of_ours_or_python(tree: Path) -> None:
    try:
        build(HOSTILE, say=lambda _: None)
    except SandboxError as error:
        pytest.skip(f"no busybox image can be made here: {error}")

    async def use(sandbox: Sandbox) -> tuple[str, bytes]:
        done = await sandbox.run("python3 -c 'import ssl, sqlite3, ctypes; print(6 * 7)'; ls /lib 2>&1 | tail -1")
        await sandbox.write("made/b.txt", b"x")
        return done.output, await sandbox.read("made/b.txt")

    output, data = with_sandbox(Spec(tree=tree, image=HOSTILE), use)
    assert output.splitlines()[0] == "42" and "No such file" in output
    assert data == b"x"


@pytest.mark.docker
def test_warm_containers_are_used_once_each_and_closing_leaves_nothing(tree: Path) -> None:
    async def play() -> tuple[list[str], int]:
        backend = DockerBackend(warm=1)
        names: list[str] = []
        try:
            for _ in range(3):
                sandbox = await backend.open(Spec(tree=tree))
                await sandbox.run("touch /tmp/mark left")
                names.append((await sandbox.run("cat /proc/self/mountinfo | sha256sum")).output)
                await sandbox.close()
                await sandbox.close()
            last = await backend.open(Spec(tree=tree))
            assert (await last.run("ls /tmp/mark left")).exit_code != 0
            return names, len(ours())
        finally:
            await backend.close()

    names, alive = asyncio.run(play())
    assert alive >= 1 and len(names) == 3
    assert ours() == set()


@pytest.mark.docker
def test_a_killed_container_is_a_sandbox_error_that_says_so(tree: Path) -> None:
    async def die(sandbox: Sandbox) -> str:
        (container,) = ours()
        waiting = asyncio.create_task(sandbox.run("sleep 30"))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(lambda: connect().api.kill(container))
        with pytest.raises(SandboxError) as caught:
            await waiting
        with pytest.raises(SandboxError):
            await sandbox.run("true")
        return str(caught.value)

    assert "137" in with_sandbox(Spec(tree=tree), die)


@pytest.mark.docker
@pytest.mark.parametrize("direct", [True, False])
def test_nothing_that_runs_later_finds_the_door_and_streams_serve_without_one(tree: Path, direct: bool) -> None:
    knock = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/repodojo/door')"

    async def look(sandbox: Sandbox) -> tuple[str, int | None, str]:
        listed = await sandbox.run(
            "ls -A /run/repodojo 2>&1; touch /run/repodojo/x 2>/dev/null; grep -c ' 00010000 .*door' /proc/net/unix"
        )
        knocked = await sandbox.run(f'python3 -c "{knock}"')
        fds = await sandbox.run("ls -l /proc/1/fd 2>&1 | grep -c socket; ls -l /proc/self/fd | grep -c socket")
        return listed.output, knocked.exit_code, fds.output

    listed, knocked, fds = with_sandbox(Spec(tree=tree), look, direct=direct)
    assert listed.splitlines()[-1] == "0" and ("No such file" in listed) is not direct
    assert knocked == 1 and fds.split() == ["0", "0"]


def test_a_door_lets_one_visitor_in_and_says_when_nobody_can_come(tmp_path: Path) -> None:
    async def play() -> tuple[bool, bytes, bool]:
        door, silent = Door(tmp_path), asyncio.StreamReader()
        path = str(door.folder / "door")
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            entered = await door.enter(silent)
            assert entered is not None
            entered.send(b"hello")
            said = first.recv(5)
            entered.close()
        with socket.socket(socket.AF_UNIX) as second, pytest.raises(FileNotFoundError):
            second.connect(path)
        refused, refusal = Door(tmp_path), asyncio.StreamReader()
        refusal.feed_data(b"-")
        nobody = await refused.enter(refusal) is None
        door.remove()
        refused.remove()
        return nobody, said, any(tmp_path.iterdir())

    assert asyncio.run(play()) == (True, b"hello", False)


LEAVER = """
import asyncio, os, signal, sys
from pathlib import Path
from sandbox import owner
from sandbox.docker import DockerBackend
from sandbox.protocol import Spec

async def main():
    backend = DockerBackend(warm=1)
    await backend.open(Spec(tree=Path(sys.argv[1])))
    while not backend._warm:
        await asyncio.sleep(0.05)
    print("open", owner.me(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.docker
def test_what_a_killed_parent_left_stops_by_itself_and_is_removed_at_the_next_start(tree: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVER, str(tree)], cwd=Path(__file__).parents[2], capture_output=True)
    assert done.stdout.startswith(b"open ") and done.returncode == -9, done.stderr.decode()
    left = {"label": f"{LABEL}={done.stdout.decode().removeprefix('open ').strip()}"}
    for _ in range(100):
        if not connect().api.containers(filters=left):
            break
        time.sleep(0.1)
    assert not connect().api.containers(filters=left)
    reap(connect())
    assert not connect().api.containers(all=True, filters=left)


def test_an_owner_is_told_from_a_later_process_of_the_same_number() -> None:
    here = owner.me()
    assert owner.parse(str(here)) == here
    assert not owner.abandoned(here, running=False)
    assert owner.abandoned(here._replace(started="1"), running=True)
    assert owner.abandoned(here._replace(pid=2**22 + 1), running=True)
    elsewhere = here._replace(boot="another")
    assert not owner.abandoned(elsewhere, running=True) and owner.abandoned(elsewhere, running=False)
    assert owner.parse("somebody else's label") is None


def test_folders_of_the_dead_are_removed_and_those_of_the_living_and_of_strangers_stay(tmp_path: Path) -> None:
    mine = owner.folder(tmp_path, "x-")
    parts = mine.name.split("-")
    others = {
        name: tmp_path / "-".join(["x", *changed, "end"])
        for name, changed in {
            "an earlier process of my number": [parts[1], "1", *parts[3:5]],
            "no process": [str(2**22 + 1), *parts[2:5]],
            "before the machine was started": [*parts[1:3], "0" * 8, parts[4]],
            "another process namespace": [*parts[1:3], parts[3], "0" * 8],
        }.items()
    }
    for place in (*others.values(), tmp_path / "x-somebody's", tmp_path / "y"):
        place.mkdir()
    again = owner.folder(tmp_path, "x-")
    left = {*tmp_path.iterdir()}
    assert left == {mine, again, others["another process namespace"], tmp_path / "x-somebody's", tmp_path / "y"}


def test_a_dead_engine_is_one_sentence_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tree}/no.sock")
    assert usable_image() is None
    for problem in (unusable, lambda: _open_error(tree)):
        text = problem()
        assert text.startswith("No Docker engine answers") and "docker-up.sh" in text and 'sandbox = "local"' in text
        assert "\n" not in text and "Traceback" not in text
    with pytest.raises(SandboxError, match="No Docker engine answers"):
        list_images()


def _open_error(tree: Path) -> str:
    with pytest.raises(SandboxError) as caught:
        with_sandbox(Spec(tree=tree), lambda sandbox: sandbox.manifest())
    return str(caught.value)


@pytest.mark.docker
def test_a_container_that_somebody_else_removed_is_closed_without_an_error(tree: Path) -> None:
    async def lose(sandbox: Sandbox) -> None:
        (container,) = ours()
        await asyncio.to_thread(lambda: connect().api.remove_container(container, force=True))
        remove(connect(), container)
        await sandbox.close()

    with_sandbox(Spec(tree=tree), lose)
    assert ours() == set()


@pytest.mark.docker
def test_an_image_that_is_not_there_is_named(tree: Path) -> None:
    with pytest.raises(SandboxError, match=r"(?i)no such image.*repodojo/none.*dojo images build"):
        with_sandbox(Spec(tree=tree, image="repodojo/none:1"), lambda sandbox: sandbox.manifest())


@pytest.mark.docker
def test_images_of_ours_are_listed_and_not_built_twice() -> None:
    name = usable_image()
    assert name is not None
    (image,) = [image for image in list_images() if image.name == name]
    said: list[str] = []
    if image.current:
        assert build(name, say=said.append) == name
        assert said == [f"image {name} is there already"]
    assert image.size_mb > 50
