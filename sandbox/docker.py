"""Sandboxes in containers, through the docker SDK (Docker, or Podman's socket).

Each sandbox is one container that lives for one use: no network, no capability, no new privileges, a user that is not
root, a read-only root, memory (swap included), processes, CPU and open files limited; what can be written is in
size-limited tmpfs that counts as its memory. The tool server is process 1: nothing inside can kill it, it takes orphans
in, and when its input ends (this process died) it ends itself and with it the container. Blocking calls run in a
bounded set of threads, starts in a smaller one.

Containers may be made ahead (``warm``): one waits for its task with everything imported, and is used once like any
other. Every container carries its owner; what a dead owner left is removed before the first start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import marshal
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sandbox import owner, toolbox
from sandbox.attach import Attached, attach
from sandbox.engine import EngineAway, boundary, connect
from sandbox.images import usable_image
from sandbox.inside import HOME, SITE, settings
from sandbox.proofs import Prover
from sandbox.protocol import WORKSPACE, Sandbox, SandboxError, Spec
from sandbox.remote import RemoteSandbox

if TYPE_CHECKING:
    import docker

LABEL = "repodojo"
"""Label of every container of ours; its value is the owner."""
USER = 1000
STARTS, THREADS = 3, 8
OPEN_FILES = 1024
OUTAGE_S, OUTAGE_STEP_S = 60.0, 1.0
"""Patience with an engine that is being restarted, and the pause between two questions, in seconds."""
TASK_HEAD = 8
"""Bytes of the length in front of a task."""
PROGRAM = f"import sys; sys.path.insert(0, '{toolbox.MOUNT}/core'); from sandbox.boot import main; main()"
"""What process 1 runs: see :mod:`sandbox.boot`."""


class Key(NamedTuple):
    """What is fixed when a container is made; the task comes later."""

    image: str
    site: str | None
    memory_mb: int
    pids: int
    cpus: float


class Container(NamedTuple):
    """A started container that waits for its task."""

    id: str
    streams: Attached


class DockerBackend:
    """Opens sandboxes in containers of one engine."""

    name = "docker"

    def __init__(
        self,
        image: str | None = None,
        *,
        warm: int = 1,
        client: docker.DockerClient | None = None,
        prove: Callable[[str], None] | None = None,
    ) -> None:
        """
        :param image: for tasks that name none; ``None`` takes the image that ``dojo images build`` made.
        :param warm: containers kept ready for the kinds opened last.
        :param prove: where to say which default limits do not hold; limits are tried before their first use. ``None``:
            they are taken as they are set, for tests of something else.
        """
        self._prover = Prover(prove) if prove else None
        self._image, self._warm_limit, self._client = image, warm, client
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._starts = asyncio.Semaphore(STARTS)
        self._ready: asyncio.Task[None] | None = None
        self._toolbox = ""
        self._warm: list[tuple[Key, Container]] = []
        self._refills: set[asyncio.Task[None]] = set()
        self._open: set[RemoteSandbox] = set()
        self._closed = False
        self._left: set[str] = set()
        """Containers that could not be removed: the engine did not answer."""

    async def open(self, spec: Spec) -> Sandbox:
        """A fresh sandbox. Raises :class:`SandboxError`."""
        await self._prepare()
        if self._prover is not None:
            await self._prover.ensure(
                spec.model_copy(update={"image": self._image_of(spec)}), self._ready_made, cpus=True
            )
        return await self._ready_made(spec)

    async def _ready_made(self, spec: Spec) -> Sandbox:
        """From a container made ahead where one waits, else from a new one."""
        key = _key(self._image_of(spec), spec)
        task = await self._call(lambda: _task(spec))
        spare = self._take(key)
        self._refill(key)
        if spare is not None:
            # One that died while it waited (the engine was restarted) costs a start, not an episode.
            with contextlib.suppress(SandboxError):
                return await self._hand_over(spare, task, spec)
        return await self._hand_over(await self._start(key), task, spec)

    def kind(self, spec: Spec) -> Key | None:
        """What sandboxes must share so that one can stand for another; ``None`` before the first one is opened."""
        image = spec.image or self._image
        return _key(image, spec) if image else None

    async def pack(self, spec: Spec) -> bytes:
        """The task of ``spec`` as :meth:`~sandbox.remote.RemoteSandbox.refill` takes it. Raises
        :class:`SandboxError`."""
        return (await self._call(lambda: _task(spec)))[TASK_HEAD:]

    async def close(self) -> None:
        """Remove every container of this backend."""
        self._closed = True
        for refill in self._refills:
            refill.cancel()
        await asyncio.gather(*self._refills, return_exceptions=True)
        await asyncio.gather(*(sandbox.close() for sandbox in list(self._open)))
        spare, self._warm = self._warm, []
        await asyncio.gather(*(self._remove(container) for _, container in spare))
        left, self._left = self._left, set()
        with contextlib.suppress(SandboxError):
            for container in left:
                await self._patiently(lambda container=container: remove(self._engine(), container))
        self._threads.shutdown(wait=False)

    # -- start-up -----------------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Engine, toolbox and image, looked up once; a failure is asked again the next time."""
        if self._closed:
            raise SandboxError("the docker backend is closed")
        if self._ready is None or (self._ready.done() and (self._ready.cancelled() or self._ready.exception())):
            self._ready = asyncio.create_task(self._call(self._look_up))
        await asyncio.shield(self._ready)

    def _look_up(self) -> None:
        self._client = self._client or connect()
        self._toolbox = str(toolbox.build())
        self._image = self._image or usable_image(self._client)
        with boundary("Removing what an earlier run left"):
            reap(self._client)

    def _image_of(self, spec: Spec) -> str:
        if image := spec.image or self._image:
            return image
        raise SandboxError("The Docker engine holds no image of ours: make one with: dojo images build.")

    # -- containers ---------------------------------------------------------------------------------------------------

    async def _start(self, key: Key) -> Container:
        async with self._starts:
            work = asyncio.ensure_future(self._patiently(lambda: self._create(key)))
            try:
                made, raw = await asyncio.shield(work)
            except asyncio.CancelledError:
                # The thread goes on: what it makes is nobody's any more.
                made, raw = await work
                raw.close()
                await self._call(lambda: remove(self._engine(), made))
                raise
            return Container(made, await Attached.open(raw))

    def _create(self, key: Key) -> tuple[str, Any]:
        client = self._engine()
        with boundary("Starting a sandbox"):
            made = str(client.api.create_container(**_options(client, key, self._toolbox))["Id"])
            try:
                raw = attach(client, made)
                client.api.start(made)
            except BaseException:
                self._left.add(made)
                remove(client, made)
                self._left.discard(made)
                raise
            return made, raw

    def _take(self, key: Key) -> Container | None:
        for at, (kind, container) in enumerate(self._warm):
            if kind == key:
                del self._warm[at]
                return container
        return None

    def _refill(self, key: Key) -> None:
        """Make one for the next use of ``key`` in the background; the kind asked for longest ago gives way."""
        if self._warm_limit and not any(kind == key for kind, _ in self._warm):
            task = asyncio.create_task(self._add(key))
            self._refills.add(task)
            task.add_done_callback(self._refills.discard)

    async def _add(self, key: Key) -> None:
        # A spare that cannot be made is no failure of anybody: the next open says what is wrong.
        with contextlib.suppress(SandboxError):
            self._warm.append((key, await self._start(key)))
            while len(self._warm) > self._warm_limit:
                await self._remove(self._warm.pop(0)[1])

    async def _hand_over(self, container: Container, task: bytes, spec: Spec) -> Sandbox:
        """Give a waiting container its task, and answer the live sandbox."""
        streams = container.streams

        async def closer() -> None:
            self._open.discard(sandbox)
            await self._remove(container)

        async def cause() -> str:
            last = streams.errors.splitlines()[-1:]
            return ": ".join(part for part in (await self._call(lambda: self._why(container.id)), *last) if part)

        sandbox = RemoteSandbox(
            streams.reader, streams.writer, closer, self.name, limits=spec.limits, cause=cause, ident=container.id
        )
        self._open.add(sandbox)
        try:
            streams.writer.write(task)
            await streams.writer.drain()
            await sandbox.start()
        except OSError as error:
            await sandbox.close()
            raise SandboxError(f"the container ended before it took its task: {streams.errors[-300:]}") from error
        except BaseException:
            await asyncio.shield(sandbox.close())
            raise
        return sandbox

    async def _remove(self, container: Container) -> None:
        await container.streams.close()
        try:
            await self._call(lambda: remove(self._engine(), container.id))
        except EngineAway:
            self._left.add(container.id)

    def _why(self, container: str) -> str:
        """Why a container ended, as the engine tells it."""
        with boundary("Asking for a container"):
            state: dict[str, Any] = self._engine().api.inspect_container(container)["State"]
        if state.get("OOMKilled"):
            return "out of memory"
        return "" if state.get("Running") else f"its container ended with exit code {state.get('ExitCode')}"

    def _engine(self) -> docker.DockerClient:
        assert self._client is not None
        return self._client

    async def _patiently[T](self, function: Callable[[], T]) -> T:
        """A call that outlives a restart of the engine. Raises :class:`SandboxError` when it stays away."""
        end = asyncio.get_running_loop().time() + OUTAGE_S
        while True:
            try:
                return await self._call(function)
            except EngineAway:
                if asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(OUTAGE_STEP_S)

    async def _call[T](self, function: Callable[[], T]) -> T:
        """A blocking call in a thread of our own: never more at once than the engine answers well."""
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, function)
        except RuntimeError as error:
            raise SandboxError("the docker backend is closed") from error
        return await work


def remove(client: docker.DockerClient, container: str) -> None:
    """Kill and remove; one that is gone or going is no error."""
    import docker.errors

    with boundary("Removing a sandbox"), contextlib.suppress(docker.errors.APIError):
        client.api.remove_container(container, force=True, v=True)


def reap(client: docker.DockerClient) -> int:
    """Remove the containers of dead owners; how many there were."""
    found = cast("list[dict[str, Any]]", client.api.containers(all=True, filters={"label": LABEL}))
    count = 0
    for row in found:
        whose = owner.parse(row["Labels"][LABEL])
        if whose and owner.abandoned(whose, running=row.get("State") == "running"):
            remove(client, row["Id"])
            count += 1
    return count


def _key(image: str, spec: Spec) -> Key:
    site = str(spec.site.resolve()) if spec.site else None
    return Key(image, site, spec.limits.memory_mb, spec.limits.pids, spec.limits.cpus)


def _options(client: docker.DockerClient, key: Key, tools: str) -> dict[str, Any]:
    """What a container is made from."""
    return {
        "image": key.image,
        "command": [toolbox.COMMAND[0], "-I", "-S", "-c", PROGRAM],
        "entrypoint": [],
        "user": f"{USER}:{USER}",
        "stdin_open": True,
        "working_dir": WORKSPACE,
        "hostname": "sandbox",
        "environment": {},
        "labels": {LABEL: str(owner.me())},
        "host_config": client.api.create_host_config(**_host(key, tools)),
    }


def _host(key: Key, tools: str) -> dict[str, Any]:
    """Confinement and limits."""
    from docker.types import LogConfig, Ulimit

    memory = key.memory_mb << 20
    binds = {tools: {"bind": toolbox.MOUNT, "mode": "ro"}}
    if key.site:
        binds[key.site] = {"bind": SITE, "mode": "ro"}
    return {
        "network_mode": "none",
        "ipc_mode": "private",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": key.pids,
        "nano_cpus": int(key.cpus * 1e9),
        "shm_size": 64 << 20,
        "ulimits": [
            Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
            Ulimit(name="core", soft=0, hard=0),
        ],
        "tmpfs": {
            # Less than the memory that they count as: a full disk is the writer's error, not the end of the sandbox.
            "/tmp": f"rw,exec,nosuid,nodev,mode=1777,uid={USER},gid={USER},size={memory // 4}",
            WORKSPACE: f"rw,exec,nosuid,nodev,mode=0755,uid={USER},gid={USER},size={memory // 2}",
        },
        "binds": binds,
        # The frames of the tool server are nobody's log.
        "log_config": LogConfig(type="none"),
    }


def _task(spec: Spec) -> bytes:
    """Settings and tree as the boot program takes them."""
    server = json.dumps(settings(spec, rlimited=False))
    body = marshal.dumps((server, HOME, WORKSPACE, list(_entries(str(spec.tree)))))
    return len(body).to_bytes(TASK_HEAD, "big") + body


def _entries(root: str, prefix: str = "") -> Iterator[tuple[str, str, int, int, bytes]]:
    """Everything below ``root``, ``.git`` included, folders first: (path, kind, mode, time, bytes)."""
    with os.scandir(f"{root}/{prefix}") as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path, info = prefix + entry.name, entry.stat(follow_symlinks=False)
        mode = stat.S_IMODE(info.st_mode) & 0o777
        if stat.S_ISDIR(info.st_mode):
            yield path, "d", mode, 0, b""
            yield from _entries(root, f"{path}/")
        elif stat.S_ISLNK(info.st_mode):
            yield path, "l", 0, 0, os.fsencode(Path(entry.path).readlink())
        elif stat.S_ISREG(info.st_mode):
            yield path, "f", mode, info.st_mtime_ns, Path(entry.path).read_bytes()
