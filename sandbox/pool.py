"""A pool: bounds on what one backend is asked for, and used sandboxes that are as good as new.

Three bounds, each with a queue that is served in order of arrival: sandboxes that live, sandboxes that start, commands
that run. A caller who finds a bound reached waits, and is refused after ``patience_s``: what is asked for never grows
without limit.

A sandbox that is given back is wiped, and kept only when nothing tells it from a new one (:mod:`sandbox.reset`): no
process, no entry in any writable mount, the same mounts, System V objects, limits and priorities as before its first
task. Anything else, a language server included, ends it. The next caller of the same kind gets it with his own tree in
it, and the files that he finds are compared with those that he gave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from sandbox import tree
from sandbox.network import Network
from sandbox.protocol import Backend, EditResult, ExecResult, Sandbox, SandboxError, Spec
from sandbox.remote import RemoteSandbox

PATIENCE_S = 600.0


class Reusing(Backend, Protocol):
    """A backend whose sandboxes may be used again."""

    def kind(self, spec: Spec) -> Hashable | None:
        """What two sandboxes must share; ``None``: not known yet."""
        ...

    async def pack(self, spec: Spec) -> bytes:
        """The task of ``spec`` for a sandbox that is there."""
        ...


class Pool:
    """A backend that bounds another one, and uses its sandboxes again where that is provably the same."""

    def __init__(
        self,
        inner: Reusing,
        *,
        live: int = 64,
        starts: int = 4,
        execs: int = 32,
        keep: int = 4,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """
        :param live: sandboxes open at a time. :param starts: of these, being made. :param execs: commands at a time.
        :param keep: wiped sandboxes that wait for their next use.
        """
        self.name = inner.name
        self._inner, self._keep, self._patience_s = inner, keep, patience_s
        self._live = asyncio.Semaphore(live)
        self._starts = asyncio.Semaphore(starts)
        self.execs = asyncio.Semaphore(execs)
        self._idle: list[tuple[Hashable, RemoteSandbox]] = []
        self._leases: set[Lease] = set()
        self._hashers: dict[Path, tree.Hasher] = {}
        self._closed = False
        self.reused = 0
        """How many sandboxes were used again so far."""
        self.refused: list[str] = []
        """What told a wiped sandbox from a new one, for each that was not kept."""

    @property
    def walled(self) -> bool:
        """Whether an attack stays inside; known after the first sandbox."""
        return bool(getattr(self._inner, "walled", True))

    async def open(self, spec: Spec) -> Lease:
        """A sandbox as good as new. Raises :class:`SandboxError`."""
        await self._wait(self._live)
        try:
            sandbox = await self._again(spec) or await self._new(spec)
        except BaseException:
            self._live.release()
            raise
        lease = Lease(self, sandbox, self._inner.kind(spec))
        self._leases.add(lease)
        return lease

    async def close(self) -> None:
        """Close every sandbox, lent or waiting, and the inner backend."""
        self._closed = True
        await asyncio.gather(*(lease.close() for lease in list(self._leases)))
        idle, self._idle = self._idle, []
        await asyncio.gather(*(sandbox.close() for _, sandbox in idle))
        await self._inner.close()

    async def back(self, lease: Lease, sandbox: Sandbox) -> None:
        """Take a sandbox back: keep it, or end it."""
        try:
            if not await self._kept(lease, sandbox):
                await sandbox.close()
        finally:
            self._leases.discard(lease)
            self._live.release()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Room for one command."""
        await self._wait(self.execs)
        try:
            yield
        finally:
            self.execs.release()

    async def _wait(self, bound: asyncio.Semaphore) -> None:
        if self._closed:
            raise SandboxError("the pool of sandboxes is closed")
        try:
            await asyncio.wait_for(bound.acquire(), self._patience_s)
        except TimeoutError as error:
            raise SandboxError(f"no sandbox became free within {self._patience_s:g} s") from error

    async def _new(self, spec: Spec) -> Sandbox:
        await self._wait(self._starts)
        try:
            return await self._inner.open(spec)
        finally:
            self._starts.release()

    async def _again(self, spec: Spec) -> RemoteSandbox | None:
        """A wiped sandbox with the task of ``spec`` in it; ``None`` when none is there or none is what it should be."""
        kind = self._inner.kind(spec)
        while (at := next((at for at, (found, _) in enumerate(self._idle) if found == kind), None)) is not None:
            _, sandbox = self._idle.pop(at)
            try:
                await sandbox.refill(await self._inner.pack(spec), spec.limits)
                if await sandbox.manifest() == await asyncio.to_thread(self._hasher(spec.tree).manifest):
                    self.reused += 1
                    return sandbox
            except BaseException as error:
                await asyncio.shield(sandbox.close())
                if not isinstance(error, SandboxError | OSError):
                    raise
            else:
                await sandbox.close()
        return None

    def _hasher(self, folder: Path) -> tree.Hasher:
        return self._hashers.setdefault(folder, tree.Hasher(str(folder)))

    async def _kept(self, lease: Lease, sandbox: Sandbox) -> bool:
        if self._closed or not self._keep or lease.kind is None or not isinstance(sandbox, RemoteSandbox):
            return False
        if sandbox.closed or lease.busy:
            return False
        try:
            left = await sandbox.clean()
        except SandboxError as error:
            left = [str(error)]
        if left:
            self.refused.append(", ".join(left))
            return False
        if self._closed:
            return False
        self._idle.append((lease.kind, sandbox))
        while len(self._idle) > self._keep:
            await self._idle.pop(0)[1].close()
        return True


class Lease:
    """One use of a sandbox: the same verbs, until it is closed."""

    def __init__(self, pool: Pool, sandbox: Sandbox, kind: Hashable | None) -> None:
        self.backend = sandbox.backend
        self.network: Network = sandbox.network
        self.ident: str = getattr(sandbox, "ident", "")
        """The id of its container."""
        self.kind = kind
        self.busy = 0
        """Requests in flight: their sandbox cannot be wiped under them."""
        self._pool, self._sandbox, self._over = pool, sandbox, False

    async def run(
        self, command: str, timeout_s: float | None = None, on_output: Callable[[str], None] | None = None
    ) -> ExecResult:
        """See :meth:`sandbox.remote.RemoteSandbox.run`. Waiting for room is not counted against the command."""
        async with self._use() as sandbox, self._pool.running():
            if isinstance(sandbox, RemoteSandbox):
                return await sandbox.run(command, timeout_s, on_output)
            return await sandbox.run(command, timeout_s)

    async def edit(self, **call: Any) -> EditResult:
        async with self._use() as sandbox:
            return await sandbox.edit(**call)

    async def read(self, path: str) -> bytes:
        async with self._use() as sandbox:
            return await sandbox.read(path)

    async def write(self, path: str, data: bytes, executable: bool = False) -> None:
        async with self._use() as sandbox:
            await sandbox.write(path, data, executable)

    async def manifest(self) -> dict[str, str]:
        async with self._use() as sandbox:
            return await sandbox.manifest()

    async def lsp(self, verb: str, **args: Any) -> dict[str, Any]:
        async with self._use() as sandbox:
            return await sandbox.lsp(verb, **args)

    async def close(self) -> None:
        """Give the sandbox back. Idempotent."""
        if self._over:
            return
        self._over = True
        # Whoever is cancelled here must not leave a sandbox that nobody counts.
        await asyncio.shield(self._pool.back(self, self._sandbox))

    @asynccontextmanager
    async def _use(self) -> AsyncGenerator[Sandbox]:
        if self._over:
            raise SandboxError("the sandbox is closed")
        self.busy += 1
        try:
            yield self._sandbox
        finally:
            self.busy -= 1
