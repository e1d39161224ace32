"""Compute a value once per key, however many coroutines ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable


class Once[K: Hashable, V]:
    """A cache with single flight. What raises, or what ``keep`` declines, is not kept: the next one asks again."""

    def __init__(self, keep: Callable[[V], bool] = lambda _: True) -> None:
        self._keep = keep
        self._values: dict[K, V] = {}
        self._locks: dict[K, asyncio.Lock] = {}

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """The value of ``key``, from ``make`` when it is not known. A cancelled maker leaves the next waiter to make
        it."""
        if key in self._values:
            return self._values[key]
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                return self._values[key] if key in self._values else await self._make(key, make)
        finally:
            # Waiters hold the lock itself; a lock left behind would be bound to this event loop.
            self._locks.pop(key, None)

    async def _make(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        value = await make()
        if self._keep(value):
            self._values[key] = value
        return value
