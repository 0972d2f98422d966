"""Data of the scalar simulator: the banks with lists instead of masks, and the state of one episode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxcec.env import EnvConfig, EnvParams

Float = Any  # a float32 scalar
# float32, because numba widens float32 with a Python number to float64
ZERO, ONE, NEVER, TOLERANCE = np.float32(0.0), np.float32(1.0), np.float32(np.inf), np.float32(1e-5)


class Lists(NamedTuple):
    """The indices set in each row of a mask, row after row: row r is `item[begin[r] : begin[r + 1]]`."""

    begin: Any
    item: Any


class Bank(NamedTuple):
    """The banks of `EnvParams` with lists instead of masks; letters of the shapes as in jaxcec/env/types.py."""

    bandwidth: Any  # (G, E) Mbit/s
    route: Lists  # row (g V + a) V + b: links on the path from a to b
    speed: Any  # (G, H) Mcycles/s
    capacity: Any  # (G, H, K)
    size: Any  # (S,)
    preds: Lists  # row s N + j
    successors: Lists  # row s N + j
    load: Any  # (S, N) Mcycles
    data: Any  # (S, N) Mbit
    demand: Any  # (S, N, K)
    in_degree: Any  # (S, N)
    entry: Any  # (S,)
    dag: Any  # (A, M)
    source: Any  # (A, M)
    release: Any  # (A, M) s
    offered: Any  # (B, F) share that other tenants leave free
    frame: Any  # s


class Episodes(NamedTuple):
    """Rows of the banks for n episodes."""

    topology: Any  # (n,)
    arrivals: Any  # (n,)
    trace: Any  # (n, E + H) background trace of each link and host
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
    """Free shares of R resources as step functions of time, each a list of segments in order of time.

    Splitting a segment shifts only times and slot numbers; the free shares stay in their slots.
    """

    count: Any  # (T,) live segments
    times: Any  # (T, Q + 2) s, when each begins
    slot: Any  # (T, Q + 2), a permutation; the slots after the live ones are unused
    free: Any  # (T, Q + 2, R) share, by slot


class Requests(NamedTuple):
    """Resource demands of the current coflow, one row for each target node, or of its execution, one for each host."""

    count: Any  # (T,) resources requested
    resource: Any  # (T, R)
    usage: Any  # (T, R) share


class State(NamedTuple):
    """Everything that changes during an episode; allocated once."""

    links: Timelines  # T = 1
    hosts: Timelines
    coflow: Requests
    execution: Requests
    next_ready: Any  # (M,) s, ready time of the service's next microservice; inf when all are decided
    next_microservice: Any  # (M,)
    completion: Any  # (M,) s
    pending: Any  # (M, N) predecessors still undecided; -1 on decided microservices and padding
    ready: Any  # (M, N) s
    node: Any  # (M, N) node that holds a decided microservice's output
    inputs: Any  # (V,) Mbit of the input of the current microservice at each node
    traffic: Any  # (E,) Mbit; all zero except within `request_coflow`


class Decision(NamedTuple):
    """The current microservice."""

    service: Any
    microservice: Any
    dag: Any
    time: Any  # s
    elapsed: Any  # frames of the background, modulo F


class Placement(NamedTuple):
    """The flow and execution of the current microservice on a host; times in s."""

    host: Any
    flow_start: Any
    data_ready: Any
    start: Any
    finish: Any


def lists(mask: np.ndarray) -> Lists:
    """Lists of the last axis; unsigned, so that numba need not handle negative indices."""
    rows = mask.reshape(-1, mask.shape[-1])
    begin = np.concatenate([[0], np.cumsum(rows.sum(axis=1))])
    return Lists(begin.astype(np.uint32), np.nonzero(rows)[1].astype(np.uint16))


def unpacked(route: np.ndarray) -> np.ndarray:
    """Unpack the bits of `Network.route`, (G, W, V, E), to (G, V, V, E) bool: links on the path from a to b."""
    starts = np.arange(route.shape[2])
    words = route[:, starts // 32]  # (G, V from, V to, E)
    return (words >> (starts % 32).astype(np.uint32)[:, None, None]) & 1 > 0


def make_bank(params: EnvParams) -> Bank:
    """Convert the banks of an `EnvParams` to numpy arrays."""
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


def make_state(config: EnvConfig) -> State:
    """Allocate the state of one episode with the sizes of an `EnvConfig`."""
    nodes, links, kinds, hosts = config.num_nodes, config.max_links, config.num_resources, config.num_hosts
    table = (config.num_services, config.max_microservices)

    def timelines(rows: int, breakpoints: int, resources: int) -> Timelines:
        columns = breakpoints + 2  # a reservation adds two at most
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
