"""What the runs of a node hold of its resources: a run for which there is no room waits for those that are late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import zip_longest

_ROUNDING = 1e-6  # of a share


class Room:
    """The resources of a node. Runs that wait for them are served in the order in which they came."""

    def __init__(self) -> None:
        self._held: list[Sequence[float]] = []
        self._turn, self._freed = asyncio.Lock(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def taken(self, usage: Sequence[float]) -> AsyncIterator[None]:
        """Hold shares of each resource, from 0 to 1, as long as the context lasts; wait until they are free."""
        async with self._turn:
            while not self._has(usage):
                self._freed.clear()
                await self._freed.wait()
            self._held.append(usage)
        try:
            yield
        finally:
            self._held.remove(usage)
            self._freed.set()

    def _has(self, usage: Sequence[float]) -> bool:
        return all(sum(shares) <= 1.0 + _ROUNDING for shares in zip_longest(*self._held, usage, fillvalue=0.0))
