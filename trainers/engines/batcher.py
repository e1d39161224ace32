"""Lockstep batches that depend on requests alone, never on timing.

A *wave* is a fixed number of episodes that share batches. A batch starts when every live episode of the wave either
waits for a sample or has left; it is sorted by key. So the batches of a wave are a function of its episodes
(invariant 10), and its sandboxes run while another wave generates. A request is answered as soon as *its* sample is
complete: the commands of early finishers overlap with the rest of the batch.

    Wave(n, run)          n episodes; ``run(requests, deliver)`` is called in the engine's worker thread
    await wave.ask(...)   one sample
    wave.leave(key)       this episode asks no more
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from agent.policy import PolicyError, Sampled
from agent.trajectory import Key


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for a sample."""

    context: tuple[int, ...]
    key: Key
    turn: int
    max_tokens: int

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Sort key: samples of one prompt are neighbours."""
        return (self.key.seed, self.key.step, self.key.prompt, self.key.sample)


Deliver = Callable[[int, Sampled], None]
"""Gives the sample of the i-th request of a batch; callable from any thread."""
Run = Callable[[Sequence[Ask], Deliver], None]
"""Generates a batch and delivers every sample of it, or raises."""
Left = Callable[[Key], None]
"""Is told when an episode has left."""


class Wave:
    """Collects the requests of ``size`` episodes and flushes them together."""

    def __init__(self, size: int, run: Run, executor: Executor, left: Left) -> None:
        self.live = size
        self._run = run
        self._executor = executor
        self._left = left
        self._gone: set[Key] = set()
        self._waiting: dict[Key, tuple[Ask, asyncio.Future[Sampled]]] = {}
        self._flights: set[asyncio.Task[None]] = set()

    async def ask(self, request: Ask) -> Sampled:
        """One sample. Raises :class:`PolicyError` when the engine fails, ``ValueError`` on a second request of one
        episode."""
        if request.key in self._gone or request.key in self._waiting:
            raise ValueError(f"episode {request.key} asked for a sample while it waits for one or after it left")
        future: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()
        self._waiting[request.key] = (request, future)
        self._flush_when_complete()
        return await future

    def leave(self, key: Key) -> None:
        """This episode asks no more: the others need not wait for it. Idempotent."""
        if key in self._gone:
            return
        self._gone.add(key)
        self._waiting.pop(key, None)
        self.live -= 1
        self._left(key)
        self._flush_when_complete()

    def _flush_when_complete(self) -> None:
        if self._waiting and len(self._waiting) >= self.live:
            batch = sorted(self._waiting.values(), key=lambda pair: pair[0].order)
            self._waiting = {}
            flight = asyncio.get_running_loop().create_task(self._fly(batch))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    async def _fly(self, batch: Sequence[tuple[Ask, asyncio.Future[Sampled]]]) -> None:
        loop = asyncio.get_running_loop()
        futures = [future for _, future in batch]

        def deliver(index: int, sample: Sampled) -> None:
            loop.call_soon_threadsafe(_resolve, futures[index], sample)

        try:
            await loop.run_in_executor(self._executor, self._run, [request for request, _ in batch], deliver)
        except Exception as error:
            _fail(futures, error)


def _resolve(future: asyncio.Future[Sampled], sample: Sampled) -> None:
    if not future.done():
        future.set_result(sample)


def _fail(futures: Sequence[asyncio.Future[Sampled]], error: Exception) -> None:
    """Every sample that is still open fails with the engine's error."""
    for future in futures:
        if not future.done():
            cause = error if isinstance(error, PolicyError) else PolicyError(f"{type(error).__name__}: {error}")
            future.set_exception(cause)
