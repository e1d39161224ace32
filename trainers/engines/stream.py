"""Continuous batches in virtual time: rows join a running batch at steps that depend on tokens alone, never on timing.

The clock of a wave counts decoding steps. An episode whose turn is complete at step s may come back with its next
turn at step s + ``lag``: its command runs while the others decode on. At that step the batch waits for it, unless it
has left. So which rows share a batch is a function of the episodes (invariant 10), and still no turn waits for the
longest turn of its wave, as it would in lockstep (:mod:`trainers.engines.batcher`). All episodes of a wave begin at
step 0.

    Stream(n, segment, drop)    n episodes; ``segment`` decodes, in the engine's worker thread
    await stream.ask(...)       one sample, answered as soon as it is complete
    stream.leave(key)           this episode asks no more
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from agent.policy import PolicyError, Sampled
from agent.trajectory import Key
from trainers.engines.batcher import Ask

LAG = 16
"""Steps for which a command has time before the batch waits for it: about as long as it takes, a second or two."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a segment did."""

    step: int
    """The step that comes next."""
    active: int
    """Rows that are still decoding."""
    back: dict[Key, int]
    """Episodes whose turn was completed, with the step at which they are due again."""


Deliver = Callable[[Key, Sampled], None]
"""Gives an episode its sample; callable from any thread."""
Segment = Callable[[Sequence[Ask], int, int | None, Deliver], Awaitable[Progress]]
"""``segment(asks, step, until, deliver)``: let new rows join, decode from ``step`` until a step at which an episode
is due (``until``, or one that completes on the way) or until no row is left."""


class Stream:
    """The requests of one wave, and its clock."""

    def __init__(self, size: int, segment: Segment, drop: Callable[[Key], object]) -> None:
        self._size = size
        self._seen: set[Key] = set()
        """Episodes that have asked or left."""
        self._segment = segment
        self._drop = drop
        self._due: dict[Key, int] = {}
        """Episodes that are expected with a request, and when."""
        self._asked: dict[Key, Ask] = {}
        self._futures: dict[Key, asyncio.Future[Sampled]] = {}
        self._gone: set[Key] = set()
        self._changed = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self._broken: PolicyError | None = None

    async def ask(self, request: Ask) -> Sampled:
        """One sample. Raises :class:`PolicyError` when the engine fails, ``ValueError`` for a second request at a
        time."""
        key = request.key
        if key in self._gone or key in self._futures:
            raise ValueError(f"episode {key} asked for a sample while it waits for one or after it left")
        if self._broken:
            raise self._broken
        loop = asyncio.get_running_loop()
        self._meet(key)
        self._asked[key] = request
        self._futures[key] = loop.create_future()
        self._driver = self._driver or loop.create_task(self._drive())
        try:
            return await self._futures[key]
        finally:
            self._futures.pop(key, None)

    def leave(self, key: Key) -> None:
        """This episode asks no more: the others need not wait for it. Idempotent."""
        if key not in self._gone:
            self._meet(key)
            self._gone.add(key)
            self._due.pop(key, None)
            self._asked.pop(key, None)
            self._drop(key)

    def _meet(self, key: Key) -> None:
        """Count an episode's first sign; wake the driver."""
        if key not in self._seen:
            self._seen.add(key)
            self._due[key] = 0
        self._changed.set()

    async def _drive(self) -> None:
        """The clock: wait for who is due, decode to the next due step, again and again."""
        try:
            await self._wait(lambda: len(self._seen) >= self._size)
            step, active = 0, 0
            while active or self._due:
                if not active:
                    step = max(step, min(self._due.values()))
                await self._wait(lambda now=step: all(k in self._asked for k, due in self._due.items() if due <= now))
                asks = self._join(step)
                until = min(self._due.values(), default=None)
                progress = await self._segment(asks, step, until, self._deliver)
                step, active = progress.step, progress.active
                self._due.update((key, due) for key, due in progress.back.items() if key not in self._gone)
        except Exception as error:
            self._fail(error)

    def _join(self, step: int) -> list[Ask]:
        """Requests that enter the batch now, in a fixed order."""
        ready = [key for key, due in self._due.items() if due <= step]
        for key in ready:
            del self._due[key]
        return sorted((self._asked.pop(key) for key in ready), key=lambda ask: ask.order)

    async def _wait(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()

    def _deliver(self, key: Key, sample: Sampled) -> None:
        future = self._futures.get(key)
        if future is not None:
            future.get_loop().call_soon_threadsafe(_resolve, future, sample)

    def _fail(self, error: Exception) -> None:
        """Every sample that is or will be asked for fails with the engine's error."""
        self._broken = error if isinstance(error, PolicyError) else PolicyError(f"{type(error).__name__}: {error}")
        for future in self._futures.values():
            if not future.done():
                future.set_exception(self._broken)


def _resolve(future: asyncio.Future[Sampled], sample: Sampled) -> None:
    if not future.done():
        future.set_result(sample)
