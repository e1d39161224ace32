"""Sessions against real processes: crashes, hangs, freshness, both clients, daemon, traces, batch, mutations."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lsp import servers
from lsp.batch import run as run_batch
from lsp.bundle import validate, verify
from lsp.client import PyglsClient
from lsp.daemon import Daemon
from lsp.errors import Code, LanserError
from lsp.host import Options
from lsp.mutations import Guard, code_action, rename
from lsp.queries import run_verb
from lsp.sdk import Lanser
from lsp.session import Session
from lsp.trace import Recorder, read, replay
from lsp.verbs import call
from lsp.wire import Connect, WireClient

PATIENCE = 120.0
"""Seconds for one request where no time-out is meant: what is slow on a machine with other work is no fault."""
CLIENTS = [WireClient.start, PyglsClient.start]
A = """class Dog:
    def bark(self) -> str:
        return 'é😀'


def walk(dog: Dog) -> str:
    return dog.bark()
"""
B = "from pkg.a import Dog, walk\n\nsound: str = walk(Dog())\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg/__init__.py").write_text("")
    (root / "pkg/a.py").write_text(A)
    (root / "pkg/b.py").write_text(B)
    return root


def scripted(root: Path, script: dict[str, list[str]], connect: Connect, timeout: float = PATIENCE) -> Session:
    profile = servers.parse({"name": "scripted", "command": ["x"], "languages": {".py": "python"}}, "test")
    command = (sys.executable, "-m", "lsp.doubles", json.dumps(script))
    return Session(root, profile, Options(command=command, timeout=timeout, connect=connect))


async def hover(session: Session) -> dict[str, Any]:
    return await run_verb(session, "hover", {"selector": "pkg/a.py@L1:C7"})


@pytest.mark.parametrize("connect", CLIENTS, ids=["wire", "pygls"])
@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("die", "E/LS_CRASH"), ("half", "E/LS_CRASH"), ("hang", "E/LS_TIMEOUT"), ("flood", None), ("garbage", None),
        ("wrong-id", None), ("stderr", None), ("modified", None),
    ],
)  # fmt: skip
def test_a_misbehaving_server_fails_one_request_and_the_next_works(
    project: Path, behaviour: str, code: str | None, connect: Connect
) -> None:
    async def run() -> list[dict[str, Any]]:
        script = {"textDocument/hover": [behaviour, "ok"]}
        async with scripted(project, script, connect, 2.0 if behaviour == "hang" else PATIENCE) as session:
            first = await hover(session)
            # A fresh process reads the script anew: only the first process misbehaves.
            fine = (sys.executable, "-m", "lsp.doubles")
            session.options = Options(command=fine, connect=connect, timeout=PATIENCE)
            if session.host is not None:
                session.host.options = session.options
            return [first, await hover(session)]

    first, second = asyncio.run(run())
    assert (first["error"] and first["error"]["code"]) == code
    assert second["facts"]["hover"] == "a hover"


@pytest.mark.parametrize("connect", CLIENTS, ids=["wire", "pygls"])
def test_answers_out_of_order_reach_their_own_requests(project: Path, connect: Connect) -> None:
    async def run() -> list[Any]:
        async with scripted(project, {"textDocument/hover": ["swap", "ok"]}, connect) as session:
            host = await session.start()
            hovering = host.request("textDocument/hover", {})
            defining = host.request("textDocument/definition", {})
            return await asyncio.gather(hovering, defining)

    assert asyncio.run(run()) == [{"contents": "a hover"}, []]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_real_server_that_is_killed_or_stopped_is_replaced(project: Path, sent: signal.Signals) -> None:
    async def run() -> list[dict[str, Any]]:
        patient = Options(timeout=PATIENCE)
        async with Session(project, "ty", patient) as session:
            before = await hover(session)
            assert session.host is not None and session.host.client.pid is not None
            os.kill(session.host.client.pid, sent)
            await asyncio.sleep(0.2)
            session.options = session.host.options = Options(timeout=3)
            during = await hover(session)
            session.options = patient
            if session.host is not None:
                session.host.options = patient
            return [before, during, await hover(session)]

    before, during, after = asyncio.run(run())
    assert during["status"] == "ok" or during["error"]["code"] in ("E/LS_TIMEOUT", "E/LS_CRASH")
    assert after["bundleId"] == before["bundleId"]


def test_both_clients_and_any_order_of_questions_give_the_same_bundles(project: Path) -> None:
    questions = [("def", "py://pkg.b#sound"), ("refs", "py://pkg.a#Dog.bark"), ("hover", "py://pkg.a#walk")]

    async def run(connect: Connect, order: list[int]) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        async with Session(project, "ty", Options(connect=connect, timeout=PATIENCE)) as session:
            for index in order:
                cmd, selector = questions[index]
                bundle = await run_verb(session, cmd, {"selector": selector})
                validate(bundle)
                verify(bundle)
                found.setdefault(index, set()).add(bundle["bundleId"])
        return found

    order = [index % 3 for index in range(60)]
    random.Random(0).shuffle(order)
    first = asyncio.run(run(WireClient.start, order))
    second = asyncio.run(run(PyglsClient.start, sorted(order)))
    assert first == second
    assert all(len(ids) == 1 for ids in first.values())


def test_a_rename_lands_where_the_names_are_now(project: Path) -> None:
    async def run() -> dict[str, Any]:
        async with Session(project, "ty", Options(timeout=PATIENCE)) as session:
            await hover(session)
            (project / "pkg/a.py").write_text("# moved\n\n" + A)
            return await rename(session, "py://pkg.a#Dog.bark", "growl", Guard(apply=True))

    bundle = asyncio.run(run())
    assert bundle["status"] == "ok", bundle["error"]
    assert bundle["edits"]["applied"] and bundle["edits"]["safe"]
    assert (project / "pkg/a.py").read_text() == "# moved\n\n" + A.replace("bark", "growl")


def test_a_preview_writes_nothing_and_a_dirty_tree_is_refused(project: Path) -> None:
    subprocess.run("git init -q && git add -A", shell=True, cwd=project, check=True)

    async def run() -> list[dict[str, Any]]:
        async with Session(project, "ty", Options(timeout=PATIENCE)) as session:
            preview = await rename(session, "py://pkg.a#walk", "stroll")
            refused = await rename(session, "py://pkg.a#walk", "stroll", Guard(apply=True))
            denied = await rename(session, "py://pkg.a#walk", "stroll", Guard(True, True, deny=("pkg/b.py",)))
            return [preview, refused, denied]

    preview, refused, denied = asyncio.run(run())
    assert "+def stroll(dog: Dog)" in preview["edits"]["diff"] and not preview["edits"]["applied"]
    assert refused["error"]["code"] == Code.DIRTY_WORKTREE.label and refused["edits"]["safe"] is False
    assert denied["error"]["code"] == Code.JAIL.label
    assert (project / "pkg/a.py").read_text() == A


def test_a_quick_fix_is_listed_previewed_and_applied(project: Path) -> None:
    path = project / "pkg/a.py"
    path.write_text("x = 1  # ty: ignore[unresolved-reference]\ny: int = undefined\n")

    async def run() -> list[dict[str, Any]]:
        async with Session(project, "ty", Options(timeout=PATIENCE)) as session:
            listed = await code_action(session, "pkg/a.py@R(2,10->2,19)")
            title = listed["facts"]["actions"][0]["title"]
            return [listed, await code_action(session, "pkg/a.py@R(2,10->2,19)", title, None, Guard(apply=True))]

    listed, applied = asyncio.run(run())
    assert listed["facts"]["actions"]
    assert applied["edits"]["applied"], applied["error"]
    lines = path.read_text().splitlines()
    assert lines[0] == "x = 1  # ty: ignore[unresolved-reference]"
    assert lines != ["x = 1  # ty: ignore[unresolved-reference]", "y: int = undefined"]


def test_a_trace_replays_to_the_same_bytes_elsewhere_and_not_on_other_content(project: Path, tmp_path: Path) -> None:
    async def record() -> None:
        recorder = Recorder()
        async with Session(project, "ty", Options(tap=recorder, timeout=PATIENCE)) as session:
            for cmd, args in (("refs", {"selector": "py://pkg.a#Dog"}), ("def", {"selector": "nothing"})):
                bundle = await call(session, cmd, args)
                recorder.save(tmp_path / "trace.jsonl", session, cmd, args, bundle)
                await session.close()

    asyncio.run(record())
    elsewhere = tmp_path / "elsewhere"
    subprocess.run(["cp", "-r", str(project), str(elsewhere)], check=True)
    traces = read(tmp_path / "trace.jsonl")
    assert [asyncio.run(replay(trace, elsewhere))["bundleId"] for trace in traces] == [
        t.bundle["bundleId"] for t in traces
    ]
    (elsewhere / "pkg/a.py").write_text("")
    with pytest.raises(LanserError) as caught:
        asyncio.run(replay(traces[0], elsewhere))
    assert caught.value.code is Code.REPLAY_MISMATCH


def test_batch_answers_every_line_in_order_also_bad_ones(project: Path) -> None:
    lines = [
        '{"cmd": "hover", "selector": "py://pkg.a#walk"}',
        "not json",
        '{"cmd": "def", "selector": {"kind": "cursor", "uri": "pkg/b.py", "line": 2, "col": 13}}',
        '{"cmd": "nonsense"}',
    ]
    out = io.StringIO()

    async def run() -> int:
        async with Session(project, "ty", Options(timeout=PATIENCE)) as session:
            return await run_batch(session, lines, out)

    assert asyncio.run(run()) == 2
    bundles = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [bundle["status"] for bundle in bundles] == ["ok", "error", "ok", "error"]
    for bundle in bundles:
        validate(bundle)


def test_the_daemon_shares_and_remembers_until_a_file_changes(project: Path, tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "d.sock"
        daemon = Daemon(Session(project, "ty", Options(timeout=PATIENCE)), path)
        serving = asyncio.create_task(daemon.serve())
        asked = {"cmd": "hover", "args": {"selector": "py://pkg.a#walk"}}
        same = await asyncio.gather(*(daemon.answer(asked) for _ in range(5)))
        assert len({bundle["bundleId"] for bundle in same}) == 1
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await daemon.answer(asked)
        assert daemon.remembered >= 1
        (project / "pkg/a.py").write_text(A.replace("-> str", "-> object"))
        changed = await daemon.answer(asked)
        assert "object" in changed["facts"]["hover"]
        await daemon.answer({"cmd": "stop"})
        await serving
        assert not path.exists()

    asyncio.run(run())


def test_the_sdk_returns_typed_bundles(project: Path) -> None:
    with Lanser(project, server="ty", timeout=PATIENCE) as lanser:
        bundle = lanser.definition("pkg/b.py@L3:C14")
        assert bundle.facts is not None and bundle.facts.definitions is not None
        assert bundle.facts.definitions[0].uri == "pkg/a.py"
        assert lanser.definition("nonsense").error is not None


def test_an_unknown_key_in_a_profile_names_the_nearest() -> None:
    with pytest.raises(LanserError, match="did you mean 'command'"):
        servers.parse({"name": "x", "comand": ["y"], "languages": {}}, "profile.toml")
