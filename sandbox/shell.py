"""A persistent shell: environment and working directory live from one command to the next.

A command is given to the shell's standard input as one quoted ``eval``; its end and status come back on a pipe of their
own under a random name, so nothing that a command prints can be taken for its end. The output pipe outlives shells and
is always drained. A command reads ``/dev/null``; redirections that it makes for the shell itself are undone. Where the
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
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sandbox import processes
from sandbox.output import Capped

STATUS_FD, OUTPUT_FD = 4, 5
"""What the shell knows the status pipe and the output pipe by; commands inherit neither."""
CHUNK = 1 << 16

Sink = Callable[[str], None]


class Cancel:
    """A flag that a waiting ``poll`` sees."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        os.close(self.fd)


class Shell:
    """One shell at a time. :meth:`run` is called from one thread; a second one drains the output."""

    def __init__(self, cwd: str, env: Mapping[str, str], limits: Mapping[str, int]) -> None:
        self._cwd, self._home, self._env = cwd, cwd, dict(env)
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._status = -1
        self._lock = threading.Lock()
        self._sink = Capped(1 << 14)
        self._listener: Sink | None = None
        self._output, self._output_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._output, False)
        threading.Thread(target=self._drain_forever, name="drain", daemon=True).start()

    def run(
        self, command: str, timeout_s: float, limit: int, cancel: Cancel, listener: Sink | None = None
    ) -> dict[str, Any]:
        """Run ``command`` and answer the fields of an ``ExecResult``."""
        if "\0" in command:
            return _result("a command cannot hold a null character\n", 2)
        self._ensure()
        self._begin(limit, listener)
        nonce = secrets.token_hex(8)
        self._feed(command, nonce)
        code, note = self._wait(nonce, timeout_s, cancel)
        self._drain()
        output, cut = self._end()
        processes.reap()
        return _result(output + note, code, timed_out=code is None, cut=cut)

    def renew(self, cwd: str, env: Mapping[str, str], limits: Mapping[str, int]) -> None:
        """Be a new shell for another task: nothing of the old one is left."""
        processes.kill_foreign()
        self._forget()
        self._drain()
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

    def _feed(self, command: str, nonce: str) -> None:
        redirect = f"</dev/null >&{OUTPUT_FD} 2>&1 {STATUS_FD}>&- {OUTPUT_FD}>&-"
        line = f"eval {shlex.quote(command)} {redirect}\n{self._printf} '%s %s\\n' {nonce} \"$?\" >&{STATUS_FD}\n"
        assert self._process and self._process.stdin
        data = line.encode("utf-8", "surrogateescape")
        # A shell that dies while it reads is seen on the status pipe.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _wait(self, nonce: str, timeout_s: float, cancel: Cancel) -> tuple[int | None, str]:
        """Exit code and a note for the reader; the code is ``None`` when everything was killed."""
        deadline = time.monotonic() + timeout_s
        waiting = select.poll()
        waiting.register(self._status, select.POLLIN)
        waiting.register(cancel.fd, select.POLLIN)
        buffer = b""
        while True:
            left = deadline - time.monotonic()
            ready = {fd for fd, _ in waiting.poll(max(0, left) * 1000)}
            if cancel.fd in ready:
                return self._kill("was cancelled")
            if not ready:
                return self._kill(f"timed out after {timeout_s:g} s")
            data = os.read(self._status, CHUNK)
            if not data:
                return self._ended(deadline, timeout_s)
            buffer += data
            for line in buffer.split(b"\n")[:-1]:
                word, _, code = line.partition(b" ")
                if word == nonce.encode() and code.isdigit():
                    return int(code), ""

    def _ended(self, deadline: float, timeout_s: float) -> tuple[int | None, str]:
        """The shell left (``exit``) or became another program (``exec``): wait for that one."""
        assert self._process
        try:
            code = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return self._kill(f"timed out after {timeout_s:g} s")
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
        with self._lock:
            early, self._sink = self._sink, Capped(limit)
            if text := early.text():
                self._sink.feed(text.encode("utf-8", "replace"))
            self._listener = listener

    def _end(self) -> tuple[str, int]:
        with self._lock:
            sink, self._sink, self._listener = self._sink, Capped(1 << 14), None
        return sink.text(), sink.cut

    def _drain_forever(self) -> None:
        ready = select.poll()
        ready.register(self._output, select.POLLIN)
        while True:
            ready.poll()
            self._drain(1)

    def _drain(self, chunks: int = 1 << 10) -> None:
        """Take what is in the pipe now. Both threads come here: the lock keeps reading and storing in one order."""
        with self._lock:
            for _ in range(chunks):
                try:
                    data = os.read(self._output, CHUNK)
                except BlockingIOError:
                    return
                text = self._sink.feed(data)
                if self._listener and text:
                    self._listener(text)


def _result(output: str, code: int | None, *, timed_out: bool = False, cut: int = 0) -> dict[str, Any]:
    return {"output": output, "exit_code": code, "timed_out": timed_out, "cut": cut}
