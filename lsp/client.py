"""The client on pygls: typed where a caller wants lsprotocol's types, the server's own JSON everywhere else.

pygls keeps the requests, dispatches the server's to features and serialises; the frames come through
:func:`lsp.wire.read_frame`, since pygls' own loop skips what is not a header and gives no bytes to record. Two of
pygls' assumptions do not hold for the servers that lanser speaks to: lsprotocol 2025.0.0 cannot structure the
``notebookSelector`` of ty's and pyrefly's ``initialize`` answer (:func:`converter` adds the missing hook), and an
answer that does not fit its type must not lose the request. So answers stay plain JSON, and :meth:`PyglsClient.typed`
structures one on demand.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from cattrs import Converter
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient
from pygls.protocol import (
    JsonRPCNotification,
    JsonRPCRequestMessage,
    JsonRPCResponseMessage,
    LanguageServerProtocol,
    default_converter,
)

from lsp.errors import Code, LanserError
from lsp.wire import Notify, Serve, ServerAnswer, Tap, close_transport, kill_group, parse_message, read_frame, spawn

logging.getLogger("pygls").setLevel(logging.CRITICAL)

SERVED = (
    types.WORKSPACE_CONFIGURATION,
    types.WORKSPACE_APPLY_EDIT,
    types.WORKSPACE_WORKSPACE_FOLDERS,
    types.CLIENT_REGISTER_CAPABILITY,
    types.CLIENT_UNREGISTER_CAPABILITY,
    types.WINDOW_WORK_DONE_PROGRESS_CREATE,
    types.WINDOW_SHOW_MESSAGE_REQUEST,
    types.WINDOW_SHOW_DOCUMENT,
    types.WORKSPACE_DIAGNOSTIC_REFRESH,
    types.WORKSPACE_SEMANTIC_TOKENS_REFRESH,
    types.WORKSPACE_INLAY_HINT_REFRESH,
    types.WORKSPACE_CODE_LENS_REFRESH,
)
"""Requests of a server that are answered; every other one gets "method not found", as the protocol asks."""


def converter() -> Converter:
    """pygls' converter with the hook that lsprotocol lacks."""
    made = default_converter()

    def selector(value: Mapping[str, Any], _: Any) -> Any:
        kind = (
            types.NotebookDocumentFilterWithNotebook if "notebook" in value else types.NotebookDocumentFilterWithCells
        )
        return made.structure(value, kind)

    def notebook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        kinds = {"notebookType": types.NotebookDocumentFilterNotebookType, "scheme": types.NotebookDocumentFilterScheme}
        kind = next((kind for key, kind in kinds.items() if key in value), types.NotebookDocumentFilterPattern)
        return made.structure(value, kind)

    filters = types.NotebookDocumentFilterWithNotebook | types.NotebookDocumentFilterWithCells
    made.register_structure_hook(filters, selector)
    for kind in (types.NotebookDocumentFilterWithNotebook, types.NotebookDocumentFilterWithCells):
        made.register_structure_hook(attrs.fields_dict(kind)["notebook"].type, notebook)
    return made


class Protocol(LanguageServerProtocol):
    """pygls' protocol with answers left as the server's JSON."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        if "method" not in data:
            return JsonRPCResponseMessage(id=data["id"], jsonrpc="2.0", result=data.get("result"))
        if "id" in data:
            return JsonRPCRequestMessage(data["id"], data["method"], "2.0", data.get("params"))
        return JsonRPCNotification(data["method"], "2.0", data.get("params"))

    def get_message_type(self, method: str) -> type[Any] | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """No types on the way out either: params are plain JSON."""
        return None


class PyglsClient:
    """One server process behind pygls' ``LanguageClient``. The same face as :class:`lsp.wire.WireClient`."""

    def __init__(self, process: asyncio.subprocess.Process, notify: Notify, serve: Serve, tap: Tap | None) -> None:
        self._process = process
        self._tap = tap
        self._notify = notify
        self._dead: LanserError | None = None
        self._count = 0
        self.bad_messages = 0
        self._client = LanguageClient("lanser", "1", Protocol, converter)
        self._protocol: Any = self._client.protocol
        self._protocol.set_writer(_Writer(process, tap))
        for method in SERVED:
            self._client.feature(method)(lambda params=None, method=method: serve(method, params))
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
    ) -> PyglsClient:
        """Spawn ``command``. ``LS_CRASH`` when it cannot be spawned."""
        return cls(await spawn(command, cwd, env), notify, serve, tap)

    @property
    def alive(self) -> bool:
        return self._dead is None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def notify(self, method: str, params: Any) -> None:
        if self._dead is not None:
            raise self._dead
        self._protocol.notify(method, params)

    async def request(self, method: str, params: Any, timeout: float) -> Any:
        if self._dead is not None:
            raise self._dead
        self._count += 1
        # pygls keeps both sides' requests in one table: our ids must never be a number that the server may use.
        number = f"lanser-{self._count}"
        future = self._protocol.send_request_async(method, params, msg_id=number)
        try:
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            with contextlib.suppress(LanserError):
                self.notify(types.CANCEL_REQUEST, {"id": number})
            raise LanserError(Code.LS_TIMEOUT, f"no answer to {method} within {timeout:g} s") from None
        except JsonRpcException as error:
            raise ServerAnswer(method, {"code": error.code, "message": error.message}) from None
        finally:
            self._protocol._request_futures.pop(number, None)

    def typed[T](self, answer: Any, kind: type[T]) -> T:
        """``answer`` as one of lsprotocol's types, for example ``types.InitializeResult``."""
        return self._protocol._converter.structure(answer, kind)

    async def close(self) -> None:
        kill_group(self._process)
        self._die("the server was stopped")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            await self._process.wait()
        close_transport(self._process)

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

    def _dispatch(self, body: bytes) -> None:
        message = parse_message(body)
        if message is None:
            self.bad_messages += 1
        elif "method" in message and "id" not in message:
            self._notify(message["method"], message.get("params"))
        elif "error" in message and "method" not in message:
            self._refused(message)
        else:
            self._protocol.handle_message(self._protocol.structure_message(message))

    def _refused(self, message: Mapping[str, Any]) -> None:
        future = self._protocol._request_futures.pop(message.get("id"), None)
        error = message["error"] if isinstance(message["error"], dict) else {}
        if future is not None and not future.done():
            future.set_exception(JsonRpcException(str(error.get("message", "")), int(error.get("code", 0))))

    async def _drain(self) -> None:
        assert self._process.stderr is not None
        while await self._process.stderr.read(65536):
            pass

    def _die(self, reason: str) -> None:
        if self._dead is None:
            self._dead = LanserError(Code.LS_CRASH, reason)
        for future in list(self._protocol._request_futures.values()):
            if not future.done():
                future.set_exception(self._dead)
        self._protocol._request_futures.clear()


class _Writer:
    """Takes pygls' framed bytes, records the body, writes them."""

    def __init__(self, process: asyncio.subprocess.Process, tap: Tap | None) -> None:
        assert process.stdin is not None
        self._stdin = process.stdin
        self._tap = tap

    def write(self, data: bytes) -> None:
        if self._tap is not None:
            self._tap("send", data.partition(b"\r\n\r\n")[2])
        self._stdin.write(data)

    def close(self) -> None:
        self._stdin.close()
