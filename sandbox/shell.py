"""A persistent shell: environment and working directory live from one command to the next.

A command is given to the shell's standard input as one quoted ``eval``; its end and status come back on a pipe of their
own under a random name, so nothing that a command prints can be taken for its end. The output pipe outlives shells.
Nothing here waits: a command is a generator that says what it wants to hear of next, so that whoever owns the process's
one loop (:mod:`sandbox.server`) drains output, answers and cancels meanwhile, and one action costs no change of
thread. A command reads ``/dev/null``; redirections that it makes for the shell itself are undone. Where the
shell ends (``exit``, ``exec``) or is killed on time-out, the next command meets a new one in the same folder.
"""

# Plain system calls: this runs inside, once per file and per command.
# ruff: noqa: PTH112, PTH115

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, NamedTuple

from sandbox import processes
from sandbox.output import Capped

STATUS_FD, OUTPUT_FD = 4, 5
"""What the shell knows the status pipe and the output pipe by; commands inherit neither."""
CHUNK = 1 << 16
STEP_S = 0.01
"""How often a process is asked for where the kernel cannot say when it ends (before Linux 5.3)."""

Sink = Callable[[str], None]


class Want(NamedTuple):
    """What a running command waits for."""

    fds: Mapping[int, int]
    """Descriptors with their poll events."""
    until: float
    """Monotonic time at which it wants to go on in any case."""


class Cancelled(Exception):
    """Thrown into a running command that nobody waits for any more."""


class OutOfTime(Exception):
    """A command's time is over."""


Running = Generator[Want, Collection[int], dict[str, Any]]
"""A command: told which of its descriptors are ready, it answers what it wants next, and at its end its result."""


class Shell:
    """One shell and one command at a time. Whoever owns it calls :meth:`drain` when :attr:`output` is readable."""

    def __init__(self, cwd: str, env: Mapping[str, str], limits: Mapping[str, int]) -> None:
        self._cwd, self._home, self._env = cwd, cwd, dict(env)
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._status = -1
        self._sink = Capped(1 << 14)
        self._listener: Sink | None = None
        self.output, self._output_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output, False)

    def run(self, command: str, timeout_s: float, limit: int, listener: Sink | None = None) -> Running:
        """Run ``command``; the generator's value holds the fields of an ``ExecResult``."""
        if "\0" in command:
            return _result("a command cannot hold a null character\n", 2)
        self._ensure()
        self._begin(limit, listener)
        try:
            code, note = yield from self._until_over(command, time.monotonic() + timeout_s)
        except Cancelled:
            code, note = self._kill("was cancelled")
        except OutOfTime:
            code, note = self._kill(f"timed out after {timeout_s:g} s")
        self.drain()
        output, cut = self._end()
        processes.reap()
        return _result(output + note, code, timed_out=code is None, cut=cut)

    def renew(self, cwd: str, env: Mapping[str, str], limits: Mapping[str, int]) -> None:
        """Be a new shell for another task: nothing of the old one is left."""
        processes.kill_foreign()
        self._forget()
        self.drain()
        self._cwd, self._home, self._env, self._limits = cwd, cwd, dict(env), limits

    # -- the shell's life ---------------------------------------------------------------------------------------------

    def _ensure(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._forget()
        self._status, status_write = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = self._spawn(status_write)
        finally:
            os.close(status_write)
        assert self._process.stdin
        os.set_blocking(self._process.stdin.fileno(), False)
        self._limit(self._process.pid)

    def _spawn(self, status_write: int) -> subprocess.Popen[bytes]:
        bash = shutil.which("bash", path=self._env.get("PATH"))
        argv = [bash, "--noprofile", "--norc"] if bash else ["/bin/sh"]
        become = 'exec -a bash "$@"' if bash else 'exec "$@"'
        self._printf = "builtin printf" if bash else "command printf"
        # The two pipes get their fixed numbers in a child that only renumbers and becomes the shell.
        given = (status_write, self._output_write)
        moved = " ".join(f"{to}>&{fd}" for to, fd in zip((STATUS_FD, OUTPUT_FD), given, strict=True))
        renumber = f"exec {moved} " + " ".join(f"{fd}>&-" for fd in given)
        return subprocess.Popen(
            [argv[0], "-c", f"{renumber}; {become}", argv[0], *argv],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._cwd if os.path.isdir(self._cwd) else self._home,
            env=self._env,
            pass_fds=given,
            start_new_session=True,
        )

    def _limit(self, pid: int) -> None:
        for name, value in self._limits.items():
            # Set from outside and before the first command: nothing inside can raise a hard limit again.
            resource.prlimit(pid, getattr(resource, name), (value, value))

    def _forget(self) -> None:
        if self._process is not None:
            if self._process.stdin:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            self._process = None
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    # -- one command --------------------------------------------------------------------------------------------------

    def _lines(self, command: str, nonce: str) -> bytes:
        """What the shell is given for one command."""
        redirect = f"</dev/null >&{OUTPUT_FD} 2>&1 {STATUS_FD}>&- {OUTPUT_FD}>&-"
        lines = f"eval {shlex.quote(command)} {redirect}\n{self._printf} '%s %s\\n' {nonce} \"$?\" >&{STATUS_FD}\n"
        return lines.encode("utf-8", "surrogateescape")

    def _until_over(self, command: str, end: float) -> Generator[Want, Collection[int], tuple[int | None, str]]:
        """Exit code and a note for the reader. Raises :class:`OutOfTime`."""
        assert self._process and self._process.stdin
        nonce, stdin = secrets.token_hex(8), self._process.stdin.fileno()
        rest, got = _feed(stdin, self._lines(command, nonce)), b""
        while True:
            wanted = {self._status: select.POLLIN, stdin: select.POLLOUT} if rest else {self._status: select.POLLIN}
            ready = yield Want(wanted, end)
            if stdin in ready:
                rest = _feed(stdin, rest)
            if self._status in ready:
                data = os.read(self._status, CHUNK)
                if not data:
                    return (yield from self._ended(end))
                got += data
                for line in got.split(b"\n")[:-1]:
                    word, _, code = line.partition(b" ")
                    if word == nonce.encode() and code.isdigit():
                        return int(code), ""
            if time.monotonic() >= end:
                raise OutOfTime

    def _ended(self, end: float) -> Generator[Want, Collection[int], tuple[int, str]]:
        """The shell left (``exit``) or became another program (``exec``): wait for that one."""
        assert self._process
        with _Death(self._process.pid) as death:
            while (code := self._process.poll()) is None:
                if time.monotonic() >= end:
                    raise OutOfTime
                yield death.want(end)
        return (code if code >= 0 else 128 - code), "\n[the shell ended; the next command starts a new one]\n"

    def _kill(self, why: str) -> tuple[None, str]:
        assert self._process
        with contextlib.suppress(OSError):
            self._cwd = os.readlink(f"/proc/{self._process.pid}/cwd")
        dead = processes.kill_foreign()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._forget()
        left = "" if dead else " (some processes could not be killed)"
        return (
            None,
            f"\n[the command {why}: it and all that it started were killed{left}, and the shell was restarted]\n",
        )

    # -- output -------------------------------------------------------------------------------------------------------

    def _begin(self, limit: int, listener: Sink | None) -> None:
        """Give the command a sink of its own; what background jobs wrote since the last one comes first in it."""
        early, self._sink = self._sink, Capped(limit)
        if text := early.text():
            self._sink.feed(text.encode("utf-8", "replace"))
        self._listener = listener

    def _end(self) -> tuple[str, int]:
        sink, self._sink, self._listener = self._sink, Capped(1 << 14), None
        return sink.text(), sink.cut

    def drain(self, chunks: int = 1 << 10) -> None:
        """Take what is in the output pipe now."""
        for _ in range(chunks):
            try:
                data = os.read(self.output, CHUNK)
            except BlockingIOError:
                return
            text = self._sink.feed(data)
            if self._listener and text:
                self._listener(text)


class _Death:
    """Word of a process's end."""

    def __init__(self, pid: int) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.pidfd_open(pid)

    def want(self, end: float) -> Want:
        if self._fd < 0:
            return Want({}, min(end, time.monotonic() + STEP_S))
        return Want({self._fd: select.POLLIN}, end)

    def __enter__(self) -> _Death:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _feed(fd: int, data: bytes) -> bytes:
    """Write as much as the shell takes now, and answer the rest. One that died is seen on the status pipe."""
    try:
        return data[os.write(fd, data) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return b""


def _result(output: str, code: int | None, *, timed_out: bool = False, cut: int = 0) -> dict[str, Any]:
    return {"output": output, "exit_code": code, "timed_out": timed_out, "cut": cut}
