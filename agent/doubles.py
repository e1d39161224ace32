"""Doubles for tests and drills: a backend whose sandboxes die on cue, a policy whose engine fails, tasks at hand, an
exact grader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.policy import Around, PolicyError, Sampled
from agent.trajectory import Key
from sandbox.grading.patch import PatchError, apply
from sandbox.grading.tree import read_frozen
from sandbox.network import Network
from sandbox.protocol import Backend, EditResult, ExecResult, Sandbox, SandboxError, Spec
from sandbox.task import Prepared, Status, Task, TaskError, Verdict


@dataclass(slots=True)
class DyingBackend:
    """Opens sandboxes of ``inner``; the ``opened``-th one (from 0; ``None``: each) dies at the ``call``-th call of
    ``verb``.

    ``verb="open"`` refuses to open it.
    """

    inner: Backend
    verb: str = "run"
    call: int = 1
    opened: int | None = 0
    name: str = "dying"
    count: int = 0
    """Sandboxes asked for so far."""
    live: set[int] = field(default_factory=set[int])
    """Ordinals of the sandboxes that are open."""

    async def open(self, spec: Spec) -> Sandbox:
        ordinal, self.count = self.count, self.count + 1
        doomed = self.opened in (None, ordinal)
        if doomed and self.verb == "open":
            raise SandboxError("the sandbox did not start (on cue)")
        inner = await self.inner.open(spec)
        self.live.add(ordinal)
        return DyingSandbox(inner, self, ordinal, self.verb if doomed else "", self.call)

    async def close(self) -> None:
        await self.inner.close()


class DyingSandbox:
    """Passes every verb on until its cue; from then on every verb fails."""

    def __init__(self, inner: Sandbox, owner: DyingBackend, ordinal: int, verb: str, call: int) -> None:
        self.backend = inner.backend
        self.network: Network = inner.network
        self._inner, self._owner, self._ordinal = inner, owner, ordinal
        self._verb, self._left, self._dead = verb, call, False

    async def run(self, command: str, timeout_s: float | None = None) -> ExecResult:
        self._live("run")
        return await self._inner.run(command, timeout_s)

    async def edit(self, **call: Any) -> EditResult:
        self._live("edit")
        return await self._inner.edit(**call)

    async def read(self, path: str) -> bytes:
        self._live("read")
        return await self._inner.read(path)

    async def write(self, path: str, data: bytes, executable: bool = False) -> None:
        self._live("write")
        await self._inner.write(path, data, executable)

    async def manifest(self) -> dict[str, str]:
        self._live("manifest")
        return await self._inner.manifest()

    async def lsp(self, verb: str, **args: Any) -> dict[str, Any]:
        self._live("lsp")
        return await self._inner.lsp(verb, **args)

    async def close(self) -> None:
        self._owner.live.discard(self._ordinal)
        await self._inner.close()

    def _live(self, verb: str) -> None:
        if verb == self._verb:
            self._left -= 1
        if self._dead or (verb == self._verb and self._left <= 0):
            self._dead = True
            raise SandboxError("the sandbox died (on cue)")


@dataclass(frozen=True, slots=True)
class NoBash:
    """A backend whose image has no bash."""

    inner: Backend
    name: str = "no-bash"

    async def open(self, spec: Spec) -> Sandbox:
        return NoBashSandbox(await self.inner.open(spec), DyingBackend(self.inner), 0, "", 0)

    async def close(self) -> None:
        await self.inner.close()


class NoBashSandbox(DyingSandbox):
    """Its shell finds no bash."""

    async def run(self, command: str, timeout_s: float | None = None) -> ExecResult:
        return ExecResult(output="", exit_code=127)


@dataclass(slots=True)
class FailingPolicy(Around):
    """Plays as ``inner``, but its engine fails at ``turn``, ``times`` times."""

    turn: int = 0
    times: int = 1
    samples: int = 0
    """Samples drawn so far."""

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        if turn == self.turn and self.times > 0:
            self.times -= 1
            raise PolicyError("the engine failed (on cue)")
        self.samples += 1
        return await self.inner.sample(context, key, turn, max_tokens)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A task source that holds what is prepared already."""

    prepared: tuple[Prepared, ...]

    def prepare(self, task: Task) -> Prepared:
        for prepared in self.prepared:
            if prepared.task.instance_id == task.instance_id:
                return prepared
        raise TaskError(f"there is no task {task.instance_id} here")


@dataclass(slots=True)
class ExactGrader:
    """Resolves the patches that leave the tree exactly as the gold patch does, and runs nothing."""

    graded: int = 0
    """Patches graded so far."""

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
        self.graded += 1
        task = prepared.task
        base = read_frozen(prepared.base)
        try:
            passed = apply(base, patch) == apply(base, task.patch)
        except PatchError as error:
            return Verdict(status=Status.FAILED, detail=str(error))
        results = dict.fromkeys(task.FAIL_TO_PASS, passed) | dict.fromkeys(task.PASS_TO_PASS, True)
        return Verdict(status=Status.RESOLVED if passed else Status.FAILED, results=results)
