"""The ``local`` backend: sandboxes on this machine without an engine, behind the best walls that it offers.

In namespaces of our own, a sandbox is a fork of a warm process (:mod:`sandbox.zygote`) behind the walls of
:mod:`sandbox.jail`: a root of its own in memory, a private copy of the tree, no network, no sight of other processes,
an unprivileged user. Nothing of it is on disk, so nothing is left behind however the parent ends. Where there are none:
bubblewrap, then Landlock (:mod:`sandbox.folder`). Without any confinement of files :meth:`LocalBackend.open` refuses,
unless told otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sandbox import cgroup, owner, toolbox, tree
from sandbox.folder import Folders, missing
from sandbox.gate import Gates
from sandbox.inside import DISK_MB, check, settings
from sandbox.proofs import Prover
from sandbox.protocol import Limits, SandboxError, Spec
from sandbox.remote import RemoteSandbox

START_S = 20.0
END_S = 10.0
"""Patience with a sandbox's end before it is killed, in seconds."""


Way = Literal["namespaces", "bubblewrap", "landlock", "none"]
WAYS: tuple[Way, ...] = ("namespaces", "bubblewrap", "landlock")
"""Kinds of confinement, best first; ``none`` is taken only when the user insists."""
NOTICES: dict[Way, str] = {
    "namespaces": "they share this machine's kernel, memory counts per process, the CPU is not limited",
    "bubblewrap": "they share this machine's kernel, memory counts per process, disk and CPU are not limited",
    "landlock": "other processes and UDP are in reach, on older kernels signals and TCP; disk and CPU are not limited",
    "none": "they are not confined at all: commands can do whatever this user can",
}
"""What each way does not protect from."""
GROUPED = "they share this machine's kernel"
"""The same for namespaces where control groups can be had."""
WAY_OUT = "allow user namespaces, install bubblewrap, take docker, or run without protection with --unsafe-local"


class LocalBackend:
    """Starts sandboxes on this machine. Use it from one event loop."""

    name = "local"

    def __init__(
        self, unsafe: bool = False, ways: tuple[Way, ...] = WAYS, *, prove: Callable[[str], None] | None = None
    ) -> None:
        """
        :param unsafe: run even where this machine offers no confinement of files.
        :param ways: kinds of confinement to try, in this order.
        :param prove: where to say which default limits do not hold; limits are tried before their first use. ``None``:
            they are taken as they are set, for tests of something else.
        """
        self._prover = Prover(prove) if prove else None
        self._ways: tuple[Way, ...] = (*ways, "none") if unsafe else ways
        self._spawner: _Zygote | Folders | None = None
        self._lock = asyncio.Lock()
        self._gates: Gates | None = None
        self._home: Path | None = None
        """Where the sockets of gates lie; made with the first one."""
        self._open: set[RemoteSandbox] = set()
        self.way: Way | None = None
        """How sandboxes are confined; known after the first one."""

    @property
    def walled(self) -> bool:
        """Whether an attack stays inside: files, processes, network. Known after the first sandbox."""
        return self.way in ("namespaces", "bubblewrap")

    @property
    def limits_cpus(self) -> bool:
        """Whether ``limits.cpus`` is kept; known after the first sandbox."""
        return self.way == "namespaces" and not cgroup.missing()

    @property
    def notice(self) -> str:
        """What these sandboxes do not protect from, in one sentence."""
        way = self.way or "namespaces"
        return GROUPED if way == "namespaces" and not cgroup.missing() else NOTICES[way]

    async def open(self, spec: Spec) -> RemoteSandbox:
        """A fresh sandbox. Raises :class:`SandboxError`."""
        await asyncio.to_thread(check, spec)
        if spec.image is not None:
            raise SandboxError(
                f"the task asks for the image {spec.image}, which local sandboxes cannot run: take docker"
            )
        await self._warm()
        if spec.limits.cpus != Limits().cpus and not self.limits_cpus:
            raise SandboxError(
                f"limits.cpus is not honoured by local sandboxes behind {self.way}: leave it out, or take docker"
            )
        if self._prover is not None:
            await self._prover.ensure(spec, self._ready_made, cpus=self.limits_cpus)
        return await self._ready_made(spec)

    async def _ready_made(self, spec: Spec) -> RemoteSandbox:
        spawner = await self._warm()
        sandbox = await spawner.open(spec, await self._gate(spec))
        self._open = {known for known in self._open if not known.closed} | {sandbox}
        return sandbox

    async def _gate(self, spec: Spec) -> Path | None:
        if spec.network == "none":
            return None
        if self._gates is None:
            self._home = owner.home(toolbox.cache_root() / "gates")
            self._gates = Gates(self._home)
        return await self._gates.folder(spec.network)

    def kind(self, spec: Spec) -> None:
        """No sandbox is used again: a new one costs less than the proof that a used one is as good."""

    async def pack(self, spec: Spec) -> bytes:
        raise SandboxError("local sandboxes are not used again")

    async def close(self) -> None:
        for sandbox in self._open:
            await sandbox.close()
        self._open.clear()
        if self._gates is not None and self._home is not None:
            await self._gates.close()
            tree.remove(str(self._home))
            self._gates = self._home = None
        if self._spawner is not None:
            await self._spawner.close()
            self._spawner = None

    async def _warm(self) -> _Zygote | Folders:
        async with self._lock:
            if self._spawner is None or (isinstance(self._spawner, _Zygote) and self._spawner.dead):
                box = await asyncio.to_thread(toolbox.build)
                self._spawner = await self._choose(box)
            return self._spawner

    async def _choose(self, box: Path) -> _Zygote | Folders:
        """The first way that works. Raises :class:`SandboxError` that says why none did."""
        reasons: list[str] = []
        for way in self._ways:
            try:
                spawner = await self._take(way, box)
            except SandboxError as error:
                reasons.append(str(error))
            else:
                self.way = way
                return spawner
        raise SandboxError(f"local sandboxes cannot be confined here ({'; '.join(reasons)}): {WAY_OUT}.")

    async def _take(self, way: Way, box: Path) -> _Zygote | Folders:
        if way == "namespaces":
            return await _Zygote.start(box)
        if reason := await asyncio.to_thread(missing, way):
            raise SandboxError(reason)
        return Folders(way, box)


class _Zygote:
    """The warm process as seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process, self._control = process, control
        self._numbers = itertools.count(1)
        self._gone: dict[int, asyncio.Future[int]] = {}
        self._groups: dict[int, cgroup.Group] = {}
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.dead = False
        asyncio.get_running_loop().add_reader(control, self._hear)

    @classmethod
    async def start(cls, box: Path) -> _Zygote:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            debug = bool(os.environ.get("REPODOJO_DEBUG"))
            arguments = json.dumps({"control": theirs.fileno(), "toolbox": str(box), "debug": debug})
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(box / "core"), "start", arguments),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        zygote = cls(process, ours)
        try:
            await asyncio.wait_for(asyncio.shield(zygote._ready), START_S)
        except TimeoutError as error:
            await zygote.close()
            raise SandboxError(f"the local backend did not start within {START_S:g} s") from error
        except SandboxError:
            await zygote.close()
            raise
        return zygote

    async def open(self, spec: Spec, gate: Path | None = None) -> RemoteSandbox:
        number = next(self._numbers)
        plan = {
            "tree": os.path.realpath(spec.tree),
            "site": os.path.realpath(spec.site) if spec.site else None,
            "disk_mb": DISK_MB,
            "gate": str(gate) if gate else None,
        }
        message = json.dumps({"id": number, "plan": plan, "settings": settings(spec)}).encode()
        ours, theirs = socket.socketpair()
        with theirs:
            self._gone[number] = asyncio.get_running_loop().create_future()
            entrances = self._enclose(number, spec)
            try:
                socket.send_fds(self._control, [message], [theirs.fileno(), *entrances])
            except OSError as error:
                ours.close()
                if group := self._groups.pop(number, None):
                    group.remove()
                raise SandboxError(f"the local backend is gone: {error}") from error
            finally:
                for entrance in entrances:
                    os.close(entrance)
        reader, writer = await asyncio.open_connection(sock=ours)
        sandbox = RemoteSandbox(
            reader,
            writer,
            lambda: self._end(number),
            "local",
            limits=spec.limits,
            cause=lambda: self._why(number),
            network=spec.network,
        )
        await sandbox.start(START_S)
        return sandbox

    def _enclose(self, number: int, spec: Spec) -> list[int]:
        """The ways into the sandbox's control groups, where there are any."""
        if cgroup.missing():
            return []
        try:
            self._groups[number] = cgroup.Group(spec.limits)
            return self._groups[number].entrances()
        except OSError as error:
            raise SandboxError(f"the sandbox's control group could not be made: {error}") from error

    async def _why(self, number: int) -> str:
        """How a sandbox's first process ended."""
        status = await asyncio.shield(self._gone[number])
        if status < 0:
            return "the local backend's process died"
        if os.WIFSIGNALED(status):
            return f"it was killed by signal {os.WTERMSIG(status)}"
        return f"it ended with exit code {os.waitstatus_to_exitcode(status)}"

    async def _end(self, number: int) -> None:
        """Wait for the sandbox's last process; kill it when it stays."""
        gone = self._gone.get(number)
        if gone is None:
            return
        try:
            await self._see_out(number, gone)
        finally:
            if group := self._groups.pop(number, None):
                await asyncio.to_thread(group.remove)

    async def _see_out(self, number: int, gone: asyncio.Future[int]) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(gone), END_S)
        except TimeoutError:
            with contextlib.suppress(OSError):
                self._control.send(json.dumps({"kill": number}).encode())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(gone), END_S)
        self._gone.pop(number, None)

    def _hear(self) -> None:
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost("the local backend's process died")
            return
        message = json.loads(data)
        if "gone" in message and (gone := self._gone.get(message["gone"])) and not gone.done():
            gone.set_result(message["status"])
        elif "ready" in message and not self._ready.done():
            self._ready.set_result(message)
        elif "failed" in message and not self._ready.done():
            self._ready.set_exception(SandboxError(f"no namespaces here: {message['failed']}"))

    def _lost(self, why: str) -> None:
        self.dead = True
        asyncio.get_running_loop().remove_reader(self._control)
        if not self._ready.done():
            self._ready.set_exception(SandboxError(why))
        for gone in self._gone.values():
            if not gone.done():
                gone.set_result(-1)

    async def close(self) -> None:
        if not self.dead:
            self._lost("the local backend was closed")
        self._control.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
