"""Banks of topologies and of DAGs, packed on the host from plain lists, with the quantities derived from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import networkx as nx
import numpy as np

from jaxcec.env.routing import Links, packed, routes
from jaxcec.env.types import Dags, Network


@dataclasses.dataclass(frozen=True)
class Topology:
    """One collaborative edge network of V edge nodes, each with one end device attached."""

    links: Links  # (a, b, Mbit/s) each, undirected
    node_speed: np.ndarray  # (V,) Mcycles/s
    device_speed: np.ndarray  # (V,) Mcycles/s
    capacity: np.ndarray  # (V, K) resources of each edge node; an end device has one unit of each


@dataclasses.dataclass(frozen=True)
class Dag:
    """One service of n microservices, in any order."""

    preds: Sequence[Sequence[int]]  # of each microservice, those that must finish before it starts
    load: np.ndarray  # (n,) Mcycles
    data: np.ndarray  # (n,) Mbit of input
    demand: np.ndarray  # (n, K) resources held while running


def make_network(topologies: Sequence[Topology], max_links: int) -> Network:
    """Bank of topologies of equal size, with their routes.

    Args:
        topologies: G topologies of V nodes and K kinds of resource.
        max_links: E.

    Raises:
        ValueError: a topology has more links than E, or is not connected.
    """
    columns = [_network_row(topology, max_links) for topology in topologies]
    bandwidth, route, bottleneck, speed, capacity = (np.stack(column) for column in zip(*columns, strict=True))
    return Network(bandwidth=bandwidth, route=route, bottleneck=bottleneck, speed=speed, capacity=capacity)


def _network_row(topology: Topology, max_links: int) -> tuple[np.ndarray, ...]:
    if len(topology.links) > max_links:
        raise ValueError(f"links: got {len(topology.links)}; max_links allows {max_links}")
    nodes = np.asarray(topology.capacity, np.float32)
    bandwidth = np.zeros(max_links, np.float32)
    bandwidth[: len(topology.links)] = [link[2] for link in topology.links]
    route, bottleneck = routes(topology.links, len(nodes), max_links)
    speed = np.concatenate([topology.node_speed, topology.device_speed]).astype(np.float32)
    return bandwidth, packed(route), bottleneck, speed, np.concatenate([nodes, np.ones_like(nodes)])


def make_dags(dags: Sequence[Dag], max_microservices: int) -> Dags:
    """Bank of padded DAGs, with in-degrees, entries and upward ranks.

    Args:
        dags: S services.
        max_microservices: N.

    Raises:
        ValueError: there is no DAG, or one is empty, larger than N, or cyclic.
    """
    if not dags:
        raise ValueError("services: got none; at least one is needed")
    n = max_microservices
    kinds = dags[0].demand.shape[-1]
    bank = Dags(
        size=np.array([len(dag.preds) for dag in dags], np.int32),
        preds=np.zeros((len(dags), n, n), bool),
        load=np.zeros((len(dags), n), np.float32),
        data=np.zeros((len(dags), n), np.float32),
        demand=np.zeros((len(dags), n, kinds), np.float32),
        in_degree=np.full((len(dags), n), -1, np.int16),
        entry=np.zeros(len(dags), np.int16),
        rank=np.zeros((len(dags), n), np.float32),
    )
    for s, dag in enumerate(dags):
        size = len(dag.preds)
        if not 1 <= size <= n:
            raise ValueError(f"services[{s}].preds: got {size} microservices; must be 1 to {n}")
        for j, before in enumerate(dag.preds):
            if any(not 0 <= k < size for k in before):
                raise ValueError(f"services[{s}].preds[{j}]: got {before}; must be microservices from 0 to {size - 1}")
            bank.preds[s, j, list(before)] = True
        bank.load[s, :size], bank.data[s, :size], bank.demand[s, :size] = dag.load, dag.data, dag.demand
        bank.in_degree[s, :size] = bank.preds[s, :size].sum(axis=-1)
        bank.rank[s, :size] = upward_rank(dag.preds, bank.load[s, :size], f"services[{s}].preds")
        bank.entry[s] = int(np.argmin(np.where(bank.in_degree[s] == 0, 0, 1)))
    return bank


def upward_rank(preds: Sequence[Sequence[int]], load: np.ndarray, where: str) -> np.ndarray:
    """Upward rank: the load of the heaviest path from each microservice to an exit, both included.

    Args:
        preds: predecessors of each of n microservices.
        load: (n,) Mcycles.
        where: the beginning of an error message, such as the field's name.

    Returns:
        (n,) f32, Mcycles.

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
