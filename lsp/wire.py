"""JSON-RPC over the standard streams of a language server, on raw frames (standard library only).

Importing pygls with lsprotocol costs 0.8 s of CPU, this module 0.1 s: it carries the facts inside a sandbox, where
one process per episode pays that price. :mod:`lsp.client` is the same :class:`Client` protocol on pygls. Invariants:

* A frame is recorded as the server's own bytes, before anything parses it.
* Every request ends: with an answer, an ``LS_TIMEOUT``, or an ``LS_CRASH`` when the process died. None waits on
  another.
* An invalid message is counted and skipped; a stream that is no longer framed is a crash, since nothing after it
  can be trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from lsp.errors import Code, LanserError

MAX_HEADER = 4096
MAX_BODY = 256 * 1024 * 1024

Tap = Callable[[str, bytes], None]
"""Called with ``"send"`` or ``"recv"`` and the body of each frame."""
Notify = Callable[[str, Any], None]
"""Called with method and params of each notification of the server."""
Serve = Callable[[str, Any], Any]
"""Answers the server's requests: method and params to result. ``LanserError`` becomes an error answer."""

ERROR_CODES = {-32800: Code.REQUEST_CANCELLED, -32801: Code.CONTENT_MODIFIED, -32802: Code.REQUEST_CANCELLED}
METHOD_NOT_FOUND = -32601


class ServerAnswer(LanserError):
    """The server answered with a JSON-RPC error; ``number`` is its code."""

    def __init__(self, method: str, error: Mapping[str, Any]) -> None:
        self.number = int(error.get("code", 0))
        unsupported = self.number == METHOD_NOT_FOUND
        code = Code.UNSUPPORTED_CAP if unsupported else ERROR_CODES.get(self.number, Code.NOT_FOUND)
        super().__init__(code, f"the server refused {method}: {error.get('message', 'no reason given')}")


class Client(Protocol):
    """A running language server: requests in, plain JSON out."""

    async def request(self, method: str, params: Any, timeout: float) -> Any:
        """The result of one request. Raises :class:`LanserError`."""
        ...

    def notify(self, method: str, params: Any) -> None:
        """Send a notification. Raises ``LS_CRASH`` when the server is gone."""
        ...

    @property
    def alive(self) -> bool: ...

    @property
    def pid(self) -> int | None: ...

    async def close(self) -> None:
        """Kill and reap. Idempotent."""
        ...


def encode(message: Mapping[str, Any]) -> bytes:
    """The body of one frame."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def frame(body: bytes) -> bytes:
    """A body with its header."""
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The body of the next frame; ``None`` at a clean end. ``ValueError`` when the stream is not framed."""
    length: int | None = None
    size = 0
    while True:
        line = await reader.readline()
        if not line:
            if size:
                raise ValueError("the stream ended inside a header")
            return None
        size += len(line)
        if size > MAX_HEADER:
            raise ValueError("a header without an end")
        if line in (b"\r\n", b"\n"):
            if length is None:
                raise ValueError("a header without Content-Length")
            break
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError(f"not a header line: {line[:80]!r}")
        if name.strip().lower() == b"content-length":
            length = int(value)
    if not 0 <= length <= MAX_BODY:
        raise ValueError(f"a body of {length} bytes")
    return await reader.readexactly(length)


class Pending:
    """Requests that wait for an answer, by id."""

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, tuple[str, asyncio.Future[Any]]] = {}

    def open(self, method: str) -> tuple[int, asyncio.Future[Any]]:
        self._next += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[self._next] = (method, future)
        return self._next, future

    def answer(self, message: Mapping[str, Any]) -> None:
        """Resolve the request that ``message`` answers; an answer to nothing is dropped."""
        waiting = self._waiting.pop(as_number(message.get("id")), None)
        if waiting is None or waiting[1].done():
            return
        method, future = waiting
        error = message.get("error")
        if isinstance(error, dict):
            future.set_exception(ServerAnswer(method, error))
        else:
            future.set_result(message.get("result"))

    def forget(self, number: int) -> None:
        self._waiting.pop(number, None)

    def fail(self, error: LanserError) -> None:
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()


class WireClient:
    """One server process spoken to in raw frames. Make it with :meth:`start`."""

    def __init__(self, process: asyncio.subprocess.Process, notify: Notify, serve: Serve, tap: Tap | None) -> None:
        self._process = process
        self._on_notify = notify
        self._on_request = serve
        self._tap = tap
        self._pending = Pending()
        self._dead: LanserError | None = None
        self._tail = bytearray()
        self.bad_messages = 0
        """Messages that were not valid JSON-RPC."""
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._drain())]

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        notify: Notify,
        serve: Serve,
        tap: Tap | None = None,
    ) -> WireClient:
        """Spawn ``command`` in a process group of its own. ``LS_CRASH`` when it cannot be spawned."""
        return cls(await spawn(command, cwd, env), notify, serve, tap)

    @property
    def alive(self) -> bool:
        return self._dead is None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def notify(self, method: str, params: Any) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    async def request(self, method: str, params: Any, timeout: float) -> Any:
        number, future = self._pending.open(method)
        message = {"jsonrpc": "2.0", "id": number, "method": method}
        if params is not None:
            message["params"] = params
        try:
            self._send(message)
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            with contextlib.suppress(LanserError):
                self.notify("$/cancelRequest", {"id": number})
            raise LanserError(Code.LS_TIMEOUT, f"no answer to {method} within {timeout:g} s") from None
        finally:
            self._pending.forget(number)

    async def close(self) -> None:
        kill_group(self._process)
        self._die("the server was stopped")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            await self._process.wait()
        close_transport(self._process)

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._dead is not None:
            raise self._dead
        body = encode(message)
        if self._tap is not None:
            self._tap("send", body)
        assert self._process.stdin is not None
        self._process.stdin.write(frame(body))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while (body := await read_frame(self._process.stdout)) is not None:
                if self._tap is not None:
                    self._tap("recv", body)
                self._dispatch(body)
            reason = "the server ended"
        except (ValueError, asyncio.IncompleteReadError, OSError) as error:
            reason = f"the server's stream broke ({error})"
        self._die(reason)
        kill_group(self._process)

    async def _drain(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(65536):
            self._tail += chunk
            del self._tail[:-2000]

    def _dispatch(self, body: bytes) -> None:
        message = parse_message(body)
        if message is None:
            self.bad_messages += 1
        elif "method" not in message:
            self._pending.answer(message)
        elif "id" in message:
            self._send(answer(message, self._on_request))
        else:
            self._on_notify(message["method"], message.get("params"))

    def _die(self, reason: str) -> None:
        if self._dead is None:
            last = self._tail.decode("utf-8", "replace").strip().splitlines()[-1:]
            self._dead = LanserError(Code.LS_CRASH, ": ".join([reason, *last]))
        self._pending.fail(self._dead)


def parse_message(body: bytes) -> dict[str, Any] | None:
    """A JSON-RPC message, or ``None`` when ``body`` is not one."""
    try:
        message = json.loads(body)
    except ValueError:
        return None
    if not isinstance(message, dict) or not ({"method", "id"} & message.keys()):
        return None
    return message


def answer(message: Mapping[str, Any], serve: Serve) -> dict[str, Any]:
    """The answer to a request of the server."""
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    try:
        reply["result"] = serve(message["method"], message.get("params"))
    except LanserError as error:
        reply["error"] = {"code": METHOD_NOT_FOUND, "message": error.message}
    return reply


def as_number(value: Any) -> int:
    """The id of a request of ours; -1 for anything else."""
    return value if isinstance(value, int) else -1


async def spawn(command: Sequence[str], cwd: str, env: Mapping[str, str]) -> asyncio.subprocess.Process:
    """The server's process, leader of its own group so that all it starts dies with it."""
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, env=dict(env), start_new_session=True, limit=2**20
        )
    except OSError as error:
        raise LanserError(Code.LS_CRASH, f"cannot start {command[0]}: {error.strerror}") from error


def kill_group(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to the group that :func:`spawn` made."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def close_transport(process: asyncio.subprocess.Process) -> None:
    """Release the pipes now rather than at garbage collection, when the loop may be gone."""
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


Connect = Callable[..., Awaitable[Client]]
"""``WireClient.start`` or ``lsp.client.PyglsClient.start``."""
