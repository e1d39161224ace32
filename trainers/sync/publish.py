"""When weights are sent, and how an update goes wrong well.

    pause -> send -> ask for the version -> resume

Files are written before the pause. A way that fails gives up for this update and the next one is tried, which is the
disk; when every way failed the run stops. The server is resumed in any case: requests that it froze must not hang.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock, Thread
from typing import Any

from trainers.engines.http import ServerError
from trainers.engines.keeper import Keeper
from trainers.engines.vllm import VllmEngine
from trainers.model.load import Model
from trainers.protocol import Learner, Row
from trainers.sync.push import Push


@dataclass(slots=True)
class Publisher:
    """Sends the weights of a model to the server behind an engine."""

    engine: VllmEngine
    model: Model
    ways: Sequence[Push]
    """Tried in this order."""
    sent: int | None = None
    """Version that the server holds; ``None``: not known."""
    fallbacks: int = 0
    """Updates that had to go another way."""
    asleep: bool = False
    keeper: Keeper | None = None
    """Of a server that belongs to the run."""
    _lock: RLock = field(default_factory=RLock)

    def publish(self) -> float:
        """Send the weights unless the server has them. Returns seconds. Raises :class:`ServerError`."""
        with self._lock:
            began, seen = time.perf_counter(), self.restarts
            try:
                return time.perf_counter() - began if self._publish() else 0.0
            except ServerError:
                if not self.revive(seen):
                    raise
                return time.perf_counter() - began

    def _publish(self) -> bool:
        """Whether anything was to be sent."""
        version = self.model.version
        if self.asleep:
            self._run(self._wake())
        if version == self.sent:
            return False
        with self.model.lock:
            self._any_way(version)
        self.sent = self.engine.version = version
        return True

    @property
    def restarts(self) -> int:
        """How often the server was started anew."""
        return self.keeper.restarts if self.keeper else 0

    def revive(self, seen: int) -> bool:
        """Start a server that died anew and send it the weights, unless somebody did since ``seen`` restarts.

        Whether the server is another one than it was then. Raises :class:`ServerError` when it dies too often.
        """
        with self._lock:
            if self.keeper is None or (self.restarts == seen and not self.keeper.died()):
                return False
            if self.restarts == seen:
                self.keeper.renew()
                for way in self.ways:
                    way.renew()
                self.sent, self.asleep = None, False
                self.publish()
            return True

    def rest(self) -> None:
        """Let the server give its GPU memory back until the next update; only where it shares the GPU."""
        if self.engine.config.share:
            self._run(self._sleep())

    def _any_way(self, version: int) -> None:
        self.engine.labels.add(str(version))
        failures: list[ServerError] = []
        # What a server that we did not start holds is not known: the first time it gets everything.
        unknown = self.sent is None and self.engine.config.url is not None
        for way in self.ways[-1:] if unknown else self.ways:
            try:
                way.prepare(version)
                return self._run(self._update(way, version))
            except (ServerError, TimeoutError) as error:
                failures.append(error if isinstance(error, ServerError) else ServerError("a transfer took too long"))
                self.fallbacks += way is not self.ways[-1]
        raise ServerError(f"weights v{version} did not get to the server: {failures[-1]}") from failures[-1]

    async def _update(self, way: Push, version: int) -> None:
        api = self.engine.api
        await api.pause(self.engine.config.pause)
        try:
            await way.send(api, version)
            if (found := await api.version()) != str(version):
                raise ServerError(f"the server says that it holds weights '{found}' instead of '{version}'")
        finally:
            await api.resume()

    async def _sleep(self) -> None:
        await self.engine.api.pause("wait")
        await self.engine.api.sleep()
        self.asleep = True

    async def _wake(self) -> None:
        await self.engine.api.wake()
        await self.engine.api.resume()
        self.asleep = False

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """In a thread with an event loop of its own: the caller may be inside one."""
        failed: list[BaseException] = []

        def body() -> None:
            try:
                asyncio.run(work)
            except BaseException as error:
                failed.append(error)

        thread = Thread(target=body, name="publish")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]


@dataclass(slots=True)
class SyncedLearner:
    """See :class:`trainers.protocol.Learner`: what it learns gets to the server before the next sample is asked for.

    After a policy-gradient step at once; supervised steps and a loaded checkpoint when a policy is next handed out.
    """

    inner: Learner
    publisher: Publisher

    def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """One step, sent. ``sync_fallbacks`` counts updates of this run that had to go by disk."""
        self.publisher.rest()
        numbers = self.inner.update(rows)
        spent = self.publisher.publish()
        return numbers | {
            "seconds": numbers.get("seconds", 0.0) + spent,
            "sync_fallbacks": float(self.publisher.fallbacks),
            "server_restarts": float(self.publisher.restarts),
            "sampler_missing": float(self.publisher.engine.missing),
        }

    def imitate(self, rows: Sequence[Row]) -> dict[str, float]:
        """One supervised step; nothing samples meanwhile, so nothing is sent."""
        return self.inner.imitate(rows)

    def save(self, folder: Path) -> None:
        """As the learner does it."""
        self.inner.save(folder)

    def load(self, folder: Path) -> None:
        """As the learner does it; the server is told before it samples."""
        self.inner.load(folder)
        self.publisher.sent = None
