"""A second simulator of the model, slow, in plain Python and float64, against which `jaxcec.env` is checked.

It shares neither code nor algorithms with `jaxcec.env`: reservations are a list of (start, end, usage), not a timeline;
routes are found by enumeration of paths, and the next microservice by inspection of all of them. Units are those of the
simulator: s, Mbit, Mbit/s, Mcycles, Mcycles/s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

TOLERANCE = 1e-5  # usage up to capacity * (1 + TOLERANCE) fits
LEAST_FRACTION = 1e-3  # least bandwidth fraction eta; smaller ones are clipped to it
LONGEST_HOLD = 1e9  # s; longer holds are clipped to it
LEAST_DELAY = 1e-3  # s, of a postponement; shorter ones are raised to it, and to LEAST_DELAY_SHARE of the instant
LEAST_DELAY_SHARE = 1e-6


@dataclass(frozen=True)
class Record:
    """One decision and its outcome; times in s.

    If it was postponed, `flow_start`, `data_ready`, `start` and `finish` are the time at which it is due again.
    """

    time: float  # t of the decision
    service: int
    microservice: int
    host: int  # edge node 0..V-1, or end device V..2V-1
    flow_start: float  # s; flow_start - time is the hold
    data_ready: float  # d = s + tau + latency
    start: float  # of the execution; start - data_ready is the waiting time W
    finish: float  # FT
    act_reward: float = 0.0  # minus the increase of the service's completion time TT_i
    finish_reward: float = 0.0  # minus the time until the finish, or until the decision is due again
    decided: bool = True
    postponed: bool = False
    redirected: bool = False  # the host that the action named cannot run the microservice
    invalid: bool = False  # the action had a NaN or an infinite number


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


def link_resources(links: Sequence[tuple[Any, ...]]) -> list[tuple[float, float]]:
    """Capacity in Mbit/s and latency in s of each link resource.

    The resources are in the order of the entries. An entry with a pair of rates is full duplex and has two resources,
    first the one from its first node to its second; any other entry has one, which both directions share.
    """
    return [(rate, latency) for _, _, rates, latency in map(complete, links) for rate in rates]


def directions(links: Sequence[tuple[Any, ...]]) -> list[tuple[int, int, int]]:
    """Both directions of every link: the node that sends, the node that receives, and the link resource used."""
    result = []
    resource = 0
    for a, b, rates, _ in map(complete, links):
        result += [(a, b, resource), (b, a, resource + len(rates) - 1)]
        resource += len(rates)
    return result


def complete(link: tuple[Any, ...]) -> tuple[int, int, list[float], float]:
    """The two nodes of a link entry, the rates of its one or two resources, and its latency, 0 s by default."""
    a, b, rate, *latency = link
    rates = list(rate) if isinstance(rate, tuple | list) else [rate]
    return a, b, rates, latency[0] if latency else 0.0


def shortest_route(links: Sequence[tuple[Any, ...]], source: int, target: int) -> list[int]:
    """Link resources on the path from `source` to `target`, of the directions travelled.

    The path has the fewest hops, then the largest bottleneck, then the lowest node sequence.
    """
    resources, ways = link_resources(links), directions(links)

    def preference(path: tuple[list[int], list[int]]) -> tuple[float, list[int]]:
        nodes, route = path
        return -min((resources[e][0] for e in route), default=math.inf), nodes

    paths: list[tuple[list[int], list[int]]] = [([source], [])]  # nodes and resources of all simple paths of one length
    while paths:
        arrived = [path for path in paths if path[0][-1] == target]
        if arrived:
            return min(arrived, key=preference)[1]
        paths = [
            ([*nodes, far], [*route, e])
            for nodes, route in paths
            for near, far, e in ways
            if near == nodes[-1] and far not in nodes
        ]
    raise ValueError(f"no path from node {source} to node {target}")


def predecessors(service: dict[str, Any], microservice: int) -> list[int]:
    """The microservices that must finish before this one, whether or not they send it anything."""
    return list(service["inputs" if "inputs" in service else "preds"][microservice])


def parcels(service: dict[str, Any], microservice: int) -> list[tuple[int | None, float]]:
    """The input of a microservice: the predecessor that sends it, or None for external input, and Mbit."""
    if "inputs" in service:
        external = service["external"][microservice] if service.get("external") is not None else 0.0
        return [*service["inputs"][microservice].items(), (None, external)]
    preds, data = service["preds"][microservice], service["data"][microservice]
    return [(k, data / len(preds)) for k in preds] if preds else [(None, data)]


def upward_rank(service: dict[str, Any], microservice: int) -> float:
    """Mcycles on the longest path from the microservice to the end of its service, its own load included."""
    size = len(service["load"])
    after = [upward_rank(service, j) for j in range(size) if microservice in predecessors(service, j)]
    return service["load"][microservice] + max(after, default=0.0)


def finite(value: float, otherwise: float) -> float:
    """A field of an action, or its replacement if it is NaN or infinite."""
    return value if math.isfinite(value) else otherwise


class Oracle:
    """One episode of the model.

    Args:
        instance: the arguments of `jaxcec.env.build_instance`: `links` [(a, b, rate) or (a, b, rate, latency)], the
            rate a pair (a to b, b to a) if the link is full duplex; `node_speed` and `device_speed` per edge node, 0
            where nothing runs; `capacity` [[cpu, memory]] per edge node; `services` [{release, source, load, demand}],
            each with {preds, data} or {inputs, external}; `ties` "index" or "rank".
        link_load: background load of link resource e (see `link_resources`) at time t, in [0, 0.9].
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
        self.bandwidth = [rate for rate, _ in link_resources(self.links)]
        self.latency = [latency for _, latency in link_resources(self.links)]
        self.services = instance["services"]
        self.by_rank = instance.get("ties", "index") == "rank"
        self.num_nodes = len(instance["node_speed"])
        self.speed = [*instance["node_speed"], *instance["device_speed"]]
        kinds = len(instance["capacity"][0])
        self.capacity = [*instance["capacity"], *[[1.0] * kinds for _ in range(self.num_nodes)]]
        self.link_load, self.host_load, self.rounding = link_load, host_load, rounding
        self.traffic = Reservations(self.bandwidth, rounding)
        self.running = [Reservations(capacity, rounding) for capacity in self.capacity]
        self.records: dict[tuple[int, int], Record] = {}  # by (service, microservice)
        self.put_off: dict[tuple[int, int], float] = {}  # s, when a postponed decision is due again

    def ready(self, service: int, microservice: int) -> float | None:
        """When all predecessors of the microservice have finished; None while one of them is undecided."""
        preds = [(service, k) for k in predecessors(self.services[service], microservice)]
        if any(pred not in self.records for pred in preds):
            return None
        return max([self.services[service]["release"], *(self.records[pred].finish for pred in preds)])

    def current(self) -> tuple[int, int, float] | None:
        """Service, microservice and time of the next decision; None after termination."""
        due = []
        for i, service in enumerate(self.services):
            for j in range(len(service["load"])):
                ready = self.ready(i, j)
                if (i, j) not in self.records and ready is not None:
                    rank = upward_rank(service, j) if self.by_rank else 0.0
                    due.append((self.put_off.get((i, j), ready), i, -rank, j))
        if not due:
            return None
        time, service, _, microservice = min(due)
        return service, microservice, time

    def holders(self, service: int, microservice: int) -> list[tuple[int, float]]:
        """The node at which each part of the microservice's input lies, and its Mbit; all of them are positive."""
        job = self.services[service]
        # An end device counts as its edge node: there is no link between them.
        return [
            (job["source"] if k is None else self.records[service, k].host % self.num_nodes, data)
            for k, data in parcels(job, microservice)
            if data > 0
        ]

    def coflow(self, service: int, microservice: int, host: int) -> list[float]:
        """Mbit that cross each link resource to bring the microservice's input to the host."""
        volume = [0.0] * len(self.bandwidth)
        for holder, data in self.holders(service, microservice):
            for e in shortest_route(self.links, holder, host % self.num_nodes):
                volume[e] += data
        return volume

    def propagation(self, service: int, microservice: int, host: int) -> float:
        """The greatest latency of the paths that the microservice's input takes to the host; 0 if nothing moves."""
        return max(
            (self.path_latency(holder, host % self.num_nodes) for holder, _ in self.holders(service, microservice)),
            default=0.0,
        )

    def path_latency(self, source: int, target: int) -> float:
        """Latency of the path between two nodes; 0 from a node to itself."""
        return sum(self.latency[e] for e in shortest_route(self.links, source, target))

    def feasible(self, service: int, microservice: int, host: int) -> bool:
        """Whether the host can run the microservice; an end device runs any demand, alone if it must."""
        job = self.services[service]
        if job["load"][microservice] > 0 and self.speed[host] == 0:
            return False
        asked = job["demand"][microservice]
        return host >= self.num_nodes or all(r <= c for r, c in zip(asked, self.capacity[host], strict=True))

    def runs_at(self, service: int, microservice: int, host: int) -> int:
        """The host itself, or the one to which the decision is redirected because the host cannot run it."""
        if self.feasible(service, microservice, host):
            return host
        for node in range(self.num_nodes):
            if self.feasible(service, microservice, node):
                return node
        return self.num_nodes + self.services[service]["source"]

    def demand(self, service: int, microservice: int, host: int) -> list[float]:
        """Resources of the host that the microservice holds while it runs, at most all of them."""
        asked = self.services[service]["demand"][microservice]
        return [min(r, capacity) for r, capacity in zip(asked, self.capacity[host], strict=True)]

    def earliest_flow(self, volume: Sequence[float], time: float, eta: float, eps: float) -> tuple[float, float]:
        """Start and end of a coflow decided at `time`; the end is when its links are free again."""
        held_until = time + min(max(eps, 0.0), LONGEST_HOLD)
        if not any(volume):
            return held_until, held_until
        offered = [bandwidth * (1 - self.link_load(e, time)) for e, bandwidth in enumerate(self.bandwidth)]
        bottleneck = max(x / c for x, c in zip(volume, offered, strict=True))  # G
        tau = bottleneck / min(max(eta, LEAST_FRACTION), 1.0)
        start = self.traffic.earliest_start([x / tau for x in volume], held_until, tau)
        return start, start + tau

    def earliest_execution(
        self, service: int, microservice: int, host: int, time: float, ready: float
    ) -> tuple[float, float]:
        """Start and finish of an execution decided at `time` whose data arrive at `ready`."""
        load = self.services[service]["load"][microservice]
        if load == 0:
            return ready, ready  # also on a host of speed 0
        duration = load / (self.speed[host] * (1 - self.host_load(host, time)))
        usage = self.demand(service, microservice, host)
        start = self.running[host].earliest_start(usage, ready, duration)
        return start, start + duration

    def would(self, host: int, eta: float, eps: float, postpone: float | None = None) -> Record:
        """The outcome of the current decision, given all committed decisions; commits nothing.

        Args:
            host: clipped to 0..2V-1.
            eta: bandwidth fraction, clipped to [1e-3, 1].
            eps: hold of the flow in s, clipped to [0, 1e9].
            postpone: s; positive to take the decision later.
        """
        current = self.current()
        assert current is not None, "every microservice is decided"
        delay = 0.0 if postpone is None else postpone
        invalid = not all(math.isfinite(value) for value in (eta, eps, delay))
        eta, eps, delay = finite(eta, 1.0), finite(eps, 0.0), finite(delay, 0.0)
        host = min(max(host, 0), 2 * self.num_nodes - 1)
        record = self.would_postpone(*current, host, delay) if delay > 0 else self.would_book(*current, host, eta, eps)
        return replace(record, invalid=invalid)

    def would_postpone(self, service: int, microservice: int, time: float, host: int, delay: float) -> Record:
        """The record of a decision that is put off at `time`; the host is the one that the action named."""
        due = time + max(delay, LEAST_DELAY, LEAST_DELAY_SHARE * time)
        record = Record(time, service, microservice, host, due, due, due, due, finish_reward=time - due)
        return replace(record, decided=False, postponed=True)

    def would_book(self, service: int, microservice: int, time: float, asked: int, eta: float, eps: float) -> Record:
        """The outcome of a decision taken at `time`, on the host asked for if it is feasible."""
        host = self.runs_at(service, microservice, asked)
        flow_start, flow_end = self.earliest_flow(self.coflow(service, microservice, host), time, eta, eps)
        data_ready = flow_end + self.propagation(service, microservice, host)
        start, finish = self.earliest_execution(service, microservice, host, time, data_ready)
        before = self.completion(service)
        after = max(before, finish - self.services[service]["release"])
        record = Record(
            time, service, microservice, host, flow_start, data_ready, start, finish, before - after, time - finish
        )
        return replace(record, redirected=host != asked)

    def commit(self, record: Record) -> None:
        """Reserve a decision, of this oracle or of another simulator, at its recorded times.

        A postponed decision reserves nothing and is due again at its recorded finish.
        """
        what = record.service, record.microservice
        if record.postponed:
            self.put_off[what] = record.finish
            return
        volume = self.coflow(*what, record.host)
        if any(volume):
            latency = self.propagation(*what, record.host)
            # Recorded times may be rounded: assume the longest flow that they may represent, hence the least rates. The
            # latency was added to the flow's end and rounded with it, which may have made the end later.
            tau = record.data_ready - latency - record.flow_start + self.rounding * record.data_ready
            end = record.data_ready - latency - self.rounding * latency
            self.traffic.reserve([x / tau for x in volume], record.flow_start, end)
        self.running[record.host].reserve(self.demand(*what, record.host), record.start, record.finish)
        self.records[what] = record

    def decide(self, host: int, eta: float, eps: float, postpone: float | None = None) -> Record:
        """Take the current decision, or put it off, and commit it."""
        record = self.would(host, eta, eps, postpone)
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
