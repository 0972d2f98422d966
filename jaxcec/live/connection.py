"""The controller's side of a connection to one worker, made again whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from jaxcec.live import protocol

_log = logging.getLogger(__name__)
_PATIENCE = 5.0  # s for a connection and for the answer to `Hello`
_SILENCE = 10.0  # s without a report, after which a connection counts as lost: workers report their load more often
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # s before the first attempt to connect again, and before any


class Listener(Protocol):
    """What is done with a worker's connection."""

    def connected(self, host: int, runs: Sequence[str]) -> None:
        """The worker can be told what to do; it has reports of these runs."""

    def disconnected(self, host: int) -> None:
        """The worker was connected and is not any more."""

    def heard(self, host: int, report: protocol.Report) -> None:
        """A report arrived. An `sqlite3.Error` closes the connection, so that the report is asked for again."""


class Connection:
    """A connection to the worker of a host.

    Args:
        host: its number.
        address: host:port.
        token: that controller and workers share.
        clock: the controller's, s.
        listener: told of what happens.
        pace: s of the controller in a second: orders are scaled down to it, and reports up.
    """

    def __init__(
        self, host: int, address: str, *, token: str, clock: Callable[[], float], listener: Listener, pace: float = 1.0
    ) -> None:
        self._pace = pace
        self.host, self.address = host, address
        self.cores = 1.0  # of the worker's node
        self._token, self._clock, self._listener = token, clock, listener
        self._their_clock = protocol.WorkerClock()
        self._writer: asyncio.StreamWriter | None = None

    def send(self, order: protocol.Order) -> None:
        """Tell the worker, if it is connected. What is lost on the way is told again once it is connected again."""
        if self._writer is not None:
            self._writer.write(protocol.frame(at_pace(order, self._pace)))

    def local(self, at: float) -> float:
        """An instant of the worker's clock by the controller's, s; not after now."""
        return self._their_clock.local(at * self._pace, self._clock())

    async def keep(self) -> None:
        """Stay connected until cancelled."""
        pause = _PAUSE
        while True:
            before = self._clock()
            try:
                await self._converse()
            except (OSError, asyncio.IncompleteReadError, protocol.ProtocolError, sqlite3.Error) as error:
                _log.warning("worker %d at %s: %s: %s", self.host, self.address, type(error).__name__, error)
            pause = _PAUSE if self._clock() - before > _LONGEST_PAUSE else min(2.0 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _converse(self) -> None:
        address, port = self.address.rsplit(":", 1)
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(address.strip("[]"), int(port))
        try:
            writer.write(protocol.frame(protocol.Hello(token=self._token)))
            welcome = await self._receive(reader, _PATIENCE)
            if not isinstance(welcome, protocol.Welcome):
                raise protocol.ProtocolError(f"got {welcome}; must be a welcome")
            self.cores = welcome.cores
            self._writer = writer
            self._listener.connected(self.host, welcome.runs)
            while True:
                self._listener.heard(self.host, await self._receive(reader, _SILENCE))
        finally:
            writer.close()
            if self._writer is not None:
                self._writer = None
                with contextlib.suppress(sqlite3.Error):  # it is found out when the log is opened again
                    self._listener.disconnected(self.host)

    async def _receive(self, reader: asyncio.StreamReader, patience: float) -> protocol.Report:
        async with asyncio.timeout(patience):
            report = await protocol.receive(reader, protocol.REPORTS)
        if isinstance(report, protocol.Welcome | protocol.Load):
            self._their_clock.saw(report.clock * self._pace, self._clock())
        if isinstance(report, protocol.Load):
            return report.model_copy(update={"seconds": report.seconds * self._pace})
        return report


def at_pace(order: protocol.Order, pace: float) -> protocol.Order:
    """The order that takes so many times less time: sizes and work are divided, rates and shares are not."""
    if pace == 1.0 or not isinstance(order, protocol.Run):
        return order
    inputs = [part.model_copy(update={"size": round(part.size / pace)}) for part in order.inputs]
    changed: dict[str, Any] = {"not_before": order.not_before / pace, "hold": order.hold / pace, "inputs": inputs}
    if isinstance(order.work, protocol.Burn):
        changed["work"] = protocol.Burn(cpu_seconds=order.work.cpu_seconds / pace)
    return order.model_copy(update=changed)
