"""However a sandbox ends, callers get a cause and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import cgroup, owner, wire
from sandbox.config import PoolConfig, SandboxConfig
from sandbox.folder import Folders
from sandbox.local import LocalBackend
from sandbox.memory import MemoryBackend
from sandbox.protocol import Limits, SandboxError, Spec
from sandbox.remote import RemoteSandbox
from sandbox.selfcheck import make_tree

ROOT = Path(__file__).parent.parent.parent


async def _nothing() -> None:
    return None


class Peer:
    """The far end of a sandbox's streams, played by a test."""

    def __init__(self, cause: str = "") -> None:
        async def why() -> str:
            return cause

        self.reader = asyncio.StreamReader()
        self.sent: list[dict[str, object]] = []
        self.box = RemoteSandbox(self.reader, self, _nothing, "test", cause=why)

    def write(self, data: bytes, /) -> None:
        self.sent.append(wire.unpack(data[wire.HEAD :]))

    async def drain(self) -> None: ...

    def close(self) -> None: ...

    def say(self, **message: object) -> None:
        self.reader.feed_data(wire.pack({"jsonrpc": "2.0", **message}))

    async def greeted(self) -> RemoteSandbox:
        self.say(method="hello", params={"version": 1})
        await self.box.start(1)
        return self.box


def test_a_dead_server_fails_every_request_in_flight_and_every_later_one_with_its_cause() -> None:
    async def play() -> list[BaseException | object]:
        peer = Peer("memory ran out")
        box = await peer.greeted()
        asks = [asyncio.create_task(box.run("x")), asyncio.create_task(box.manifest())]
        await asyncio.sleep(0)
        peer.reader.feed_eof()
        answers = await asyncio.gather(*asks, return_exceptions=True)
        return [*answers, *await asyncio.gather(box.read("x"), return_exceptions=True)]

    answers = asyncio.run(play())
    assert all(isinstance(answer, SandboxError) and "memory ran out" in str(answer) for answer in answers)


def test_a_stream_that_is_not_ours_is_an_error() -> None:
    async def play() -> None:
        peer = Peer()
        peer.reader.feed_data(b"Traceback (most recent call last):\n")
        await peer.box.start(5)

    with pytest.raises(SandboxError, match="something else writes"):
        asyncio.run(play())


def test_a_server_that_does_not_answer_is_an_error_and_not_a_hang() -> None:
    async def play() -> None:
        box = await Peer().greeted()
        await box.ping(0.05)

    with pytest.raises(SandboxError, match="did not answer 'ping'"):
        asyncio.run(play())


def test_a_cancelled_request_is_cancelled_on_the_other_side() -> None:
    async def play() -> list[dict[str, object]]:
        peer = Peer()
        box = await peer.greeted()
        ask = asyncio.create_task(box.run("sleep 9"))
        await asyncio.sleep(0.01)
        ask.cancel()
        await asyncio.wait([ask])
        return peer.sent

    sent = asyncio.run(play())
    assert sent[-1]["method"] == "cancel" and sent[-1]["params"] == {"id": sent[0]["id"]}


def test_answers_out_of_order_find_their_requests() -> None:
    async def play() -> tuple[str, dict[str, str]]:
        peer = Peer()
        box = await peer.greeted()
        asks = asyncio.create_task(box.run("x")), asyncio.create_task(box.manifest())
        await asyncio.sleep(0.01)
        listed = {"number": 1, "whole": True, "changed": {"a": "f:1"}, "gone": []}
        peer.say(id=peer.sent[1]["id"], result=listed)
        peer.say(id=99, result="nobody asked")
        peer.say(id=peer.sent[0]["id"], result={"output": "x", "exit_code": 0})
        return (await asks[0]).output, await asks[1]

    assert asyncio.run(play()) == ("x", {"a": "f:1"})


def test_output_streams_while_a_command_runs(tmp_path: Path) -> None:
    async def play() -> tuple[list[str], str]:
        backend = LocalBackend()
        box = await backend.open(Spec(tree=make_tree(tmp_path)))
        pieces: list[str] = []
        result = await box.run("for i in 1 2 3; do echo $i; sleep 0.1; done", on_output=pieces.append)
        await backend.close()
        return pieces, result.output

    pieces, output = asyncio.run(play())
    assert len(pieces) == 3 and "".join(pieces) == output


# -- nothing stays ----------------------------------------------------------------------------------------------------

PARENT = """
import asyncio, sys
from pathlib import Path
from sandbox.local import LocalBackend
from sandbox.protocol import Spec

async def main():
    backend = LocalBackend()
    boxes = [await backend.open(Spec(tree=Path(sys.argv[1]))) for _ in range(2)]
    await boxes[0].run("setsid sleep 1234 & sleep 0.1")
    asyncio.create_task(boxes[1].run("sleep 1234"))
    await asyncio.sleep(0.2)
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(text[text.rindex(")") + 2 :].split()[1])
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found - {pid}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def _wait(holds: Callable[[], bool], patience_s: float = 20.0) -> bool:
    end = time.monotonic() + patience_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def test_when_the_parent_is_killed_no_process_of_its_sandboxes_is_left(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(make_tree(tmp_path))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout and parent.stdout.readline() == "up\n"
        below = _descendants(parent.pid)
        assert len(below) >= 8
        parent.kill()
    assert _wait(lambda: not any(map(_alive, below)))


def test_a_backend_whose_warm_process_was_killed_fails_its_sandboxes_and_opens_new_ones(tmp_path: Path) -> None:
    async def play() -> str:
        backend = LocalBackend()
        spec = Spec(tree=make_tree(tmp_path))
        box = await backend.open(spec)
        for pid in _descendants(os.getpid()):
            # A descendant may have ended since it was listed.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if "core" in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGKILL)
        with pytest.raises(SandboxError):
            await box.run("sleep 5")
        for _ in range(100):
            try:
                fresh = await backend.open(spec)
                break
            except SandboxError:
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("no new sandbox")
        output = (await fresh.run("echo on")).output
        await backend.close()
        return output

    assert asyncio.run(play()) == "on\n"


def test_closing_a_backend_closes_its_sandboxes_and_leaves_no_process(tmp_path: Path) -> None:
    async def play() -> tuple[set[int], str]:
        backend = LocalBackend()
        box = await backend.open(Spec(tree=make_tree(tmp_path)))
        await box.run("sleep 1234 &")
        below = _descendants(os.getpid())
        await backend.close()
        with pytest.raises(SandboxError) as closed:
            await box.run("true")
        return below, str(closed.value)

    below, message = asyncio.run(play())
    assert "closed" in message
    assert _wait(lambda: not any(map(_alive, below)))


def test_sandboxes_open_side_by_side(tmp_path: Path) -> None:
    async def play() -> set[str]:
        backend = LocalBackend()
        spec = Spec(tree=make_tree(tmp_path))
        boxes = await asyncio.gather(*(backend.open(spec) for _ in range(12)))
        results = await asyncio.gather(*(box.run(f"echo {n} > n; sleep 0.1; cat n") for n, box in enumerate(boxes)))
        await backend.close()
        return {result.output for result in results}

    assert asyncio.run(play()) == {f"{n}\n" for n in range(12)}


LEFT = """
import os, signal
from sandbox import cgroup
from sandbox.protocol import Limits
group = cgroup.Group(Limits())
print(*(path for path in group.folders), sep="\\n", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(bool(cgroup.missing()), reason=cgroup.missing() or "-")
def test_control_groups_of_dead_owners_are_removed_and_those_of_closed_sandboxes_too(tmp_path: Path) -> None:
    left = subprocess.run([sys.executable, "-c", LEFT], cwd=ROOT, capture_output=True, text=True, check=False)
    made = [Path(line) for line in left.stdout.splitlines()]
    assert made and all(path.is_dir() for path in made)
    subprocess.run([sys.executable, "-c", "from sandbox import cgroup; cgroup.missing()"], cwd=ROOT, check=True)
    assert not any(path.exists() for path in made)

    async def play() -> tuple[int, int]:
        backend = LocalBackend()
        box = await backend.open(Spec(tree=make_tree(tmp_path)))
        ours = [path for path in made[0].parent.iterdir() if str(owner.me()) in path.name]
        await box.close()
        await backend.close()
        return len(ours), sum(path.exists() for path in ours)

    assert asyncio.run(play()) == (1, 0)


def test_folders_of_dead_owners_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPODOJO_CACHE", str(tmp_path))
    script = "from pathlib import Path; from sandbox.folder import Folders; print(Folders('none', Path('/'))._home)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    left = Path(done.stdout.strip())
    assert left.is_dir()
    mine = Folders("none", Path("/"))
    assert not left.exists()
    asyncio.run(mine.close())
    assert list((tmp_path / "local").iterdir()) == []


# -- the choice -------------------------------------------------------------------------------------------------------


def test_without_any_confinement_commands_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"cannot be confined here.*--unsafe-local"):
        asyncio.run(LocalBackend(ways=()).open(Spec(tree=make_tree(tmp_path))))


def test_the_user_may_insist_and_the_workspace_keeps_its_name(tmp_path: Path) -> None:
    async def play() -> tuple[str, str, str, bool]:
        backend = LocalBackend(unsafe=True, ways=())
        box = await backend.open(Spec(tree=make_tree(tmp_path)))
        where = (await box.run("cd /workspace/pkg && pwd && echo $TMPDIR")).output
        edited = await box.edit(command="view", path="/workspace/pkg/answer.py")
        ran = (await box.run("python -c 'import pkg.answer as a; print(a.__file__)'; ls /workspace/crlf.txt")).output
        notice = backend.notice
        await backend.close()
        return where, edited.output, ran, "not confined at all" in notice

    where, edited, ran, noticed = asyncio.run(play())
    assert where.startswith("/workspace/pkg\n") and "/workspace/pkg/answer.py" in edited
    assert ran == "/workspace/pkg/answer.py\n/workspace/crlf.txt\n"
    assert noticed


def test_protections_are_found_by_trying() -> None:
    from sandbox.probe import PROTECTIONS, probe

    async def play(backend: LocalBackend) -> dict[str, bool]:
        found = {protection.name: protection.real for protection in await probe(backend)}
        await backend.close()
        return found

    expected = dict.fromkeys(PROTECTIONS, True) | {"memory of all processes together": not cgroup.missing()}
    assert asyncio.run(play(LocalBackend())) == expected
    bare = asyncio.run(play(LocalBackend(unsafe=True, ways=())))
    assert not bare["network"] and not bare["processes of this machine"] and bare["time"]


def test_root_takes_no_way_that_cannot_count_its_processes() -> None:
    from sandbox.folder import missing

    reason = missing("landlock")
    assert ("not taken as root" in reason) == (os.geteuid() == 0)


def test_a_limit_that_local_sandboxes_do_not_honour_is_refused() -> None:
    from sandbox.choose import choose

    limited = SandboxConfig(backend="local", limits=Limits(cpus=2.0))
    if cgroup.missing():
        with pytest.raises(SandboxError, match=r"limits\.cpus is not honoured"):
            choose(limited)
    else:
        assert choose(limited)[0].name == "local"
    with pytest.raises(SandboxError, match=r"pool\.keep is not honoured"):
        choose(SandboxConfig(backend="local", pool=PoolConfig(keep=9)))


def test_an_image_is_refused_where_none_can_be_run(tmp_path: Path) -> None:
    from sandbox.choose import choose

    with pytest.raises(SandboxError, match="some/image needs docker"):
        choose(SandboxConfig(backend="local", image="some/image"))
    with pytest.raises(SandboxError, match="asks for the image some/image"):
        asyncio.run(LocalBackend().open(Spec(tree=make_tree(tmp_path), image="some/image")))


def test_the_choice_says_why() -> None:
    from sandbox.choose import choose

    backend, reason = choose(SandboxConfig(backend="auto"))
    assert backend.name in ("docker", "local") and reason.startswith(f"{backend.name} sandboxes: ")
    assert choose(SandboxConfig(backend="local"))[0].name == "local"


def test_a_thousand_scripted_edits_in_memory_leave_no_folder(tmp_path: Path) -> None:
    async def play() -> tuple[int, list[Path]]:
        backend = MemoryBackend()
        spec = Spec(tree=make_tree(tmp_path / "tree"))
        hashes = set[str]()
        for n in range(200):
            box = await backend.open(spec)
            await box.edit(command="str_replace", path="pkg/answer.py", old_str="41", new_str=str(n % 3))
            hashes.add(json.dumps(await box.manifest()))
            await box.close()
        left = list(backend.folder.iterdir())
        await backend.close()
        return len(hashes), left

    assert asyncio.run(play()) == (3, [])
