"""One warm process per backend, of which every local sandbox is a fork. Standard library only.

It stands in the base of :mod:`sandbox.jail` with the tool server and the editor imported, and listens on a socket of
whole messages. A message with a descriptor asks for a sandbox: the fork becomes PID 1 of its namespaces, walls itself
in, and serves on that descriptor. When a sandbox's last process is gone its number is told. When the other end closes,
the zygote ends and the kernel ends its sandboxes.
"""

# Plain system calls: this runs inside, once per file and per command.
# ruff: noqa: PTH123

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from sandbox import jail, server, wire

PYTHON = "/opt/repodojo/bin/python3"
LARGEST = 1 << 17
"""Bytes of one message at most."""
GROUPS = 3
"""Control groups that a sandbox may have to join."""
WARM = {"editor": "sandbox.editor", "lsp": "lsp.inside"}
"""Layers and the modules of them that every fork finds imported."""


def start(arguments: dict[str, Any]) -> NoReturn:
    """First stage, run by the host's Python: walls, then the toolbox's Python within them."""
    control = socket.socket(fileno=arguments["control"])
    try:
        jail.enter_base(arguments["toolbox"])
        # PID 1 of a namespace of its own: when it ends, the kernel ends every sandbox.
        os.unshare(os.CLONE_NEWPID)
        if child := os.fork():
            control.close()
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
        jail.libc("prctl", jail.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.set_inheritable(control.fileno(), True)
        # The command line is seen inside every sandbox: nothing of the host stands in it.
        inner = json.dumps({"control": control.fileno(), "debug": arguments["debug"]})
        command = [PYTHON, "-I", "-S", "/opt/repodojo/core", "zygote", inner]
        os.execve(PYTHON, command, {"LANG": "C.UTF-8"})
    except OSError as error:
        control.send(json.dumps({"failed": str(error.strerror or error)}).encode())
    os._exit(1)


class Zygote:
    """Second stage: forks sandboxes on demand."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._running: dict[int, int] = {}
        self._own_pids = os.open(f"{jail.HOST}/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._owner = jail.OUTSIDE if _may_be(jail.OUTSIDE) else os.geteuid()

    def serve(self) -> NoReturn:
        wake, poke = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(poke)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._tell({"ready": os.getpid(), "owner": self._owner})
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == wake:
                    os.read(wake, 1 << 12)
                    self._reap()
                elif not self._take():
                    os._exit(0)

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.send(json.dumps(message).encode())

    def _take(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, LARGEST, 1 + GROUPS)
        if not data:
            return False
        message = json.loads(data)
        if descriptors:
            self._fork(message, descriptors[0], descriptors[1:])
            for descriptor in descriptors:
                os.close(descriptor)
        elif pid := next((pid for pid, number in self._running.items() if number == message["kill"]), None):
            os.kill(pid, signal.SIGKILL)
        return True

    def _fork(self, message: dict[str, Any], stream: int, groups: list[int]) -> None:
        try:
            os.unshare(os.CLONE_NEWPID)
            pid = os.fork()
        except OSError as error:
            _refuse(stream, f"a process could not be started: {error.strerror}")
            self._tell({"gone": message["id"], "status": 0})
            return
        if pid == 0:
            self._become(message, stream, groups)
        # Forks go to one new PID namespace each: come back to our own before the next.
        os.setns(self._own_pids, os.CLONE_NEWPID)
        self._running[pid] = message["id"]

    def _become(self, message: dict[str, Any], stream: int, groups: list[int]) -> NoReturn:
        try:
            for group in groups:
                os.write(group, b"0")
                os.close(group)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            jail.enter_sandbox(jail.Plan(**message["plan"]), self._owner)
            jail.drop_rights(self._owner)
            self._control.close()
            os.close(self._own_pids)
            server.harden()
            server.Server(message["settings"], os.dup(stream), stream).serve()
        except BaseException as error:
            _refuse(stream, f"the sandbox could not be walled in: {error}")
        os._exit(1)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if (number := self._running.pop(found[0], None)) is not None:
                    self._tell({"gone": number, "status": found[1]})


def _may_be(user: int) -> bool:
    """Whether this process may become ``user``: root may, the only user of a user namespace may not."""
    with open("/.host/proc/self/uid_map", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return os.geteuid() == 0 and any(first <= user < first + count for first, _, count in ranges)


def _refuse(stream: int, problem: str) -> None:
    with contextlib.suppress(OSError):
        os.write(stream, wire.pack({"jsonrpc": "2.0", "method": "hello", "params": {"problem": problem}}))


def main(argument: str) -> NoReturn:
    """Second stage's entry."""
    arguments = json.loads(argument)
    control = socket.socket(fileno=arguments["control"])
    control.set_inheritable(False)
    for layer, module in WARM.items():
        server.layer(server.DEFAULTS["layers"], layer)
        # One that does not load is told to whoever asks for it.
        with contextlib.suppress(ImportError, SyntaxError):
            importlib.import_module(module)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1) if arguments["debug"] else (0, 1, 2):
        os.dup2(null, fd)
    gc.collect()
    gc.freeze()
    Zygote(control).serve()


if __name__ == "__main__":
    main(sys.argv[1])
