"""A second simulator of the model, slow, in plain Python and float64, against which `jaxcec.env` is checked.

It shares neither code nor algorithms with `jaxcec.env`: reservations are a list of (start, end, usage), not a timeline;
routes are found by enumeration of paths, and the next microservice by inspection of all of them. Units are those of the
simulator: s, Mbit, Mbit/s, Mcycles, Mcycles/s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

TOLERANCE = 1e-5  # usage up to capacity * (1 + TOLERANCE) fits
LEAST_FRACTION = 1e-3  # least bandwidth fraction eta; smaller ones are clipped to it


@dataclass(frozen=True)
class Record:
    """One decision and its outcome; times in s."""

    time: float  # t of the decision
    service: int
    microservice: int
    host: int  # edge node 0..V-1, or end device V..2V-1
    flow_start: float  # s; flow_start - time is the hold
    data_ready: float  # d = s + tau
    start: float  # of the execution; start - data_ready is the waiting time W
    finish: float  # FT
    act_reward: float = 0.0  # minus the increase of the service's completion time TT_i
    finish_reward: float = 0.0  # minus the time from ready to finish


class Reservations:
    """Reservations of one or more cumulative resources.

    Args:
        capacity: of each resource, at any instant.
        rounding: shorter overlaps, relative to the instant, are ignored. 0 is exact; reservations rounded to float32
            may overlap by an ulp.
    """

    def __init__(self, capacity: Sequence[float], rounding: float = 0.0) -> None:
        self.capacity = capacity
        self.rounding = rounding
        self.held: list[tuple[float, float, Sequence[float]]] = []  # (start, end, usage of each resource)

    def reserve(self, usage: Sequence[float], start: float, end: float) -> None:
        """Hold `usage` of each resource during [start, end)."""
        self.held.append((start, end, usage))

    def pieces(self, start: float, end: float) -> list[tuple[float, list[float]]]:
        """Split [start, end) where a reservation begins or ends; return the beginning and the usage of each piece."""
        overlapping = [held for held in self.held if held[0] < end and start < held[1]]
        inside = {instant for held in overlapping for instant in held[:2] if start < instant < end}
        result = []
        for left, right in pairwise(sorted({start, end} | inside)):
            if right - left > self.rounding * abs(right):
                active = [usage for begin, finish, usage in overlapping if begin <= left and right <= finish]
                result.append((left, [sum(usage[k] for usage in active) for k in range(len(self.capacity))]))
        return result

    def fits(self, usage: Sequence[float], start: float, end: float) -> bool:
        """Whether `usage` is available throughout [start, end); resources that it does not use do not matter."""
        return all(
            used[k] + usage[k] <= self.capacity[k] * (1 + TOLERANCE)
            for _, used in self.pieces(start, end)
            for k in range(len(self.capacity))
            if usage[k] > 0
        )

    def earliest_start(self, usage: Sequence[float], not_before: float, duration: float) -> float:
        """The first instant from which `usage` is available for `duration`.

        Availability only increases when a reservation ends, so the candidates are `not_before` and these ends.
        """
        ends = {end for _, end, _ in self.held if end > not_before}
        for candidate in [not_before, *sorted(ends)]:
            if self.fits(usage, candidate, candidate + duration):
                return candidate
        raise ValueError(f"usage {usage} exceeds the capacity {self.capacity}")

    def check(self, tolerance: float) -> None:
        """Assert that the usage of no resource ever exceeds capacity * (1 + tolerance)."""
        first = min((start for start, _, _ in self.held), default=0.0)
        last = max((end for _, end, _ in self.held), default=0.0)
        for instant, used in self.pieces(first, last):
            for k, capacity in enumerate(self.capacity):
                assert used[k] <= capacity * (1 + tolerance), f"{used[k]} of {capacity} used from {instant} s (no. {k})"


def shortest_route(links: Sequence[tuple[int, int, float]], source: int, target: int) -> list[int]:
    """Links on the path from `source` to `target`: fewest hops, then largest bottleneck, then lowest node sequence."""

    def preference(path: tuple[list[int], list[int]]) -> tuple[float, list[int]]:
        nodes, route = path
        return -min((links[e][2] for e in route), default=math.inf), nodes

    paths: list[tuple[list[int], list[int]]] = [([source], [])]  # nodes and links of all simple paths of one length
    while paths:
        arrived = [path for path in paths if path[0][-1] == target]
        if arrived:
            return min(arrived, key=preference)[1]
        paths = [
            ([*nodes, far], [*route, e])
            for nodes, route in paths
            for e, (a, b, _) in enumerate(links)
            for near, far in ((a, b), (b, a))
            if near == nodes[-1] and far not in nodes
        ]
    raise ValueError(f"no path from node {source} to node {target}")


class Oracle:
    """One episode of the model.

    Args:
        instance: `links` [(a, b, Mbit/s)], `node_speed` and `device_speed` per edge node, `capacity` [[cpu, memory]]
            per edge node, `services` [{release, source, preds, load, data, demand}]; see `jaxcec.env.build_instance`.
        link_load: background load of link e at time t, in [0, 0.9].
        host_load: background load of host h at time t, in [0, 0.9].
        rounding: see `Reservations`; positive to follow the committed decisions of a float32 simulator.
    """

    def __init__(
        self,
        instance: dict[str, Any],
        link_load: Callable[[int, float], float] = lambda e, t: 0.0,
        host_load: Callable[[int, float], float] = lambda h, t: 0.0,
        rounding: float = 0.0,
    ) -> None:
        self.links = instance["links"]
        self.services = instance["services"]
        self.num_nodes = len(instance["node_speed"])
        self.speed = [*instance["node_speed"], *instance["device_speed"]]
        kinds = len(instance["capacity"][0])
        self.capacity = [*instance["capacity"], *[[1.0] * kinds for _ in range(self.num_nodes)]]
        self.link_load, self.host_load, self.rounding = link_load, host_load, rounding
        self.traffic = Reservations([bandwidth for _, _, bandwidth in self.links], rounding)
        self.running = [Reservations(capacity, rounding) for capacity in self.capacity]
        self.records: dict[tuple[int, int], Record] = {}  # by (service, microservice)

    def ready(self, service: int, microservice: int) -> float | None:
        """When all predecessors of the microservice have finished; None while one of them is undecided."""
        preds = [(service, k) for k in self.services[service]["preds"][microservice]]
        if any(pred not in self.records for pred in preds):
            return None
        return max([self.services[service]["release"], *(self.records[pred].finish for pred in preds)])

    def current(self) -> tuple[int, int, float] | None:
        """Service, microservice and time of the next decision; None after termination."""
        ready = [
            (time, i, j)
            for i, service in enumerate(self.services)
            for j in range(len(service["load"]))
            if (i, j) not in self.records and (time := self.ready(i, j)) is not None
        ]
        if not ready:
            return None
        time, service, microservice = min(ready)
        return service, microservice, time

    def coflow(self, service: int, microservice: int, host: int) -> list[float]:
        """Mbit that cross each link to bring the microservice's input to the host."""
        job = self.services[service]
        # An end device counts as its edge node: there is no link between them.
        holders = [self.records[service, k].host % self.num_nodes for k in job["preds"][microservice]] or [
            job["source"]
        ]
        volume = [0.0] * len(self.links)
        for holder in holders:
            for e in shortest_route(self.links, holder, host % self.num_nodes):
                volume[e] += job["data"][microservice] / len(holders)
        return volume

    def demand(self, service: int, microservice: int, host: int) -> list[float]:
        """Resources of the host that the microservice holds while it runs, at most all of them."""
        asked = self.services[service]["demand"][microservice]
        return [min(r, capacity) for r, capacity in zip(asked, self.capacity[host], strict=True)]

    def earliest_flow(self, volume: Sequence[float], time: float, eta: float, eps: float) -> tuple[float, float]:
        """Start of a coflow decided at `time`, and the arrival of its data."""
        if not any(volume):
            return time, time
        offered = [bandwidth * (1 - self.link_load(e, time)) for e, (_, _, bandwidth) in enumerate(self.links)]
        bottleneck = max(x / c for x, c in zip(volume, offered, strict=True))  # G
        tau = bottleneck / min(max(eta, LEAST_FRACTION), 1.0)
        start = self.traffic.earliest_start([x / tau for x in volume], time + max(eps, 0.0), tau)
        return start, start + tau

    def earliest_execution(
        self, service: int, microservice: int, host: int, time: float, ready: float
    ) -> tuple[float, float]:
        """Start and finish of an execution decided at `time` whose data arrive at `ready`."""
        speed = self.speed[host] * (1 - self.host_load(host, time))
        duration = self.services[service]["load"][microservice] / speed
        if duration == 0:
            return ready, ready
        usage = self.demand(service, microservice, host)
        start = self.running[host].earliest_start(usage, ready, duration)
        return start, start + duration

    def would(self, host: int, eta: float, eps: float) -> Record:
        """The outcome of the current decision, given all committed decisions; commits nothing."""
        current = self.current()
        assert current is not None, "every microservice is decided"
        service, microservice, time = current
        host = min(max(host, 0), 2 * self.num_nodes - 1)
        flow_start, data_ready = self.earliest_flow(self.coflow(service, microservice, host), time, eta, eps)
        start, finish = self.earliest_execution(service, microservice, host, time, data_ready)
        before = self.completion(service)
        after = max(before, finish - self.services[service]["release"])
        return Record(
            time, service, microservice, host, flow_start, data_ready, start, finish, before - after, time - finish
        )

    def commit(self, record: Record) -> None:
        """Reserve a decision, of this oracle or of another simulator, at its recorded times."""
        volume = self.coflow(record.service, record.microservice, record.host)
        if any(volume):
            # Recorded times may be rounded: assume the longest flow that they may represent, hence the least rates.
            tau = record.data_ready - record.flow_start + self.rounding * record.data_ready
            self.traffic.reserve([x / tau for x in volume], record.flow_start, record.data_ready)
        usage = self.demand(record.service, record.microservice, record.host)
        self.running[record.host].reserve(usage, record.start, record.finish)
        self.records[record.service, record.microservice] = record

    def decide(self, host: int, eta: float, eps: float) -> Record:
        """Take the current decision and commit it."""
        record = self.would(host, eta, eps)
        self.commit(record)
        return record

    def completion(self, service: int) -> float:
        """TT_i so far: the latest finish minus the release; 0 before the first decision."""
        finishes = [record.finish for record in self.records.values() if record.service == service]
        return max(finishes) - self.services[service]["release"] if finishes else 0.0

    def act(self) -> float:
        """Average completion time over all services."""
        return sum(self.completion(i) for i in range(len(self.services))) / len(self.services)

    def check_capacity(self, tolerance: float = 1e-4) -> None:
        """Assert Eq. 8 (every host) and Eq. 9 (every link) at every instant."""
        for reservations in [self.traffic, *self.running]:
            reservations.check(tolerance)
