"""What a sandbox may reach: a list is kept by a proxy on the host, and nothing else leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from sandbox.config import SandboxConfig
from sandbox.docker import DockerBackend
from sandbox.gate import Gates, understand
from sandbox.local import LocalBackend
from sandbox.memory import MemoryBackend
from sandbox.network import Allow
from sandbox.pool import Pool
from sandbox.protocol import Backend, SandboxError, Spec
from sandbox.selfcheck import make_tree
from sandbox.selfcheck.network import check_network, judge

LISTED = Allow(allow=("pypi.org", "*.example.org:443", "10.1.0.0/16:8080", "[fd00::1]:80", "127.0.0.1:9"))


@pytest.mark.parametrize(
    ("host", "port", "permitted"),
    [
        ("pypi.org", 443, True),
        ("PyPI.org.", 80, True),
        ("pypi.org", 22, False),
        ("evilpypi.org", 443, False),
        ("pypi.org.evil.net", 443, False),
        ("a.example.org", 443, True),
        ("a.b.example.org", 443, True),
        ("example.org", 443, False),
        ("a.example.org", 80, False),
        ("10.1.2.3", 8080, True),
        ("10.2.0.1", 8080, False),
        ("fd00::1", 80, True),
        ("fd00::2", 80, False),
        ("localhost", 9, False),
        ("2130706433", 9, False),
    ],
)
def test_a_list_permits_what_it_names_and_nothing_that_looks_like_it(host: str, port: int, permitted: bool) -> None:
    assert LISTED.permits(host, port) is permitted


@pytest.mark.parametrize("entry", ["", "*", "http://pypi.org", "pypi.org:http", "pypi.org:70000", "a b", "host/path"])
def test_an_entry_that_is_none_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ValidationError, match="is no host, address or range"):
        SandboxConfig.model_validate({"network": {"allow": [entry]}})
    assert SandboxConfig.model_validate({"network": {"allow": ["pypi.org"]}}).network == Allow(allow=("pypi.org",))


def test_a_request_is_rewritten_for_its_host_and_a_tunnel_is_not_looked_into() -> None:
    head = (
        b"GET http://a.org:81/x?y=1#z HTTP/1.1\r\nHost: evil.org\r\nProxy-Connection: keep-alive\r\nAccept: */*\r\n\r\n"
    )
    asked = understand(head)
    assert (asked.host, asked.port) == ("a.org", 81)
    assert asked.first == b"GET /x?y=1 HTTP/1.1\r\nHost: a.org:81\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    assert understand(b"CONNECT [fd00::1]:443 HTTP/1.1\r\n\r\n")[:3] == ("fd00::1", 443, b"")


@pytest.mark.parametrize(
    ("sent", "status", "line"),
    [
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", "403", "does not list example.org:443"),
        (b"CONNECT example.org:0x50 HTTP/1.1\r\n\r\n", "400", "cannot be read"),
        (b"GET / HTTP/1.1\r\n\r\n", "400", "ask it for http:// addresses"),
        (b"GET ftp://example.org/ HTTP/1.1\r\n\r\n", "400", "ask it for http:// addresses"),
        (b"SSH-2.0-x\r\n\r\n", "400", "no HTTP request"),
        (b"x" * 40_000, "400", "no HTTP request"),
        (b"CONNECT 127.0.0.1:9 HTTP/1.1\r\n\r\n", "502", "127.0.0.1:9 does not answer"),
    ],
)
def test_what_is_refused_hears_why_in_one_line(tmp_path: Path, sent: bytes, status: str, line: str) -> None:
    async def ask() -> str:
        gates = Gates(tmp_path)
        folder = await gates.folder(LISTED)
        assert folder is not None and folder == await gates.folder(LISTED)
        reader, writer = await asyncio.open_unix_connection(folder / "gate")
        writer.write(sent)
        answer = (await reader.read()).decode()
        writer.close()
        await gates.close()
        assert not folder.exists()
        return answer

    answer = asyncio.run(ask())
    head, _, body = answer.partition("\r\n\r\n")
    assert head.split()[1] == status and line in body and body.count("\n") == 1


@pytest.mark.parametrize("kind", [LocalBackend, pytest.param(DockerBackend, marks=pytest.mark.docker)])
def test_a_sandbox_with_a_list_reaches_it_and_nothing_else(tmp_path: Path, kind: type[Backend]) -> None:
    async def play() -> list[str]:
        backend = kind()
        try:
            box = await backend.open(Spec(tree=tmp_path, network=LISTED))
            names = (await box.run("env | grep -ic proxy; ls /run/network; touch /run/network/x")).output
            assert names.startswith("5\ngate\n"), names
            assert box.network == LISTED
            return [problem for _, problem in await check_network(backend.open, Spec(tree=tmp_path))]
        finally:
            await backend.close()

    assert asyncio.run(play()) == ["", "", ""]


@pytest.mark.docker
def test_a_pool_never_gives_a_sandbox_without_a_list_to_one_with_it(tmp_path: Path) -> None:
    async def play() -> tuple[list[object], int]:
        pool = Pool(DockerBackend(warm=0), keep=2)
        seen = list[object]()
        try:
            for network in ("none", LISTED, LISTED, "none"):
                box = await pool.open(Spec(tree=make_tree(tmp_path), network=network))
                seen.append((box.network, (await box.run("test -e /run/network/gate")).exit_code))
                await box.close()
        finally:
            await pool.close()
        return seen, pool.reused

    seen, reused = asyncio.run(play())
    assert seen == [("none", 1), (LISTED, 0), (LISTED, 0), ("none", 1)] and reused == 2


def test_what_was_seen_of_a_list_decides() -> None:
    held = {"listed": ["200 listed by policy"] * 2, "left": []}
    held["unlisted"] = ["403 the sandbox's network policy does not list 127.0.0.1:7", "Tunnel failed: 403 Forbidden"]
    assert [problem for _, problem in judge(held, 7)] == ["", "", ""]
    for broken in ({"listed": ["200 x"] * 2}, {"unlisted": ["200 listed by policy"] * 2}, {"left": ["TCP"]}):
        assert sum(bool(problem) for _, problem in judge({**held, **broken}, 7)) == 1


def test_a_backend_that_cannot_keep_a_list_refuses_it(tmp_path: Path) -> None:
    async def play(backend: Backend) -> None:
        try:
            with pytest.raises(SandboxError, match="allow-list"):
                await backend.open(Spec(tree=tmp_path, network=LISTED))
        finally:
            await backend.close()

    asyncio.run(play(MemoryBackend()))
    asyncio.run(play(LocalBackend(unsafe=True, ways=())))
