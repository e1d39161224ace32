"""Behaviours of an allow-list: tried with two servers of our own on this machine, one listed and one not."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from sandbox.network import PORT, Allow
from sandbox.protocol import Sandbox, SandboxError, Spec

PROGRAM = """\
import http.client, json, socket, sys
listed, unlisted, proxy = map(int, sys.argv[1:])

def ask(port, tunnel):
    try:
        way = http.client.HTTPConnection("127.0.0.1", proxy, timeout=9)
        if tunnel:
            way.set_tunnel("127.0.0.1", port)
        way.request("GET", "/" if tunnel else f"http://127.0.0.1:{port}/")
        answer = way.getresponse()
        return f"{answer.status} {answer.read().decode().strip()}"
    except (OSError, http.client.HTTPException) as error:
        return str(error)

def leave(*kind):
    try:
        with socket.socket(*kind) as out:
            out.settimeout(2)
            out.connect(("1.1.1.1", 53)) if kind[1] != socket.SOCK_RAW else out.sendto(b"x" * 20, ("1.1.1.1", 0))
            return out.send(b"x") == 1
    except OSError:
        return False

def looked_up():
    try:
        return bool(socket.getaddrinfo("example.org", 80))
    except OSError:
        return False

def direct():
    try:
        socket.create_connection(("127.0.0.1", listed), 2).close()
        return True
    except OSError:
        return False

kinds = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM, "raw": socket.SOCK_RAW}
left = [name for name, kind in kinds.items() if leave(socket.AF_INET, kind)]
left += ["names"] * looked_up() + ["the host's own address"] * direct()
print(json.dumps({"listed": [ask(listed, False), ask(listed, True)],
                  "unlisted": [ask(unlisted, False), ask(unlisted, True)], "left": left}))
"""
SAID = "listed by policy"

Told = tuple[str, str]
"""A behaviour, and what was seen instead; empty where it holds."""


async def check_network(opener: Callable[[Spec], Awaitable[Sandbox]], spec: Spec) -> list[Told]:
    """What an allow-list does over a backend. Raises :class:`SandboxError` when no sandbox opens."""
    async with AsyncExitStack() as stack:
        ports = [await _server(stack) for _ in range(2)]
        box = await opener(spec.model_copy(update={"network": Allow(allow=(f"127.0.0.1:{ports[0]}",))}))
        try:
            done = await box.run(shlex.join(["python3", "-c", PROGRAM, *map(str, (*ports, PORT))]), 40)
        finally:
            await box.close()
    try:
        seen: dict[str, Any] = json.loads(done.output)
    except ValueError as error:
        raise SandboxError(f"the allow-list could not be tried: {done.output.strip()[-300:]}") from error
    return judge(seen, ports[1])


def judge(seen: dict[str, Any], unlisted: int) -> list[Told]:
    """What the facts of one attempt say (pure)."""
    refusal = f"does not list 127.0.0.1:{unlisted}"
    plain, tunnel = seen["unlisted"]
    refused = plain.startswith("403 ") and refusal in plain and "403" in tunnel
    reached = seen["listed"] == [f"200 {SAID}"] * 2
    return [
        ("a listed host is reached through the proxy", "" if reached else f"saw {seen['listed']}"),
        ("a host that is not listed is refused in one line", "" if refused else f"saw {seen['unlisted']}"),
        ("nothing leaves but through the proxy", "" if not seen["left"] else f"saw {seen['left']}"),
    ]


async def _server(stack: AsyncExitStack) -> int:
    """A server that answers every request; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(SAID)}\r\nConnection: close\r\n\r\n{SAID}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    stack.callback(server.close)
    return server.sockets[0].getsockname()[1]
