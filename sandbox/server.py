"""The tool server: the one process of ours inside a sandbox. Standard library only; other layers are loaded when first
used.

Frames of :mod:`sandbox.wire` come on standard input and leave on standard output; both are moved to private descriptors
first, so that no child inherits them, and the process is undumpable, so that no child of the same user can reach them
through ``/proc``. One loop reads requests, runs the shell and drains its output, so that an action costs no change of
thread and nobody ever polls; files and the language server have a lane with a thread each, made at start. A time-out, a
cancel and a ping work while a command runs, even where no new thread can be started. The server exits when its input
ends.

It is meant to be PID 1 of its namespace: there ``kill -9 -1`` cannot reach it, and it reaps what commands leave behind.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from sandbox import processes, seccomp, tree, wire
from sandbox.shell import CHUNK, Cancelled, Running, Shell, Want

SHOWN = "/workspace"
"""How the outside names the workspace."""
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
DEFAULTS: dict[str, Any] = {
    "root": "/workspace",
    "layers": "/opt/repodojo/layers",
    "limits": {},
    "env": None,
    "extra_paths": [],
    "proxy": None,
}
"""Settings: the workspace, where layers lie, rlimits of commands by name (``RLIMIT_AS`` and so on), their environment
(``None``: this process's own), further import roots for the language server, the port of the forwarder to the host's
proxy (``None``: there is none)."""

Verb = Callable[..., Any]
FLOOD = 16
"""Chunks of output taken before requests are looked at again."""


class Command(NamedTuple):
    """The command that runs."""

    number: Any
    running: Running
    want: Want


class Lane:
    """Requests of one kind, answered one after another by one thread."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def put(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()


class Server:
    """Reads requests from one descriptor and answers on another."""

    def __init__(
        self, settings: dict[str, Any], read_fd: int, write_fd: int, fresh: dict[str, Any] | None = None
    ) -> None:
        """``fresh``: the state of this sandbox before its first task (:mod:`sandbox.reset`), where it may be used for
        another."""
        self._read_fd, self._write_fd, self._write_lock = read_fd, write_fd, threading.Lock()
        self._fresh = fresh
        self._shell = Shell("/", {}, {})
        self._listing = tree.Listing("/")
        self._waiting: deque[tuple[Any, Verb, dict[str, Any]]] = deque()
        """Requests to the shell that wait for the command before them."""
        self._command: Command | None = None
        self._poll = select.poll()
        self._forwarder: Any = None
        self._begin(settings)
        self._lanes = {name: Lane(name) for name in ("files", "lsp")}
        self._verbs: dict[str, tuple[str, Verb]] = {
            "run": ("shell", self._run),
            "edit": ("files", self._edit),
            "read": ("files", self._read),
            "write": ("files", self._write),
            "manifest": ("files", lambda since=0: self._listing.since(since)),
            "lsp": ("lsp", self._ask_lsp),
            "clean": ("shell", self._clean),
            "refill": ("shell", self._refill),
        }

    def _begin(self, settings: dict[str, Any]) -> None:
        """Everything that belongs to one task."""
        self._settings = {**DEFAULTS, **settings}
        self._root: str = self._settings["root"]
        env = self._settings["env"]
        self._shell.renew(self._root, os.environ if env is None else env, self._settings["limits"])
        self._listing.renew(self._root)
        if self._settings["proxy"] and self._forwarder is None:
            from sandbox.forward import FOLDER, GATE, Forwarder

            self._forwarder = Forwarder(self._settings["proxy"], f"{FOLDER}/{GATE}")
        self._editor: Any = None
        self._lsp: Any = None

    def serve(self) -> NoReturn:
        """Greet, then answer until the input ends or ``shutdown`` is asked; then end everything."""
        self._send({"method": "hello", "params": {"version": 1, "pid": os.getpid(), "python": sys.version.split()[0]}})
        self._poll.register(self._read_fd, select.POLLIN)
        self._poll.register(self._shell.output, select.POLLIN)
        requests = self._requests()
        while True:
            ready = self._wait()
            if self._shell.output in ready:
                self._shell.drain(FLOOD)
            if self._command is not None:
                self._go_on(self._command, ready)
            if self._read_fd in ready:
                next(requests)

    def _wait(self) -> set[int]:
        """The descriptors that are ready, when one is or the command's time is over."""
        if self._command is None:
            return {fd for fd, _ in self._poll.poll()}
        want = self._command.want
        for fd, events in want.fds.items():
            self._poll.register(fd, events)
        ready = {fd for fd, _ in self._poll.poll(max(0.0, want.until - time.monotonic()) * 1000)}
        for fd in want.fds:
            self._poll.unregister(fd)
        return ready

    def _requests(self) -> Iterator[None]:
        """Each step takes in what has come and starts what is complete. When the input ends, everything does."""
        got = bytearray()
        while data := os.read(self._read_fd, CHUNK):
            got += data
            while len(got) >= wire.HEAD and len(got) >= (end := wire.HEAD + wire.size(got[: wire.HEAD])):
                message = wire.unpack(got[wire.HEAD : end])
                del got[:end]
                self._dispatch(message)
            yield
        processes.kill_foreign()
        os._exit(0)

    def _dispatch(self, message: dict[str, Any]) -> None:
        method, number, params = message.get("method"), message.get("id"), message.get("params") or {}
        if method == "cancel":
            self._cancel(params.get("id"))
        elif method == "ping":
            self._send({"id": number, "result": "pong"})
        elif method == "shutdown":
            processes.kill_foreign()
            self._send({"id": number, "result": None})
            os._exit(0)
        elif method in self._verbs:
            lane, verb = self._verbs[method]
            if lane == "shell":
                self._waiting.append((number, verb, params))
                self._next_command()
            else:
                self._lanes[lane].put(lambda: self._answer(number, verb, params))
        else:
            self._send(
                {"id": number, "error": {"code": wire.UNKNOWN_METHOD, "message": f"no verb is called {method!r}"}}
            )

    # -- the shell's requests, one after another ----------------------------------------------------------------------

    def _next_command(self) -> None:
        while self._command is None and self._waiting:
            number, verb, params = self._waiting.popleft()
            if verb == self._run:
                self._start(number, params)
            else:
                self._answer(number, verb, params)

    def _start(self, number: Any, params: dict[str, Any]) -> None:
        try:
            running = self._run(number, **params)
        except TypeError as error:
            self._send({"id": number, "error": _describe(error)})
        else:
            self._step(number, running, lambda: next(running))

    def _go_on(self, command: Command, ready: set[int]) -> None:
        if not ready.isdisjoint(command.want.fds) or time.monotonic() >= command.want.until:
            self._step(command.number, command.running, lambda: command.running.send(ready))
            self._next_command()

    def _cancel(self, number: Any) -> None:
        self._waiting = deque(request for request in self._waiting if request[0] != number)
        if (command := self._command) is not None and command.number == number:
            self._step(number, command.running, lambda: command.running.throw(Cancelled()))
            self._next_command()

    def _step(self, number: Any, running: Running, step: Callable[[], Want]) -> None:
        """One step of a command, which is answered at its end."""
        self._command = None
        try:
            self._command = Command(number, running, step())
        except StopIteration as end:
            self._send({"id": number, "result": {**end.value, "output": self._outward(end.value["output"])}})
        except Exception as error:
            self._send({"id": number, "error": _describe(error)})

    # -- answers ------------------------------------------------------------------------------------------------------

    def _answer(self, number: Any, verb: Verb, params: dict[str, Any]) -> None:
        try:
            answer: dict[str, Any] = {"result": verb(**params)}
        except Exception as error:
            # The trust boundary of this process: whatever a verb raises becomes an answer that names it.
            answer = {"error": _describe(error)}
        self._send({"id": number, **answer})

    def _send(self, message: dict[str, Any]) -> None:
        data = memoryview(wire.pack({"jsonrpc": "2.0", **message}))
        with self._write_lock:
            try:
                while data:
                    data = data[os.write(self._write_fd, data) :]
            except OSError:
                os._exit(0)

    # -- verbs --------------------------------------------------------------------------------------------------------

    def _run(self, number: Any, command: str, timeout_s: float, limit: int, stream: bool = False) -> Running:
        def listener(text: str) -> None:
            self._send({"method": "output", "params": {"id": number, "text": self._outward(text)}})

        return self._shell.run(self._inward(command), timeout_s, limit, listener if stream else None)

    def _inward(self, command: str) -> str:
        """Where nothing could be mounted, the workspace goes by another name; outside it is always the same."""
        return command if self._root == SHOWN else command.replace(SHOWN, self._root)

    def _outward(self, text: str) -> str:
        return text if self._root == SHOWN else text.replace(self._root, SHOWN)

    def _read(self, path: str) -> str:
        return wire.to_text(tree.read_file(self._root, self._inward(path)))

    def _write(self, path: str, data: str, executable: bool) -> None:
        tree.write_file(self._root, self._inward(path), wire.to_bytes(data), executable)

    def _edit(self, call: dict[str, Any]) -> dict[str, Any]:
        if self._editor is None:
            layer(self._settings["layers"], "editor")
            from sandbox.editor import GuardedEditor

            self._editor = GuardedEditor(self._root)
        return self._editor(**call)

    def _ask_lsp(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        if self._lsp is None:
            layer(self._settings["layers"], "lsp")
            from sandbox.language import Language

            self._lsp = Language(self._root, tuple(self._settings["extra_paths"]))
        return self._lsp(verb, args)

    def _clean(self) -> list[str]:
        """Wipe the sandbox, and answer what still tells it from a new one; nothing: it may be used again."""
        if self._fresh is None or self._lsp is not None:
            return ["a language server" if self._fresh else "no state of its beginning"]
        from sandbox import reset

        self._shell.renew("/", {}, {})
        reset.wipe()
        return reset.differences(self._fresh, reset.state())

    def _refill(self, task: str) -> None:
        """Take another task; only after a :meth:`_clean` that found nothing."""
        from sandbox.filling import take

        self._begin(json.loads(take(wire.to_bytes(task))))


def layer(folder: str, name: str) -> None:
    """Put one layer of the toolbox on the import path, once."""
    path = f"{folder}/{name}"
    if path not in sys.path:
        sys.path.append(path)


def _describe(error: Exception) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": type(error).__name__}
    message = str(error) or type(error).__name__
    if isinstance(error, OSError):
        data |= {"errno": error.errno, "path": str(error.filename) if error.filename else None}
        message = error.strerror or message
    return {"code": wire.FAILED, "message": message, "data": data}


def harden() -> None:
    """Take orphans in, keep this process's memory and descriptors from other processes of the same user, leave no
    signal a handler (process 1 of a namespace is reached by handled signals only), and give up system calls that nobody
    inside needs. Before the first thread."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    seccomp.confine()


def take_stdio() -> tuple[int, int]:
    """Move the frame streams away from descriptors 0 and 1; whatever prints there is lost in standard error."""
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return read_fd, write_fd


def main(argv: list[str], fresh: dict[str, Any] | None = None) -> NoReturn:
    """``server.py [SETTINGS]`` with settings as one JSON object; see :data:`DEFAULTS`."""
    settings = json.loads(argv[0]) if argv else {}
    streams = take_stdio()
    harden()
    Server(settings, *streams, fresh).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
