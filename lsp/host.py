"""One running language server: started, initialised, spoken to, stopped (standard library only).

Invariants: the position encoding is negotiated once (UTF-8 where the server has it, UTF-16 by default); a pushed
diagnostics round is kept with the version that it names and its order of arrival, so that a wait can demand one that
came after a change; settings are answered from the profile and never from the user's editor.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsp.errors import Code, LanserError
from lsp.positions import LSP_NAMES, Encoding
from lsp.servers import Profile, command_of
from lsp.wire import Client, Connect, Tap, WireClient
from lsp.workspace import Workspace, path_to_uri, uri_to_path

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Options:
    """How a session runs its server."""

    pinned: bool = False
    """Take the server's configuration from the profile, never from the workspace."""
    extra_paths: tuple[str, ...] = ()
    """Further import roots for the analysis (a folder of installed packages)."""
    python: str | None = None
    """Interpreter whose environment is analysed; ``None``: the workspace's own ``.venv`` when it has one."""
    python_version: str = PYTHON_VERSION
    timeout: float = 30.0
    """Seconds that one request may take."""
    command: tuple[str, ...] = ()
    """Replaces the profile's command (a server at a fixed place)."""
    connect: Connect = WireClient.start
    tap: Tap | None = None
    """Sees every frame."""
    server_version: str | None = None
    """What a trace says of a server that does not say it itself."""


@dataclass
class Push:
    """The last pushed diagnostics of one document."""

    items: list[dict[str, Any]]
    version: int | None
    order: int


@dataclass
class Host:
    """A server process after ``initialize``."""

    profile: Profile
    options: Options
    workspace: Workspace
    client: Client = field(init=False)
    capabilities: dict[str, Any] = field(default_factory=dict[str, Any])
    encoding: Encoding = "utf-16"
    info: dict[str, str] = field(default_factory=dict[str, str])
    pushes: dict[str, Push] = field(default_factory=dict[str, Push])
    order: int = 0
    marks: dict[str, int] = field(default_factory=dict[str, int])
    """Order of arrival as of the last change that was sent of each document."""
    touched: int = 0
    """Order of arrival as of the last change that was sent of anything."""
    pulled: dict[str, tuple[str, str, list[dict[str, Any]], list[dict[str, Any]]]] = field(
        default_factory=dict[str, Any]
    )
    """Last pulled report by path: result id, content digest, the server's items, our diagnostics."""
    ends: int = 0
    """How often announced work has ended."""
    changed_at: int = -1
    """:attr:`ends` as of the last news of watched files; -1: nothing is waited for."""
    ended: int = 0
    """:attr:`order` as of the last end of announced work."""
    busy: set[str] = field(default_factory=set[str])
    """Tokens of work that the server has begun and not ended."""
    edits: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Edits that the server asked us to apply (answers to commands); never applied on the spot."""
    indexed: bool = False
    """Whether the server has logged what its profile's ``ready_log`` waits for."""
    registered: set[str] = field(default_factory=set[str])
    """Methods that the server registered after ``initialize``."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _folder: tempfile.TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        """Spawn and initialise. ``LS_CRASH`` or ``LS_TIMEOUT`` when that fails."""
        self._folder = tempfile.TemporaryDirectory(prefix="lanser-")
        command = list(self.options.command) or command_of(self.profile)
        self.client = await self.options.connect(
            command,
            cwd=str(self.workspace.root),
            env=self._environment(),
            notify=self._on_notify,
            serve=self._on_request,
            tap=self.options.tap,
        )
        try:
            result = await self.client.request("initialize", self._initialize(), self.options.timeout)
            self.client.notify("initialized", {})
            if self.profile.push_settings:
                self.client.notify("workspace/didChangeConfiguration", {"settings": self._settings()})
        except LanserError:
            await self.stop()
            raise
        self._learn(result if isinstance(result, dict) else {})

    async def request(self, method: str, params: Any, timeout: float | None = None) -> Any:
        return await self.client.request(method, params, self.options.timeout if timeout is None else timeout)

    def notify(self, method: str, params: object) -> None:
        self.touched = self.order
        if method in ("textDocument/didOpen", "textDocument/didChange") and isinstance(params, dict):
            self.marks[params["textDocument"]["uri"]] = self.order
        if method == "workspace/didChangeWatchedFiles":
            self.changed_at = self.ends
        self.client.notify(method, params)

    async def stop(self) -> None:
        """Kill the server and remove what was written for it. Idempotent."""
        if hasattr(self, "client"):
            await self.client.close()
        if self._folder is not None:
            self._folder.cleanup()

    def offers(self, capability: str, method: str = "") -> bool:
        """Whether the server has ``capability`` (a key of ServerCapabilities) or registered ``method`` later."""
        return bool(self.capabilities.get(capability)) or method in self.registered

    async def reopen(self, uri: str, item: Mapping[str, Any]) -> None:
        """Close and open a document of a server that pushes nothing where diagnostics stayed the same."""
        closed = self.order
        self.client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        # The server takes back what it said of a closed document; only what comes after that counts.
        cleared = "cleared diagnostics of a closed document"
        await self.wait(
            lambda: uri not in self.pushes or self.pushes[uri].order > closed, self.options.timeout, cleared
        )
        self.marks[uri] = self.order
        self.client.notify("textDocument/didOpen", item)

    async def rest(self, uri: str, quiet: float) -> None:
        """Until nothing was pushed for ``uri`` during ``quiet`` seconds."""
        last = -1
        while last != (last := self.pushes[uri].order):
            await asyncio.sleep(quiet)

    async def settle(self) -> None:
        """Until an answer would come from the whole workspace as it was last told of.

        A server that logs when it has found the files is waited for once. One that rechecks beside the requests
        announces the recheck and its end, then commits it and pushes the diagnostics of what is open: only that push
        tells that an answer comes from the new state.
        """
        if self.profile.ready_log and not self.indexed:
            await self.wait(lambda: self.indexed, self.options.timeout, "log message that the files were found")
        if self.profile.ready != "recheck" or self.changed_at < 0:
            return
        mark = self.changed_at
        done = "end of the recheck"
        await self.wait(
            lambda: self.ends > mark and not self.busy and self.order > self.ended, self.options.timeout, done
        )
        self.changed_at = -1

    async def wait(self, ready: Any, timeout: float, what: str) -> None:
        """Until ``ready()`` is true, looking again at each notification. ``LS_TIMEOUT``, ``LS_CRASH``."""
        deadline = asyncio.get_running_loop().time() + timeout
        while not ready():
            if not self.client.alive:
                raise LanserError(Code.LS_CRASH, f"the server died while it was asked for {what}")
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise LanserError(Code.LS_TIMEOUT, f"no {what} within {timeout:g} s")
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), min(left, 0.5))
            except TimeoutError:
                continue

    def _initialize(self) -> dict[str, Any]:
        uri = path_to_uri(str(self._root()))
        init = merge(self.profile.init, self.profile.pin.init if self.options.pinned else {})
        return {
            "processId": os.getpid(),
            "clientInfo": {"name": "lanser"},
            "rootUri": uri,
            "rootPath": str(self._root()),
            "workspaceFolders": [{"uri": uri, "name": "workspace"}],
            "capabilities": CAPABILITIES,
            "initializationOptions": self._fill(init),
            "trace": "off",
        }

    def _root(self) -> Path:
        """What the server takes for its workspace: ours, or the folder of its pinned configuration."""
        return self._pin_file().parent if self.options.pinned and self.profile.pin.root else self.workspace.root

    def _learn(self, result: Mapping[str, Any]) -> None:
        self.capabilities = dict(result.get("capabilities") or {})
        self.encoding = LSP_NAMES.get(self.capabilities.get("positionEncoding") or "utf-16", "utf-16")
        self.info = {key: str(value) for key, value in (result.get("serverInfo") or {}).items() if value}

    def _settings(self) -> dict[str, Any]:
        settings = self._fill(merge(self.profile.settings, self.profile.pin.settings if self.options.pinned else {}))
        if self.options.python:
            settings = merge(settings, {"python": {"pythonPath": self.options.python}})
        return settings

    def _fill(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._fill(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._fill(item) for item in value]
        return str(self._pin_file()) if value == "{pin}" else value

    def _pin_file(self) -> Path:
        assert self._folder is not None
        path = Path(self._folder.name) / self.profile.pin.file
        if not path.exists():
            path.write_text(pin_content(self.profile, self.options, self.workspace.root), "utf-8")
        return path

    def _environment(self) -> dict[str, str]:
        assert self._folder is not None
        # A user's own server configuration would make the answer depend on who asks.
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("TY_", "PYREFLY_", "PYTHONPATH"))
        }
        return {**kept, "XDG_CONFIG_HOME": self._folder.name, **self.profile.env}

    def _on_notify(self, method: str, params: Any) -> None:
        if method == "textDocument/publishDiagnostics":
            self.order += 1
            push = Push(params.get("diagnostics", []), params.get("version"), self.order)
            uri = path_to_uri(uri_to_path(params["uri"]) or "") if self.profile.plain_uris else params["uri"]
            last = self.pushes.get(uri)
            # What was found in an older version may be sent after the newer one's.
            if last is None or None in (push.version, last.version) or (push.version or 0) >= (last.version or 0):
                self.pushes[uri] = push
        elif method == "window/logMessage" and self.profile.ready_log:
            self.indexed = self.indexed or bool(re.search(self.profile.ready_log, str(params.get("message"))))
        elif method == "$/progress":
            self._progress(str(params.get("token")), (params.get("value") or {}).get("kind"))
        self._changed.set()

    def _progress(self, token: str, kind: str | None) -> None:
        if kind == "begin":
            self.busy.add(token)
        elif kind == "end":
            self.busy.discard(token)
            self.ends += 1
            self.ended = self.order

    def _on_request(self, method: str, params: Any) -> Any:
        if method == "workspace/configuration":
            return [section(self._settings(), item.get("section") or "") for item in params["items"]]
        if method == "workspace/applyEdit":
            self.edits.append(params["edit"])
            return {"applied": True}
        if method == "client/registerCapability":
            self.registered |= {item["method"] for item in params["registrations"]}
        if method == "workspace/workspaceFolders":
            return self._initialize()["workspaceFolders"]
        return None


def pin_content(profile: Profile, options: Options, root: Path) -> str:
    """The pinned configuration file of this workspace."""
    text = profile.pin.content.replace("{root}", str(root)).replace("{python_version}", options.python_version)
    extra = list(options.extra_paths)
    text = text.replace("{import_roots}", json.dumps([str(root), str(root / "src"), *extra]))
    return text.replace("{extra_paths}", json.dumps(extra))


def section(settings: Mapping[str, Any], name: str) -> Any:
    """The part of ``settings`` under a dotted name; ``None`` when there is none."""
    value: Any = settings
    for key in filter(None, name.split(".")):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on it, tables joined."""
    out = dict(base)
    for key, value in over.items():
        mine = out.get(key)
        out[key] = merge(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return out


CAPABILITIES: dict[str, Any] = {
    "general": {"positionEncodings": ["utf-8", "utf-16"]},
    "window": {"workDoneProgress": True},
    "workspace": {
        "applyEdit": True,
        "configuration": True,
        "workspaceFolders": True,
        "didChangeConfiguration": {},
        "didChangeWatchedFiles": {"dynamicRegistration": True, "relativePatternSupport": True},
        "workspaceEdit": {
            "documentChanges": True,
            "resourceOperations": ["create", "rename", "delete"],
            "failureHandling": "transactional",
        },
        "symbol": {},
    },
    "textDocument": {
        "synchronization": {"didSave": True},
        "publishDiagnostics": {"versionSupport": True, "relatedInformation": False},
        "diagnostic": {"dynamicRegistration": False, "relatedDocumentSupport": False},
        "definition": {"linkSupport": False},
        "references": {},
        "hover": {"contentFormat": ["plaintext", "markdown"]},
        "documentSymbol": {"hierarchicalDocumentSymbolSupport": True},
        "rename": {"prepareSupport": True},
        "codeAction": {
            "codeActionLiteralSupport": {
                "codeActionKind": {"valueSet": ["quickfix", "refactor", "source", "source.organizeImports"]}
            },
            "dataSupport": True,
            "resolveSupport": {"properties": ["edit"]},
        },
    },
}
"""What lanser tells every server that it can do."""
