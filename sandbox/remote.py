"""The verbs of a sandbox from outside, over any pair of streams to a tool server.

Requests carry ids and may overlap. Every request has a deadline on this side too, so that a stopped server is an error
and not a hang; a cancelled request is cancelled inside as well. When the stream ends, every request in flight and every
later one raises :class:`SandboxError` with the cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from sandbox import wire
from sandbox.network import Network
from sandbox.protocol import EditResult, ExecResult, Limits, SandboxError
from sandbox.tree import Listed

GRACE_S = 20.0
"""Patience beyond a command's own time-out before the server counts as stuck, in seconds."""
START_S = 30.0
VERB_S = 120.0
"""Deadline of a verb that has no time-out of its own, in seconds."""
CLEAN_S = 10.0
"""A sandbox that takes longer to clean is not worth keeping, in seconds."""

_KINDS: dict[str, type[OSError]] = {
    error.__name__: error
    for error in (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError, OSError)
}


class Writer(Protocol):
    """What is needed of an asyncio stream writer."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def close(self) -> None: ...


class RemoteSandbox:
    """A live sandbox behind a tool server. Make it, then ``await start()`` before any verb.

    ``closer`` releases what the backend holds (process, container, folders); it is awaited once, by :meth:`close`.
    ``cause`` is asked when the stream ends unexpectedly and answers why, for example that memory ran out.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: Writer,
        closer: Callable[[], Awaitable[None]],
        backend: str,
        *,
        limits: Limits | None = None,
        cause: Callable[[], Awaitable[str]] | None = None,
        ident: str = "",
        network: Network = "none",
    ) -> None:
        self.backend = backend
        self.network: Network = network
        self.ident = ident
        """What its backend calls it: the id of a container; empty where it has no name."""
        self.limits = limits or Limits()
        self._reader, self._writer, self._closer, self._cause = reader, writer, closer, cause
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, Callable[[str], None]] = {}
        self._listed = Listed(0, {})
        self._hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._dead: SandboxError | None = None
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self, timeout_s: float = START_S) -> dict[str, Any]:
        """Wait for the server's greeting, and return it. Raises :class:`SandboxError`, with everything released."""
        self._pump = asyncio.create_task(self._read_frames())
        try:
            return await asyncio.wait_for(asyncio.shield(self._hello), timeout_s)
        except (TimeoutError, SandboxError) as error:
            await self.close()
            if isinstance(error, SandboxError):
                raise
            raise SandboxError(f"the tool server did not start within {timeout_s:g} s") from error

    @property
    def closed(self) -> bool:
        return self._closed

    # -- verbs --------------------------------------------------------------------------------------------------------

    async def run(
        self, command: str, timeout_s: float | None = None, on_output: Callable[[str], None] | None = None
    ) -> ExecResult:
        """See :meth:`sandbox.protocol.Sandbox.run`. ``on_output`` is called with pieces of output while the command
        runs."""
        limit = self.limits.command_s if timeout_s is None else timeout_s
        params = {
            "command": command,
            "timeout_s": limit,
            "limit": self.limits.output_chars,
            "stream": on_output is not None,
        }
        return ExecResult(**await self._request("run", params, limit + GRACE_S, on_output))

    async def edit(self, **call: Any) -> EditResult:
        return EditResult(**await self._request("edit", {"call": call}, VERB_S))

    async def read(self, path: str) -> bytes:
        return wire.to_bytes(await self._request("read", {"path": path}, VERB_S))

    async def write(self, path: str, data: bytes, executable: bool = False) -> None:
        params = {"path": path, "data": wire.to_text(data), "executable": executable}
        await self._request("write", params, VERB_S)

    async def manifest(self) -> dict[str, str]:
        before = self._listed
        self._listed = before.told(await self._request("manifest", {"since": before.number}, VERB_S))
        return dict(self._listed.manifest)

    async def lsp(self, verb: str, **args: Any) -> dict[str, Any]:
        return await self._request("lsp", {"verb": verb, "args": args}, VERB_S)

    async def clean(self) -> list[str]:
        """Wipe the sandbox, and answer what still tells it from a new one: see :mod:`sandbox.reset`. Nothing else may
        be asked meanwhile. Raises :class:`SandboxError`."""
        return await self._request("clean", {}, CLEAN_S)

    async def refill(self, task: bytes, limits: Limits) -> None:
        """Take another task, packed as the backend packs them, after a :meth:`clean` that found nothing."""
        self.limits = limits
        await self._request("refill", {"task": wire.to_text(task)}, VERB_S)

    async def ping(self, timeout_s: float = 5.0) -> None:
        """Return when the server answers. Raises :class:`SandboxError`."""
        await self._request("ping", {}, timeout_s)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._fail(SandboxError("the sandbox is closed"))
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()
        if self._pump is not None:
            self._pump.cancel()
        with contextlib.suppress(SandboxError):
            await self._closer()

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _request(
        self, method: str, params: dict[str, Any], deadline_s: float, on_output: Callable[[str], None] | None = None
    ) -> Any:
        if self._dead is not None:
            raise SandboxError(str(self._dead)) from self._dead
        number = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        if on_output is not None:
            self._streams[number] = on_output
        try:
            await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            return await asyncio.wait_for(answer, deadline_s)
        except TimeoutError as error:
            raise SandboxError(f"the tool server did not answer '{method}' within {deadline_s:g} s") from error
        except asyncio.CancelledError:
            # Tell the inside, without waiting: the request's task is going away.
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.write(wire.pack({"jsonrpc": "2.0", "method": "cancel", "params": {"id": number}}))
            raise
        finally:
            self._waiting.pop(number, None)
            self._streams.pop(number, None)

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            self._writer.write(wire.pack(message))
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            if self._dead is None:
                self._fail(SandboxError(await self._why(f"the tool server is gone ({error})")))
            raise SandboxError(str(self._dead)) from error
        except wire.WireError as error:
            raise SandboxError(str(error)) from error

    # -- answers ------------------------------------------------------------------------------------------------------

    async def _read_frames(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(wire.HEAD)
                self._take(wire.unpack(await self._reader.readexactly(wire.size(head))))
        except asyncio.IncompleteReadError:
            reason = "the tool server died"
        except (OSError, wire.WireError) as error:
            reason = f"the connection to the tool server broke: {error}"
        self._fail(SandboxError(await self._why(reason)))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("method") == "hello":
            self._greet(message["params"])
        elif message.get("method") == "output":
            if sink := self._streams.get(message["params"]["id"]):
                sink(message["params"]["text"])
        elif (waiting := self._waiting.get(message.get("id", 0))) and not waiting.done():
            if "error" in message:
                waiting.set_exception(_exception(message["error"]))
            else:
                waiting.set_result(message["result"])

    def _greet(self, params: dict[str, Any]) -> None:
        if self._hello.done():
            return
        if problem := params.get("problem"):
            self._hello.set_exception(SandboxError(str(problem)))
        else:
            self._hello.set_result(params)

    async def _why(self, reason: str) -> str:
        if self._cause is None or self._closed:
            return reason
        try:
            return f"{reason}: {cause}" if (cause := await asyncio.wait_for(self._cause(), 5.0)) else reason
        except (TimeoutError, SandboxError, OSError):
            return reason

    def _fail(self, error: SandboxError) -> None:
        self._dead = self._dead or error
        for waiting in (*self._waiting.values(), self._hello):
            if not waiting.done():
                waiting.set_exception(error)
        if self._hello.done():
            self._hello.exception()  # marks it as seen, so that a dead start leaves no warning behind


def _exception(error: dict[str, Any]) -> Exception:
    """The exception that an error answer stands for: an ``OSError`` of the verb, or a failed sandbox."""
    data = error.get("data") or {}
    kind = _KINDS.get(str(data.get("kind")))
    if kind is not None:
        return kind(data.get("errno") or 0, str(error.get("message")), data.get("path"))
    return SandboxError(str(error.get("message")))
