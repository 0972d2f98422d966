"""The ledger: what is known of a running system, a fold over its events, and `Facts` for the mirror."""

from __future__ import annotations

import dataclasses
from collections import deque
from functools import singledispatchmethod
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcec.env import HISTORY, USUAL_TIME, Dags, time_unit_of_sums
from jaxcec.env.types import MOST_LOAD
from jaxcec.evaluation.rollout import MOST_POSTPONED
from jaxcec.live import events
from jaxcec.live.mirror import Facts, Reservations
from jaxcec.live.site import Site

FIRST_PAUSE = 0.1  # s until what has failed once is decided again; twice as long after each further failure
LATE, LEAST_LATE = 0.05, 1e-3  # what runs past its time is expected to take this share of it, or so many s, longer


@dataclasses.dataclass
class Booking:
    """A microservice that is decided and has not finished; times are as measured, None if that is still to come."""

    decided: events.Decided
    slot: int
    usage: np.ndarray  # (K,) share of each of the host's resources that the execution holds
    flow_started: float | None = None
    flow_ended: float | None = None
    started: float | None = None


class Due(NamedTuple):
    """An undecided microservice whose predecessors have all finished."""

    time: float  # s, when it is due; not before its service is released, nor before the time it was postponed to
    slot: int
    microservice: int


@dataclasses.dataclass
class Counters:
    """What has happened since the log was begun."""

    submitted: int = 0
    completed: int = 0  # services of which everything has finished
    given_up: int = 0
    completion: float = 0.0  # s, sum over completed services of finish - release
    decisions: int = 0
    late: int = 0  # decisions of the fallback, because the planner was late
    postponed: int = 0
    failed: int = 0  # attempts


class Ledger:
    """The state of a site. Equal sequences of events give equal ledgers.

    A service has one of M slots from its submission, or as soon as one is free, until it ends.
    """

    def __init__(self, site: Site) -> None:
        config = site.config
        services, table = config.num_services, (config.num_services, config.max_microservices)
        self.site = site
        self.time = 0.0  # s, of the latest event
        self.counters = Counters()
        self.waiting: deque[events.Submitted] = deque()
        self.slots: list[events.Submitted | None] = [None] * services
        self.slot_of: dict[str, int] = {}
        self.bookings: dict[str, Booking] = {}  # by run, in the order of the decisions
        self.dags: Dags = jax.tree.map(lambda x: np.array(x), site.empty.dags)
        self.release = np.full(services, np.inf)
        self.source = np.zeros(services, np.int32)
        self.work = np.zeros(services, np.float32)
        self.patience = np.zeros(services, np.int64)  # decisions that were postponed
        self.decided = np.zeros(table, bool)
        self.host = np.zeros(table, np.int16)
        self.attempt = np.zeros(table, np.int64)
        self.finish = np.full(table, -np.inf)
        self.postponed = np.full(table, -np.inf)
        self.due = np.full(table, np.inf)  # see `Due`; inf for others
        self.up = np.zeros(config.num_hosts, bool)
        self.down_since = np.full(config.num_hosts, np.inf)  # s; inf if it is up or never was
        self.load = LoadHistory(config.max_links + config.num_hosts, site.frame)
        self.sums = np.zeros(3)  # of all services so far: Mcycles, Mbit, and microservices that take time
        self.time_unit = np.float32(USUAL_TIME)

    def apply(self, event: events.Event) -> None:
        """Take an event into account. What says nothing new, such as a report about an old attempt, changes nothing."""
        self.time = max(self.time, event.time)
        self._apply(event)

    @singledispatchmethod
    def _apply(self, event: events.Event) -> None:
        raise TypeError(f"event: got {event!r}; must be one of the records of events.py")

    @_apply.register
    def _(self, event: events.Submitted) -> None:
        self.counters.submitted += 1
        self.waiting.append(event)
        self._admit()

    @_apply.register
    def _(self, event: events.Decided) -> None:
        slot = self.slot_of.get(event.service)
        if slot is None or self.decided[slot, event.microservice]:
            return
        self.counters.decisions += 1
        self.counters.late += event.late
        self.decided[slot, event.microservice] = True
        self.host[slot, event.microservice] = event.host
        self.work[slot] -= self.dags.load[slot, event.microservice]
        usage = _share_of_capacity(self.dags.demand[slot, event.microservice], self.site.host_capacity[event.host])
        self.bookings[event.run] = Booking(event, slot, usage)
        self.due[slot, event.microservice] = np.inf

    @_apply.register
    def _(self, event: events.Postponed) -> None:
        slot = self.slot_of.get(event.service)
        if slot is not None:
            self.counters.postponed += 1
            self.patience[slot] += 1
            self.postponed[slot, event.microservice] = event.until
            self._find_due(slot)

    @_apply.register
    def _(self, event: events.FlowStarted) -> None:
        if booking := self.bookings.get(event.run):
            booking.flow_started = event.time

    @_apply.register
    def _(self, event: events.FlowEnded) -> None:
        if booking := self.bookings.get(event.run):
            booking.flow_ended = event.time

    @_apply.register
    def _(self, event: events.ExecutionStarted) -> None:
        if booking := self.bookings.get(event.run):
            booking.started = event.time

    @_apply.register
    def _(self, event: events.ExecutionEnded) -> None:
        if booking := self.bookings.pop(event.run, None):
            slot = booking.slot
            self.finish[slot, event.microservice] = event.time
            self._find_due(slot)
            if (np.isfinite(self.finish[slot]) | (self.dags.in_degree[slot] < 0)).all():
                self.counters.completed += 1
                self.counters.completion += float(self.finish[slot].max() - self.release[slot])
                self._leave(slot)

    @_apply.register
    def _(self, event: events.Failed) -> None:
        booking = self.bookings.pop(event.run, None)
        if booking is None:
            return
        slot, microservice = booking.slot, event.microservice
        self.counters.failed += 1
        self.decided[slot, microservice] = False
        self.attempt[slot, microservice] += 1
        self.work[slot] += self.dags.load[slot, microservice]
        self.postponed[slot, microservice] = event.time + FIRST_PAUSE * 2.0**event.attempt
        self._find_due(slot)
        if event.gives_up:
            self.counters.given_up += 1
            self._leave(slot)

    @_apply.register
    def _(self, event: events.WorkerUp) -> None:
        self.up[event.host], self.down_since[event.host] = True, np.inf

    @_apply.register
    def _(self, event: events.WorkerDown) -> None:
        self.up[event.host], self.down_since[event.host] = False, event.time

    @_apply.register
    def _(self, event: events.LoadMeasured) -> None:
        num_links = self.site.config.max_links
        self.load.measure(event.time, {num_links + event.host: event.cpu, **event.links})

    @_apply.register
    def _(self, event: events.Carried) -> None:
        for name, value in event.counters.items():
            setattr(self.counters, name, getattr(self.counters, name) + value)
        self._measure(np.array(event.sums))

    def is_of_use(self, run: str) -> bool:
        """Whether a run, by its identifier, is or was the last attempt at a microservice of a service in flight."""
        service = events.service_of(run)
        slot = self.slot_of.get(service)
        attempts = () if slot is None else self.attempt[slot]
        return any(run == events.run_id(service, i, int(attempt)) for i, attempt in enumerate(attempts))

    def next_due(self) -> Due | None:
        """The microservice that is due first, as `dag.current_decision` chooses it; None if all are decided."""
        time = self.due.min()
        if not np.isfinite(time):
            return None
        slot = int(np.argmax((self.due == time).any(axis=1)))
        turn = np.where(self.due[slot] == time, self.dags.turn[slot], np.iinfo(np.int16).max)
        return Due(float(time), slot, int(np.argmin(turn)))

    def facts(self, now: float, current: tuple[int, int] = (-1, -1)) -> Facts:
        """What is known at a time in s, at which a slot's microservice is to be decided, as arrays of its own."""
        begin = np.floor(now / self.site.frame) * self.site.frame  # of the frame

        def since(times: Any) -> np.ndarray:
            return np.asarray(np.asarray(times) - begin, np.float32)

        known = self.release <= now
        flows, executions = _reservations(self, now, begin)
        facts = Facts(
            now=since(now),
            current=np.array(current, np.int32),
            may_postpone=self.patience[current[0]] < MOST_POSTPONED * self.dags.size[current[0]],
            dags=self.dags,
            source=self.source,
            release=np.where(known, since(self.release), np.float32(np.inf)),
            decided=self.decided,
            host=self.host,
            finish=since(self.finish),
            postponed=since(self.postponed),
            work=self.work,
            flows=flows,
            executions=executions,
            up=self.up,
            history=self.load.until(now),
            frame=np.float32(self.site.frame),
            time_unit=self.time_unit,
        )
        return jax.tree.map(np.array, facts)

    def _admit(self) -> None:
        """Give free slots, the lowest first, to services that wait, the oldest first."""
        while self.waiting and None in self.slots:
            event, slot = self.waiting.popleft(), self.slots.index(None)
            self.slots[slot], self.slot_of[event.service] = event, slot
            row = self.site.row(self.site.dag(event.spec))
            for table, new in zip(jax.tree.leaves(self.dags), jax.tree.leaves(row), strict=True):
                table[slot] = new[0]
            takes_time = (row.load > 0.0) | (row.data > 0.0)
            self._measure(np.array([row.load.sum(), row.data.sum(), takes_time.sum()], np.float64))
            self.release[slot] = event.time + event.spec.release
            self.source[slot], self.work[slot] = event.spec.source, self.dags.work[slot]
            self._find_due(slot)

    def _measure(self, sums: np.ndarray) -> None:
        """The unit of time that follows from further services and all before. It hardly changes after a few of them."""
        self.sums += sums
        load, data, count = self.sums.astype(np.float32)
        self.time_unit = np.float32(time_unit_of_sums(self.site.network, load=load, data=data, count=count))

    def _leave(self, slot: int) -> None:
        """Free the slot of a service that has ended, with everything that was known of it."""
        event = self.slots[slot]
        assert event is not None
        del self.slot_of[event.service]
        self.bookings = {run: booking for run, booking in self.bookings.items() if booking.slot != slot}
        self.slots[slot], self.release[slot], self.patience[slot] = None, np.inf, 0
        self.decided[slot], self.host[slot], self.attempt[slot] = False, 0, 0
        self.finish[slot], self.postponed[slot], self.due[slot] = -np.inf, -np.inf, np.inf
        self._admit()

    def _find_due(self, slot: int) -> None:
        """Find which of a service's microservices are due, and when."""
        preds, finished = self.dags.preds[slot], np.isfinite(self.finish[slot])
        candidate = ~self.decided[slot] & (self.dags.in_degree[slot] >= 0) & ~(preds & ~finished).any(axis=1)
        latest = np.where(preds, self.finish[slot], -np.inf).max(axis=1)
        ready = np.maximum(np.maximum(latest, self.postponed[slot]), self.release[slot])
        self.due[slot] = np.where(candidate, ready, np.inf)


class LoadHistory:
    """Measured loads of R resources, averaged over frames; where nothing was measured, the last load stays."""

    def __init__(self, resources: int, frame: float) -> None:
        self._frame = frame
        self._index = 0  # of the frame that is the last column
        self._share = np.zeros((resources, HISTORY), np.float32)
        self._count = np.zeros(resources, np.int64)  # of measurements in the last column

    def measure(self, time: float, shares: dict[int, float]) -> None:
        """Take in the shares of some resources at a time in s; an earlier frame is not changed any more."""
        index = int(time // self._frame)
        if index < self._index:
            return
        if index > self._index:
            self._share, self._index = self.until(time), index
            self._count[:] = 0
        for resource, share in shares.items():
            self._count[resource] += 1
            last = 0.0 if self._count[resource] == 1 else self._share[resource, -1]
            self._share[resource, -1] = last + (min(share, MOST_LOAD) - last) / self._count[resource]

    def until(self, time: float) -> np.ndarray:
        """(R, HISTORY) share in the frame of a time in s, the last column, and in those before it."""
        passed = min(max(int(time // self._frame) - self._index, 0), HISTORY)
        last = np.repeat(self._share[:, -1:], passed, axis=1)
        return np.concatenate([self._share[:, passed:], last], axis=1)


def _share_of_capacity(demand: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """(K,) `execution.share_of_capacity` as numpy."""
    share = np.divide(demand, capacity, out=np.zeros_like(demand), where=capacity > 0.0)
    return np.minimum(share, np.float32(1.0))


@dataclasses.dataclass
class _Row:
    """A row of `Reservations`, with times of the controller's clock."""

    booking: Booking
    start: float
    end: float
    runs: bool
    ready: float

    @property
    def place(self) -> tuple[bool, float]:
        """What it is sorted by."""
        return not self.runs, self.start


def _reservations(ledger: Ledger, now: float, begin: float) -> tuple[Reservations, Reservations]:
    """Flows and executions; times are relative to `begin` in s."""
    config = ledger.site.config
    size = config.num_services * config.max_microservices
    rows = [_rows(booking, now) for booking in ledger.bookings.values()]
    flows = sorted((flow for flow, _ in rows if flow is not None), key=lambda row: row.place)
    executions = sorted((execution for _, execution in rows), key=lambda row: row.place)
    flow_of = {row.booking.decided.run: i for i, row in enumerate(flows)}
    of_links = np.zeros((size, config.max_links), np.float32)
    for i, row in enumerate(flows):
        shares = row.booking.decided.links
        of_links[i, list(shares)] = list(shares.values())
    of_hosts = np.zeros((size, config.num_resources), np.float32)
    for i, row in enumerate(executions):
        of_hosts[i] = row.booking.usage
    waits_for = [flow_of.get(row.booking.decided.run, size) for row in executions]
    return (
        _packed(flows, begin, usage=of_links, waits_for=[size] * len(flows)),
        _packed(executions, begin, usage=of_hosts, waits_for=waits_for),
    )


def _packed(rows: list[_Row], begin: float, *, usage: np.ndarray, waits_for: list[int]) -> Reservations:
    """Rows as arrays of R = len(usage) rows, with times relative to `begin` in s."""

    def column(values: list[Any], kind: type[np.generic]) -> np.ndarray:
        array = np.zeros(len(usage), kind)
        array[: len(values)] = values
        return array

    decided = [row.booking.decided for row in rows]
    return Reservations(
        count=np.int32(len(rows)),
        start=column([row.start - begin for row in rows], np.float32),
        end=column([row.end - begin for row in rows], np.float32),
        usage=usage,
        runs=column([row.runs for row in rows], np.bool_),
        service=column([row.booking.slot for row in rows], np.int32),
        microservice=column([event.microservice for event in decided], np.int32),
        host=column([event.host for event in decided], np.int32),
        ready=column([row.ready - begin for row in rows], np.float32),
        flow=column(waits_for, np.int32),
    )


def _rows(booking: Booking, now: float) -> tuple[_Row | None, _Row]:
    """The rest of a flow, if it holds links, and of an execution, as they are expected now without any conflict."""
    event = booking.decided
    flow, ready = None, event.data_ready
    if booking.flow_ended is not None:
        ready = booking.flow_ended
    elif event.flow_end > event.flow_start and booking.started is None:
        later = _later(event.flow_start, event.data_ready, begun=booking.flow_started, now=now)
        start, end, ready = max(event.flow_start + later, now), event.flow_end + later, event.data_ready + later
        if end > now:
            flow = _Row(booking, start, end, runs=booking.flow_started is not None, ready=ready)
    later = _later(event.start, event.finish, begun=booking.started, now=now)
    start, end = max(event.start + later, now), event.finish + later
    return flow, _Row(booking, start, end, runs=booking.started is not None, ready=ready)


def _later(start: float, end: float, *, begun: float | None, now: float) -> float:
    """By how much later than decided something is expected to end that has not ended, s; negative for sooner."""
    if begun is None:
        return max(now - start, 0.0)
    later = begun - start
    overdue = now - (end + later)
    return later if overdue < 0.0 else later + overdue + max(LATE * (end - start), LEAST_LATE)
