"""What the runs of a node hold of its resources: a run for which there is no room waits for those that are late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import zip_longest

TOLERANCE = 1e-5  # of a share: `timeline.TOLERANCE`, without importing JAX


class Room:
    """The resources of a node. Of the runs that wait, those that came first are asked first."""

    def __init__(self) -> None:
        self._held: list[Sequence[float]] = []
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def taken(self, usage: Sequence[float]) -> AsyncIterator[None]:
        """Hold shares of each resource, from 0 to 1, as long as the context lasts; wait until they are free."""
        while not self._has(usage):
            await self._freed.wait()
        self._held.append(usage)
        try:
            yield
        finally:
            self._held.remove(usage)
            self._freed.set()  # wakes those that wait, in the order in which they came
            self._freed = asyncio.Event()

    def _has(self, usage: Sequence[float]) -> bool:
        return all(sum(shares) <= 1.0 + TOLERANCE for shares in zip_longest(*self._held, usage, fillvalue=0.0))
