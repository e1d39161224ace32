"""Sandboxes in containers, through the docker SDK (Docker, or Podman's socket).

Each sandbox is one container that lives for one use: no network, no capability, no new privileges, a user that is not
root, a read-only root, memory (swap included), processes, CPU and open files limited; what can be written is in
size-limited tmpfs that counts as its memory. The tool server is process 1: nothing inside can kill it, it takes orphans
in, and when its input ends (this process died) it ends itself and with it the container. Blocking calls run in a
bounded set of threads, starts in a smaller one. On an engine of this machine the server is spoken to directly
(:mod:`sandbox.door`), else over the engine's attached streams.

Containers may be made ahead (``warm``): one waits for its task with everything imported, and is used once like any
other. Every container carries its owner; what a dead owner left is removed before the first start.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sandbox import owner, toolbox, tree
from sandbox.attach import Attached, attach
from sandbox.boot import PORCH
from sandbox.container import LABEL, TASK_HEAD, Key, key_of, options, pack
from sandbox.door import Door
from sandbox.engine import EngineAway, boundary, connect, is_podman
from sandbox.forward import FOLDER
from sandbox.gate import Gates
from sandbox.images import usable_image
from sandbox.network import Network
from sandbox.proofs import Prover
from sandbox.protocol import Sandbox, SandboxError, Spec
from sandbox.remote import RemoteSandbox

if TYPE_CHECKING:
    import docker

STARTS, THREADS = 3, 8
REMOVALS = 4
"""Tries to remove a container that the engine says it cannot remove now."""
NOTICE_S = 2.0
"""Patience with the engine to notice that a container ended, in seconds."""
OUTAGE_S, OUTAGE_STEP_S = 60.0, 1.0
"""Patience with an engine that is being restarted, and the pause between two questions, in seconds."""


class Container(NamedTuple):
    """A started container that waits for its task."""

    id: str
    streams: Attached
    door: Door | None = None


class DockerBackend:
    """Opens sandboxes in containers of one engine."""

    name = "docker"

    def __init__(
        self,
        image: str | None = None,
        *,
        warm: int = 1,
        direct: bool = True,
        client: docker.DockerClient | None = None,
        prove: Callable[[str], None] | None = None,
    ) -> None:
        """
        :param image: for tasks that name none; ``None`` takes the image that ``dojo images build`` made.
        :param warm: containers kept ready for the kinds opened last.
        :param direct: speak to the tool server through a socket, where the engine is of this machine.
        :param prove: where to say which default limits do not hold; limits are tried before their first use. ``None``:
            they are taken as they are set, for tests of something else.
        """
        self._prover = Prover(prove) if prove else None
        self._image, self._warm_limit, self._direct, self._client = image, warm, direct, client
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._starts = asyncio.Semaphore(STARTS)
        self._ready: asyncio.Task[None] | None = None
        self._toolbox, self._podman = "", False
        self._warm: list[tuple[Key, Container]] = []
        self._refills: set[asyncio.Task[None]] = set()
        self._open: set[RemoteSandbox] = set()
        self._closed = False
        self._gates: Gates | None = None
        self._doors: Path | None = None
        """Folder of our sockets; ``None`` where the engine is not of this machine."""
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
        key = key_of(self._image_of(spec), spec)
        task = await self._call(lambda: pack(spec))
        gate = await self._gate(spec.network)
        spare = self._take(key)
        self._refill(key, gate)
        if spare is not None:
            # One that died while it waited (the engine was restarted) costs a start, not an episode.
            with contextlib.suppress(SandboxError):
                return await self._hand_over(spare, task, spec)
        return await self._hand_over(await self._start(key, gate), task, spec)

    def kind(self, spec: Spec) -> Key | None:
        """What sandboxes must share so that one can stand for another; ``None`` before the first one is opened."""
        image = spec.image or self._image
        return key_of(image, spec) if image else None

    async def pack(self, spec: Spec) -> bytes:
        """The task of ``spec`` as :meth:`~sandbox.remote.RemoteSandbox.refill` takes it. Raises
        :class:`SandboxError`."""
        return (await self._call(lambda: pack(spec)))[TASK_HEAD:]

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
        if self._gates is not None:
            await self._gates.close()
        if self._doors is not None:
            tree.remove(str(self._doors))
            self._doors = None
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
        with boundary("Asking the engine what it is"):
            self._podman = is_podman(self._client)
        self._image = self._image or usable_image(self._client)
        if self._doors is None and self._client.api.base_url.startswith("http+docker://"):
            self._doors = owner.home(toolbox.cache_root() / "doors")
            self._gates = Gates(self._doors)
        with boundary("Removing what an earlier run left"):
            reap(self._client)

    def _image_of(self, spec: Spec) -> str:
        if image := spec.image or self._image:
            return image
        raise SandboxError("The Docker engine holds no image of ours: make one with: dojo images build.")

    async def _gate(self, network: Network) -> Path | None:
        if network == "none":
            return None
        if self._gates is None:
            raise SandboxError('an allow-list of hosts needs an engine of this machine: take sandbox.network = "none"')
        return await self._gates.folder(network)

    # -- containers ---------------------------------------------------------------------------------------------------

    async def _start(self, key: Key, gate: Path | None) -> Container:
        async with self._starts:
            work = asyncio.ensure_future(self._patiently(lambda: self._create(key, gate)))
            try:
                made, raw, door = await asyncio.shield(work)
            except asyncio.CancelledError:
                # The thread goes on: what it makes is nobody's any more.
                made, raw, door = await work
                raw.close()
                await self._call(lambda: remove(self._engine(), made))
                if door is not None:
                    door.remove()
                raise
            container = Container(made, await Attached.open(raw), door)
            try:
                if door is not None and (direct := await door.enter(container.streams.reader)):
                    await container.streams.lead_through(direct)
            except BaseException:
                await asyncio.shield(self._remove(container))
                raise
            return container

    def _create(self, key: Key, gate: Path | None) -> tuple[str, Any, Door | None]:
        client, door = self._engine(), Door(self._doors) if self._doors and self._direct else None
        folders = {PORCH: door.folder if door else None, FOLDER: gate}
        made = ""
        try:
            with boundary("Starting a sandbox"):
                made = str(
                    client.api.create_container(**options(client, key, self._toolbox, folders, self._podman))["Id"]
                )
                raw = attach(client, made)
                client.api.start(made)
        except BaseException:
            if door is not None:
                door.remove()
            if made:
                self._left.add(made)
                remove(client, made)
                self._left.discard(made)
            raise
        return made, raw, door

    def _take(self, key: Key) -> Container | None:
        for at, (kind, container) in enumerate(self._warm):
            if kind == key:
                del self._warm[at]
                return container
        return None

    def _refill(self, key: Key, gate: Path | None) -> None:
        """Make one for the next use of ``key`` in the background; the kind asked for longest ago gives way."""
        if self._warm_limit and not any(kind == key for kind, _ in self._warm):
            task = asyncio.create_task(self._add(key, gate))
            self._refills.add(task)
            task.add_done_callback(self._refills.discard)

    async def _add(self, key: Key, gate: Path | None) -> None:
        # A spare that cannot be made is no failure of anybody: the next open says what is wrong.
        with contextlib.suppress(SandboxError):
            self._warm.append((key, await self._start(key, gate)))
            while len(self._warm) > self._warm_limit:
                await self._remove(self._warm.pop(0)[1])

    async def _hand_over(self, container: Container, task: bytes, spec: Spec) -> Sandbox:
        """Give a waiting container its task, and answer the live sandbox."""
        streams = container.streams

        async def closer() -> None:
            self._open.discard(sandbox)
            await self._remove(container)

        async def cause() -> str:
            # The server's own end is heard before the engine has noticed that its container ended.
            await streams.ended(NOTICE_S)
            why = await self._call(lambda: self._why(container.id))
            return ": ".join(part for part in (why, *streams.errors.splitlines()[-1:]) if part)

        sandbox = RemoteSandbox(
            streams.reader,
            streams.writer,
            closer,
            self.name,
            limits=spec.limits,
            cause=cause,
            ident=container.id,
            network=spec.network,
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
        if container.door is not None:
            container.door.remove()

    def _why(self, container: str) -> str:
        """Why a container ended, as the engine tells it."""
        end = time.monotonic() + NOTICE_S
        with boundary("Asking for a container"):
            while (state := self._state(container)).get("Running") and time.monotonic() < end:
                time.sleep(0.05)
        if state.get("OOMKilled"):
            return "out of memory"
        return "" if state.get("Running") else f"its container ended with exit code {state.get('ExitCode')}"

    def _state(self, container: str) -> dict[str, Any]:
        return self._engine().api.inspect_container(container)["State"]

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

    with boundary("Removing a sandbox"):
        for _ in range(REMOVALS):
            try:
                client.api.remove_container(container, force=True, v=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError:
                # Going already; or, with Podman, it ended by itself between the look and the kill.
                time.sleep(0.1)
            else:
                return


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
