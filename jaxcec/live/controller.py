"""The controller: it takes services, decides when microservices are due, tells workers, and learns what happened.

Whatever it does is in the event log first. Killed and started again, it goes on from there: what was decided is told
again under the same identifier, and a worker that is told again answers with what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxcec.live import events, protocol
from jaxcec.live.connection import Connection
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.ledger import Booking, Due, Ledger
from jaxcec.live.orders import decision_event, input_parts, run_order
from jaxcec.live.site import Site
from jaxcec.live.tenants import Tenants

_log = logging.getLogger(__name__)
_ATTEMPTS = 5  # of a microservice, after which its service is given up
_RETRY = 1.0  # s until a decision is tried again that could not be recorded
_MOST_WAITING = 10_000  # services without a slot
_REPORTS: dict[type[protocol.RunReport], type[Any]] = {
    protocol.FlowStarted: events.FlowStarted,
    protocol.FlowEnded: events.FlowEnded,
    protocol.ExecutionStarted: events.ExecutionStarted,
    protocol.ExecutionEnded: events.ExecutionEnded,
    protocol.Failed: events.Failed,
    protocol.Cancelled: events.Failed,
}


class Busy(Exception):
    """Too many services wait."""


class Controller:
    """See the module.

    Args:
        site: the network. The log must have been begun with it.
        log: which it owns from now on.
        decider: makes the decisions.
        workers: address, host:port, of the worker of each edge node, and of each end device that has a speed.
        token: that controller and workers share.
        link_names: index of each link resource, by the name by which workers report its load.
        lost_after: s without its worker after which a host counts as lost: what was decided for it, and what waits for
            an output that is there, has failed.
        pace: s that pass for the controller in a second; what is told to workers is scaled down to it.

    Raises:
        ValueError: an edge node has no worker, the log was begun with another site, or another process has it.
    """

    def __init__(
        self,
        site: Site,
        log: EventLog,
        *,
        decider: Decider,
        workers: Mapping[int, str],
        token: str,
        link_names: Mapping[str, int] | None = None,
        lost_after: float = 60.0,
        pace: float = 1.0,
    ) -> None:
        _check_workers(site, workers)
        log.own()
        log.settle("site", site.model_dump_json())
        self.ledger = Ledger(site)
        self.listeners: list[Callable[[events.Event], None]] = []  # told of each new event
        self._log, self._decider = log, decider
        self._changed = asyncio.Event()
        for _, event in log.read():
            self.ledger.apply(event)
        self._pace, self._lost_after = pace, lost_after
        self._stale: dict[int, list[str]] = {}  # runs that their workers are to stop once they are connected, by host
        self._ahead = max(time.time(), self.ledger.time) - time.monotonic() * pace
        self._record(*(events.WorkerDown(time=self.now(), host=int(h)) for h in self.ledger.up.nonzero()[0]))
        self._connections = {
            host: Connection(host, address, token=token, clock=self.now, listener=self, pace=pace)
            for host, address in workers.items()
        }
        self._addresses = [workers.get(host) for host in range(site.config.num_hosts)]
        self._tenants = Tenants(site, link_names or {})

    def now(self) -> float:
        """s since 1970. It never goes back, not even to before the last event of a log, whatever the system's clock."""
        return time.monotonic() * self._pace + self._ahead

    def submit(self, name: str, service: events.Service) -> bool:
        """Accept a service under a name that no other has. It is in the log when this returns.

        Returns:
            False if this service was submitted before under this name.

        Raises:
            ValueError: the service is invalid, or can run nowhere, or another one has the name.
            Busy: too many services wait.
            sqlite3.Error: the log cannot be written; the service was not accepted.
        """
        self.ledger.site.row(self.ledger.site.dag(service))
        for _, event in self._log.read(service=name):
            if isinstance(event, events.Submitted) and event.spec != service:
                raise ValueError(f"name: got {name!r}, under which another service was submitted")
            return False
        if len(self.ledger.waiting) >= _MOST_WAITING:
            raise Busy(f"{_MOST_WAITING} services wait")
        self._record(events.Submitted(time=self.now(), service=name, spec=service))
        return True

    async def run(self) -> None:
        """Decide, and stay connected to the workers, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for connection in self._connections.values():
                tasks.create_task(connection.keep())
            tasks.create_task(self._decide())
            tasks.create_task(self._watch())

    async def _decide(self) -> None:
        while True:
            self._changed.clear()
            due = self.ledger.next_due()
            wait = None if due is None else (due.time - self.now()) / self._pace
            if due is None or (wait is not None and wait > 0.0):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                continue
            try:
                await self._decide_one(due)
            except sqlite3.Error as error:
                _log.error("a decision could not be recorded: %s", error)
                await asyncio.sleep(_RETRY)

    async def _decide_one(self, due: Due) -> None:
        ledger, now = self.ledger, self.now()
        service = ledger.slots[due.slot]
        facts = ledger.facts(now, (due.slot, due.microservice))
        verdict = await self._decider.decide(facts)
        if ledger.slots[due.slot] is not service:
            return  # it was given up meanwhile
        event = decision_event(ledger, due, verdict, now - float(facts.now))
        self._record(event)
        if isinstance(event, events.Decided):
            self._tell(event.run)

    async def _watch(self) -> None:
        """Let fail what a host is needed for that is lost, and have stopped what runs for too long."""
        while True:
            await asyncio.sleep(_RETRY)
            lost = set(map(int, (self.now() - self.ledger.down_since > self._lost_after).nonzero()[0]))
            for booking in [*self.ledger.bookings.values()]:
                run = booking.decided.run
                if run not in self.ledger.bookings:
                    continue  # its service was given up just now
                if missing := lost and lost & self._needs(booking):
                    self._let_fail(booking, f"the worker of host {min(missing)} is lost")
                elif booking.started is not None and self.now() - booking.started > self._longest(booking):
                    # The worker may know that it has ended. Then it answers with that, and it has not failed.
                    self._connections[booking.decided.host].send(protocol.Cancel(id=run))

    def _longest(self, booking: Booking) -> float:
        """s for which a microservice may run."""
        service = self.ledger.slots[booking.slot]
        assert service is not None
        return math.inf if service.spec.longest is None else service.spec.longest

    def _needs(self, booking: Booking) -> set[int]:
        """Hosts without which a decision cannot be carried out any more."""
        if booking.flow_ended is not None or booking.started is not None:
            return {booking.decided.host}
        parts = input_parts(self.ledger, booking.slot, booking.decided.microservice)
        return {booking.decided.host, *(part.host for part in parts)}

    def _let_fail(self, booking: Booking, reason: str) -> None:
        """Fail an attempt, and stop it once its worker can be told."""
        decided = booking.decided
        with contextlib.suppress(sqlite3.Error):  # it is tried again
            self._fail(booking, self.now(), reason)
            self._stale.setdefault(decided.host, []).append(decided.run)
            if self.ledger.up[decided.host]:
                self._stop_stale(decided.host)

    def _stop_stale(self, host: int) -> None:
        for run in self._stale.pop(host, []):
            self._connections[host].send(protocol.Cancel(id=run))

    def _fail(self, booking: Booking, time: float, reason: str) -> None:
        """An attempt failed; the last one gives its service up."""
        of, gives_up = _attempt_of(booking), booking.decided.attempt + 1 >= _ATTEMPTS
        self._record(events.Failed(time=time, reason=reason, gives_up=gives_up, **of))
        if gives_up:
            self._forget(booking.decided.service, stop=True)

    def _tell(self, run: str) -> None:
        """Tell a worker of a decision, if it is connected."""
        booking = self.ledger.bookings[run]
        connection = self._connections[booking.decided.host]
        cores, addresses = connection.cores, self._addresses
        connection.send(run_order(self.ledger, booking, now=self.now(), addresses=addresses, cores=cores))

    def _record(self, *happened: events.Event) -> None:
        """Append to the log, then take into account."""
        for event in self._log.append(happened) if happened else []:
            self.ledger.apply(event)
            for listener in self.listeners:
                listener(event)
        self._changed.set()

    def connected(self, host: int, runs: Sequence[str]) -> None:
        """See `connection.Listener`. A worker may not have heard that a service has ended, or an attempt has failed."""
        self._record(events.WorkerUp(time=self.now(), host=host))
        self._stop_stale(host)
        for run in runs:
            if not self.ledger.is_of_use(run):
                self._connections[host].send(protocol.Cancel(id=run))
                self._connections[host].send(protocol.Forget(ids=[run]))
        for run, booking in self.ledger.bookings.items():
            if booking.decided.host == host:
                self._tell(run)

    def disconnected(self, host: int) -> None:
        """See `connection.Listener`."""
        self._record(events.WorkerDown(time=self.now(), host=host))

    def heard(self, host: int, report: protocol.Report) -> None:
        """See `connection.Listener`."""
        if isinstance(report, protocol.Load):
            measured = self._tenants.measured(report, host, self.now(), self.ledger.bookings.values())
            self._record(*([measured] if measured else []))
        elif isinstance(report, protocol.RunReport):
            if report.id in self.ledger.bookings:
                self._heard_of(self._connections[host], report)
            elif isinstance(report, protocol.Failed | protocol.Cancelled):
                self._connections[host].send(protocol.Forget(ids=[report.id]))

    def _heard_of(self, connection: Connection, report: Any) -> None:
        """A report about a decision that has not finished."""
        booking, kind = self.ledger.bookings[report.id], _REPORTS[type(report)]
        service, at = booking.decided.service, max(connection.local(report.at), booking.decided.time)
        if kind is events.Failed:
            cancelled = f"stopped after {self._longest(booking):g} s" if math.isfinite(self._longest(booking)) else ""
            self._fail(booking, at, getattr(report, "reason", cancelled or "cancelled"))
            return
        measured = {"cpu_seconds": report.cpu_seconds} if kind is events.ExecutionEnded else {}
        self._record(kind(time=at, **measured, **_attempt_of(booking)))
        if kind is events.FlowEnded:
            self._tenants.ended(booking, at)
        if service not in self.ledger.slot_of:
            self._forget(service, stop=False)

    def _forget(self, service: str, *, stop: bool) -> None:
        """Tell workers that nobody will ask for the runs of a service that has ended, and to stop those that run."""
        for _, event in self._log.read(service=service):
            if isinstance(event, events.Decided):
                connection = self._connections[event.host]
                if stop:
                    connection.send(protocol.Cancel(id=event.run))
                connection.send(protocol.Forget(ids=[event.run]))


def _attempt_of(booking: Booking) -> dict[str, Any]:
    """What an event about an attempt names."""
    return {name: getattr(booking.decided, name) for name in ("service", "microservice", "attempt")}


def _check_workers(site: Site, workers: Mapping[int, str]) -> None:
    for host, speed in enumerate(site.speed):
        if host not in workers and (host < site.config.num_nodes or speed > 0.0):
            raise ValueError(f"workers: got {sorted(workers)}; must have host {host}")
    for host in workers:
        if not 0 <= host < site.config.num_hosts:
            raise ValueError(f"workers: got host {host}; must be from 0 to {site.config.num_hosts - 1}")
