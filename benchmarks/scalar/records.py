"""What the scalar simulator keeps in memory: the banks with lists for masks, and room for one episode."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# numba widens float32 with a Python number to float64
ZERO, ONE, NEVER, TOLERANCE = np.float32(0.0), np.float32(1.0), np.float32(np.inf), np.float32(1e-5)


class Lists(NamedTuple):
    """What each row of a mask holds, row after row: row r is `item[begin[r] : begin[r + 1]]`."""

    begin: Any
    item: Any


class Bank(NamedTuple):
    """The banks of `EnvParams`, with lists for masks; letters of the shapes as in jaxcec/env/types.py."""

    bandwidth: Any  # (G, E) Mbit/s
    route: Lists  # row (g V + a) V + b: links on the path from a to b
    speed: Any  # (G, H) Mcycles/s
    capacity: Any  # (G, H, K)
    size: Any  # (S,)
    preds: Lists  # row s N + j
    successors: Lists  # likewise
    load: Any  # (S, N) Mcycles
    data: Any  # (S, N) Mbit
    demand: Any  # (S, N, K)
    in_degree: Any  # (S, N)
    entry: Any  # (S,)
    dag: Any  # (A, M)
    source: Any  # (A, M)
    release: Any  # (A, M) s
    offered: Any  # (B, F) share that other tenants leave
    frame: Any  # s


class Episodes(NamedTuple):
    """Rows of the banks that make n episodes."""

    topology: Any  # (n,)
    arrivals: Any  # (n,)
    trace: Any  # (n, E + H) of each link's and host's background
    phase: Any  # (n, E + H), frame of the trace at time 0


class Episode(NamedTuple):
    """One episode's rows of the banks."""

    topology: Any
    bandwidth: Any  # (E,)
    speed: Any  # (H,)
    capacity: Any  # (H, K)
    dag: Any  # (M,)
    source: Any  # (M,)
    release: Any  # (M,)
    trace: Any  # (E + H,)
    phase: Any  # (E + H,)


class Timelines(NamedTuple):
    """Step functions of what R resources have free, each a list of segments in order of time.

    Only times and slots shift when a segment is split; the slot, where its free shares lie, stays where it is.
    """

    count: Any  # (T,) live segments
    times: Any  # (T, Q + 2) s, when each begins
    slot: Any  # (T, Q + 2), a permutation: the slots after the live ones are unused
    free: Any  # (T, Q + 2, R) share, by slot


class Requests(NamedTuple):
    """What a coflow asks of links, one row for each edge node it could go to; or an execution, one for each host."""

    count: Any  # (T,) resources asked for
    resource: Any  # (T, R)
    usage: Any  # (T, R) share


class State(NamedTuple):
    """Everything that changes in an episode, allocated once."""

    links: Timelines  # T = 1
    hosts: Timelines
    coflow: Requests
    execution: Requests
    next_ready: Any  # (M,) s, of the service's next microservice; inf when all are decided
    next_microservice: Any  # (M,)
    completion: Any  # (M,) s
    pending: Any  # (M, N) predecessors still undecided; -1 on decided microservices and padding
    ready: Any  # (M, N) s
    node: Any  # (M, N) where a decided microservice's output lies
    inputs: Any  # (V,) Mbit of the input of the microservice at hand
    traffic: Any  # (E,) Mbit; all zero but within `request_coflow`


class Decision(NamedTuple):
    """The microservice at hand."""

    service: Any
    microservice: Any
    dag: Any
    time: Any  # s
    elapsed: Any  # frames of the background, modulo F


class Placement(NamedTuple):
    """What would become of it on a host; times in s."""

    host: Any
    flow_start: Any
    data_ready: Any
    start: Any
    finish: Any


def lists(mask: np.ndarray) -> Lists:
    """Lists of the last axis; unsigned, so that numba need not look for negative indices."""
    rows = mask.reshape(-1, mask.shape[-1])
    begin = np.concatenate([[0], np.cumsum(rows.sum(axis=1))])
    return Lists(begin.astype(np.uint32), np.nonzero(rows)[1].astype(np.uint16))


def unpacked(route: np.ndarray) -> np.ndarray:
    """(G, V, V, E) bool, links on the path from a to b, of the bits of `Network.route`, (G, W, V, E)."""
    starts = np.arange(route.shape[2])
    words = route[:, starts // 32]  # (G, V from, V to, E)
    return (words >> (starts % 32).astype(np.uint32)[:, None, None]) & 1 > 0


def make_bank(params: Any) -> Bank:
    """The banks of an `EnvParams` as numpy arrays."""
    network, dags, arrivals = params.network, params.dags, params.arrivals
    preds = np.asarray(dags.preds)
    columns = dict(
        bandwidth=network.bandwidth,
        speed=network.speed,
        capacity=network.capacity,
        size=dags.size,
        load=dags.load,
        data=dags.data,
        demand=dags.demand,
        in_degree=dags.in_degree,
        entry=dags.entry,
        dag=arrivals.dag,
        source=arrivals.source,
        release=arrivals.release / params.arrival_rate,
        offered=1.0 - params.background.load,
    )
    return Bank(
        **{name: np.asarray(column) for name, column in columns.items()},
        frame=np.float32(params.background.frame),
        route=lists(unpacked(np.asarray(network.route))),
        preds=lists(preds),
        successors=lists(preds.swapaxes(1, 2)),
    )


def make_state(config: Any) -> State:
    """Room for one episode of an `EnvConfig`'s sizes."""
    nodes, links, kinds, hosts = config.num_nodes, config.max_links, config.num_resources, config.num_hosts
    table = (config.num_services, config.max_microservices)

    def timelines(rows: int, breakpoints: int, resources: int) -> Timelines:
        columns = breakpoints + 2  # as many as one reservation adds
        slot = np.tile(np.arange(columns, dtype=np.uint16), (rows, 1))
        free = np.empty((rows, columns, resources), np.float32)
        return Timelines(np.empty(rows, np.int64), np.empty((rows, columns), np.float32), slot, free)

    def requests(rows: int, resources: int) -> Requests:
        resource = np.tile(np.arange(resources, dtype=np.uint16), (rows, 1))
        return Requests(np.full(rows, resources, np.int64), resource, np.empty((rows, resources), np.float32))

    return State(
        links=timelines(1, config.link_breakpoints, links),
        hosts=timelines(hosts, config.host_breakpoints, kinds),
        coflow=requests(nodes, links),
        execution=requests(hosts, kinds),
        next_ready=np.empty(table[0], np.float32),
        next_microservice=np.empty(table[0], np.uint16),
        completion=np.empty(table[0], np.float32),
        pending=np.empty(table, np.int16),
        ready=np.empty(table, np.float32),
        node=np.empty(table, np.uint16),
        inputs=np.empty(nodes, np.float32),
        traffic=np.zeros(links, np.float32),
    )
