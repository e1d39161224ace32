"""Traces: every frame both ways with what it was asked for, and their replay with no server installed (standard
library only).

A trace is JSONL: a ``meta`` line (command, options, workspace digest), ``frame`` lines with the bytes as they went
over the wire, a ``bundle`` line. Invariants: a frame is stored as the server's own bytes; a replay runs the same code
on the recorded answers and rebuilds the same bundle, byte for byte; a workspace whose content differs from the
recorded one is ``REPLAY_MISMATCH``, and so is a request that the trace does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lsp import servers
from lsp.errors import Code, LanserError, reason
from lsp.host import Options
from lsp.session import Session
from lsp.verbs import call
from lsp.wire import Client, Notify, Serve, ServerAnswer, Tap, parse_message
from lsp.workspace import path_to_uri

VOLATILE = ("processId",)


@dataclass
class Recorder:
    """Collects the frames of one session."""

    frames: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    def __call__(self, way: str, body: bytes) -> None:
        self.frames.append((way, body))

    def lines(self, session: Session, cmd: str, args: Mapping[str, Any], bundle: Mapping[str, Any]) -> Iterator[str]:
        """The trace of one command."""
        options = session.options
        yield json.dumps(
            {
                "kind": "meta",
                "cmd": cmd,
                "args": dict(args),
                "server": session.profile.name,
                "serverVersion": bundle["environment"]["server"]["version"],
                "pinned": options.pinned,
                "pythonVersion": options.python_version,
                "root": str(session.workspace.root),
                "workspaceDigest": session.workspace.digest(),
            }
        )
        for way, body in self.frames:
            yield json.dumps({"kind": "frame", "way": way, "body": body.decode("utf-8", "surrogateescape")})
        yield json.dumps({"kind": "bundle", "bundle": bundle})

    def save(self, path: Path, session: Session, cmd: str, args: Mapping[str, Any], bundle: Mapping[str, Any]) -> None:
        """Append the trace of one command to ``path``."""
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.lines(session, cmd, args, bundle))
        self.frames.clear()


@dataclass(frozen=True)
class Trace:
    """One recorded command."""

    meta: Mapping[str, Any]
    frames: Sequence[tuple[str, str]]
    bundle: Mapping[str, Any]


def read(path: Path) -> list[Trace]:
    """The commands of a trace file. ``BAD_INPUT`` for what is none."""
    out: list[Trace] = []
    meta: Mapping[str, Any] | None = None
    frames: list[tuple[str, str]] = []
    try:
        for line in path.read_text("utf-8").splitlines():
            item = json.loads(line)
            if item["kind"] == "meta":
                meta, frames = item, []
            elif item["kind"] == "frame":
                frames.append((item["way"], item["body"]))
            elif meta is not None:
                out.append(Trace(meta, frames, item["bundle"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LanserError(Code.BAD_INPUT, f"{path} is not a trace: {reason(error)}") from None
    if not out:
        raise LanserError(Code.BAD_INPUT, f"{path} holds no finished command")
    return out


async def replay(trace: Trace, root: Path) -> dict[str, Any]:
    """The bundle rebuilt from the recorded frames on the workspace at ``root``. ``REPLAY_MISMATCH`` when anything
    differs.
    """
    meta = trace.meta
    options = Options(
        pinned=meta["pinned"],
        python_version=meta["pythonVersion"],
        command=("replayed",),
        server_version=meta["serverVersion"],
    )
    tape = Tape(trace, path_to_uri(str(Path(root).resolve())))
    session = Session(root, servers.load(meta["server"]), replace(options, connect=tape.connect))
    session.workspace.scan()
    if session.workspace.digest() != meta["workspaceDigest"]:
        raise LanserError(Code.REPLAY_MISMATCH, f"the files of {root} are not those that the trace was recorded on")
    async with session:
        rebuilt = await call(session, meta["cmd"], meta["args"])
    for key in ("timing", "workspace"):
        rebuilt["meta"][key] = trace.bundle["meta"][key]
    rebuilt["environment"]["python"] = trace.bundle["environment"]["python"]
    if json.dumps(rebuilt, sort_keys=True) != json.dumps(trace.bundle, sort_keys=True):
        raise LanserError(
            Code.REPLAY_MISMATCH, "the replayed bundle differs from the recorded one", {"rebuilt": rebuilt}
        )
    return rebuilt


class Tape:
    """Recorded frames, played back as a client."""

    def __init__(self, trace: Trace, root_uri: str) -> None:
        old = path_to_uri(str(trace.meta["root"]))
        self._frames = [
            (way, _message(body.replace(old, root_uri).replace(old[7:], root_uri[7:]))) for way, body in trace.frames
        ]
        self._at = 0
        self._used: set[int] = set()

    async def connect(
        self,
        command: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        notify: Notify,
        serve: Serve,
        tap: Tap | None = None,
    ) -> Client:
        """A client in the place of a server."""
        return _Player(self, notify)

    def find(self, method: str, params: Any) -> int:
        """Index of the recorded request. ``REPLAY_MISMATCH`` when there is none left."""
        wanted = _stable(method, params)
        for index, (way, message) in enumerate(self._frames):
            if index in self._used or way != "send" or message.get("method") != method or "id" not in message:
                continue
            if _stable(method, message.get("params")) == wanted:
                self._used.add(index)
                return index
        raise LanserError(Code.REPLAY_MISMATCH, f"the trace holds no further {method} with these parameters")

    def answer(self, index: int) -> Mapping[str, Any] | None:
        """The recorded answer to the request at ``index``; ``None`` when there was none."""
        number = self._frames[index][1]["id"]
        for way, message in self._frames[index:]:
            if way == "recv" and message.get("id") == number and "method" not in message:
                return message
        return None

    def pushes(self) -> Iterator[tuple[str, Any]]:
        """Notifications of the server, in order."""
        for way, message in self._frames:
            if way == "recv" and "method" in message and "id" not in message:
                yield message["method"], message.get("params")


class _Player:
    """The face of a client over a tape."""

    def __init__(self, tape: Tape, notify: Notify) -> None:
        self._tape = tape
        self._notify = notify
        self._alive = True

    @property
    def alive(self) -> bool:
        return self._alive

    @property
    def pid(self) -> int | None:
        return None

    def notify(self, method: str, params: Any) -> None:
        if method == "initialized":
            for name, content in self._tape.pushes():
                self._notify(name, content)

    async def request(self, method: str, params: Any, timeout: float) -> Any:
        message = self._tape.answer(self._tape.find(method, params))
        if message is None:
            raise LanserError(Code.LS_TIMEOUT, f"no answer to {method} within {timeout:g} s")
        if isinstance(message.get("error"), dict):
            raise ServerAnswer(method, message["error"])
        return message.get("result")

    async def close(self) -> None:
        self._alive = False


def _stable(method: str, params: Any) -> str:
    """Parameters without what differs between two runs; of ``initialize`` nothing is compared."""
    if method == "initialize":
        return ""
    return json.dumps(params, sort_keys=True)


def _message(body: str) -> dict[str, Any]:
    return parse_message(body.encode("utf-8", "surrogateescape")) or {}
