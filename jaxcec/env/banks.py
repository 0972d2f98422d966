"""Banks of topologies and of DAGs, packed on the host from plain lists, with the quantities derived from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import chex
import jax.numpy as jnp
import networkx as nx
import numpy as np

from jaxcec.env.routing import Link, packed, resources, routes
from jaxcec.env.types import Dags, Network

Ties = Literal["index", "rank"]
USUAL_TIME = 64.0  # s, `time_unit` of the scenario `calibrated`
_TIMES = (2.0**-29, 2.0**30)  # s, least and largest `time_unit`


@dataclasses.dataclass(frozen=True)
class Topology:
    """One collaborative edge network of V edge nodes, each with one end device attached."""

    links: Sequence[Link]
    node_speed: np.ndarray  # (V,) Mcycles/s; 0 of a router
    device_speed: np.ndarray  # (V,) Mcycles/s; 0 if there is no end device
    capacity: np.ndarray  # (V, K) resources of each edge node; an end device has one unit of each


@dataclasses.dataclass(frozen=True)
class Dag:
    """One service of n microservices, in any order."""

    preds: Sequence[Sequence[int]]  # of each microservice, those that must finish before it starts
    load: np.ndarray  # (n,) Mcycles
    data: np.ndarray  # (n,) Mbit of input
    demand: np.ndarray  # (n, K) resources held while running
    # Mbit that each predecessor sends, and that lie at the source. By default every predecessor sends an equal share of
    # `data`, and the input of a microservice without predecessors lies at the source.
    sent: Sequence[Mapping[int, float]] | None = None
    external: np.ndarray | None = None  # (n,)


def make_network(topologies: Sequence[Topology], max_links: int, num_nodes: int | None = None) -> Network:
    """Bank of topologies, with their routes.

    Args:
        topologies: G topologies of at most V nodes and K kinds of resource.
        max_links: E.
        num_nodes: V; by default that of the first topology. In a smaller one, the rows from its number of nodes on are
            routers at the places of its nodes, in order: nothing runs there, nothing lies between, and a service that
            arrives there has the end device of that node.

    Raises:
        ValueError: a topology has more links than E or more nodes than V, or is not connected.
    """
    size = num_nodes or len(topologies[0].capacity)
    rows = [_network_row(topology, max_links, size) for topology in topologies]
    return Network(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _network_row(topology: Topology, max_links: int, size: int) -> dict[str, np.ndarray]:
    rates, count = resources(topology.links), len(topology.capacity)
    for name, got, most in (("links", len(rates), max_links), ("nodes", count, size)):
        if got > most:
            raise ValueError(f"{name}: got {got}; must be at most {most}")
    bandwidth = np.zeros(max_links, np.float32)
    bandwidth[: len(rates)] = rates
    place = np.arange(size) % count  # of each row, the node where it is
    route, bottleneck, latency = (x[place][:, place] for x in routes(topology.links, count, max_links))
    nodes = np.zeros((size, np.shape(topology.capacity)[1]), np.float32)
    nodes[:count] = topology.capacity
    speed = np.where(np.arange(size) < count, np.asarray(topology.node_speed)[place], 0.0)
    return {
        "bandwidth": bandwidth,
        "route": packed(route),
        "bottleneck": bottleneck,
        "latency": latency,
        "speed": np.concatenate([speed, np.asarray(topology.device_speed)[place]]).astype(np.float32),
        "capacity": np.concatenate([nodes, np.ones_like(nodes)]),
    }


def make_dags(dags: Sequence[Dag], max_microservices: int, ties: Ties = "index") -> Dags:
    """Bank of padded DAGs, with in-degrees, entries and upward ranks.

    Args:
        dags: S services.
        max_microservices: N.
        ties: which of a service's microservices that are ready at one time is decided first: the one of lowest index,
            or the one of largest upward rank.

    Raises:
        ValueError: there is no DAG, or one is empty, larger than N, or cyclic.
    """
    if not dags:
        raise ValueError("services: got none; at least one is needed")
    rows = [_dag_row(dag, max_microservices, where=f"services[{s}]", ties=ties) for s, dag in enumerate(dags)]
    return Dags(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _dag_row(dag: Dag, n: int, *, where: str, ties: Ties) -> dict[str, Any]:
    size, where = len(dag.preds), f"{where}.{'preds' if dag.sent is None else 'inputs'}"
    if not 1 <= size <= n:
        raise ValueError(f"{where}: got {size} microservices; must be 1 to {n}")
    preds, sent = np.zeros((n, n), bool), np.zeros((n, n), np.float32)
    for j, before in enumerate(dag.preds):
        if any(not 0 <= k < size for k in before):
            raise ValueError(f"{where}[{j}]: got {before}; must be microservices from 0 to {size - 1}")
        preds[j, list(before)] = True
        sent[j, list(before)] = 1.0 if dag.sent is None else [dag.sent[j][k] for k in before]
    sent[range(size), range(size)] = [not before for before in dag.preds] if dag.external is None else dag.external
    in_degree = np.where(np.arange(n) < size, preds.sum(axis=-1), -1).astype(np.int16)
    rank = _padded(upward_rank(dag.preds, np.asarray(dag.load, np.float32), where), n)
    turn = np.arange(n) if ties == "index" else np.argsort(np.argsort(-rank, kind="stable"))
    return {
        "size": np.int32(size),
        "preds": preds,
        "load": _padded(dag.load, n),
        "data": _padded(dag.data, n),
        "sent": sent,
        "demand": _padded(dag.demand, n),
        "in_degree": in_degree,
        "entry": np.int16(np.argmin(np.where(in_degree == 0, turn, n))),
        "turn": turn.astype(np.int16),
        "rank": rank,
        "work": np.sum(dag.load, dtype=np.float32),
    }


def time_unit(network: Network, dags: Dags) -> chex.Array:
    """() f32, s, the power of two nearest to the time that a mean microservice takes at mean rates, input and run.

    Agents measure times in it, so that what they learn holds where everything takes longer or less long. As a power of
    two it is the same for similar banks, and measuring in it rounds nothing. It is USUAL_TIME if nothing takes time.
    """
    takes_time = (dags.load > 0.0) | (dags.data > 0.0)
    return time_unit_of_sums(network, load=jnp.sum(dags.load), data=jnp.sum(dags.data), count=_count(takes_time))


def time_unit_of_sums(network: Network, *, load: chex.Numeric, data: chex.Numeric, count: chex.Numeric) -> chex.Array:
    """`time_unit` of a number of microservices, which have so many Mcycles and Mbit together."""
    num_nodes = network.bottleneck.shape[-1]
    run, transfer = _inverse_mean(network.speed[:, :num_nodes]), _inverse_mean(network.bandwidth)
    time = (load * run + data * transfer) / jnp.maximum(count, 1.0)
    exponent = jnp.round(jnp.log2(jnp.clip(time, *_TIMES))).astype(jnp.int32)
    return jnp.where(time > 0.0, jnp.ldexp(jnp.float32(1.0), exponent), USUAL_TIME)  # exp2 is not exact


def _inverse_mean(rates: chex.Array) -> chex.Array:
    """() one over the mean of the positive rates; 0 if there are none."""
    positive = rates > 0.0
    total = jnp.sum(jnp.where(positive, rates, 0.0))
    return jnp.where(total > 0.0, _count(positive) / jnp.where(total > 0.0, total, 1.0), 0.0)


def _count(where: chex.Array) -> chex.Array:
    """() f32, how many are true."""
    return jnp.sum(where).astype(jnp.float32)


def _padded(values: np.ndarray, n: int) -> np.ndarray:
    """Float32 rows of one DAG, with zeros up to n."""
    rows = np.asarray(values, np.float32)
    return np.concatenate([rows, np.zeros((n - len(rows), *rows.shape[1:]), np.float32)])


def upward_rank(preds: Sequence[Sequence[int]], load: np.ndarray, where: str) -> np.ndarray:
    """Upward rank, (n,) f32 Mcycles: the load of the heaviest path from each microservice to an exit, both included.

    Args:
        preds: predecessors of each of n microservices.
        load: (n,) Mcycles.
        where: the beginning of an error message, such as the field's name.

    Raises:
        ValueError: the graph has a cycle.
    """
    graph = nx.DiGraph([(k, j) for j, before in enumerate(preds) for k in before])
    graph.add_nodes_from(range(len(preds)))
    try:
        order = list(nx.topological_sort(graph))
    except nx.NetworkXUnfeasible:
        cycle = " -> ".join(str(edge[0]) for edge in nx.find_cycle(graph))
        raise ValueError(f"{where}: the graph has a cycle: {cycle}; a service must be a DAG") from None
    rank = np.array(load, np.float64)
    for node in reversed(order):
        rank[node] += max((rank[successor] for successor in graph[node]), default=0.0)
    return rank.astype(np.float32)
