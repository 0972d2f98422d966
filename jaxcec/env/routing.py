"""Shortest routes between edge nodes: computed once on the host, read at every decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import chex
import networkx as nx
import numpy as np

from jaxcec.env.indexing import take

WORD = 32  # bits
Hops = dict[int, dict[int, int]]  # length of the shortest path from one node to another


class Link(NamedTuple):
    """A link between edge nodes a and b."""

    a: int
    b: int
    bandwidth: float  # Mbit/s, from a to b; in both directions together if there is no `back`
    back: float | None = None  # Mbit/s, from b to a, if the link is full duplex: each direction is its own resource
    latency: float = 0.0  # s, propagation delay


def resources(links: Sequence[Link]) -> list[float]:
    """Bandwidth in Mbit/s of each link resource: one of a half-duplex link, two of a full-duplex one, a to b first."""
    return [rate for link in links for rate in (link.bandwidth, link.back) if rate is not None]


def routes(links: Sequence[Link], num_nodes: int, max_links: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shortest paths by hop count; ties: the larger bottleneck, then the lowest sequence of node indices.

    Args:
        links: the links.
        num_nodes: V.
        max_links: E, at least the number of link resources.

    Returns:
        route (V, V, E) bool, link resources on the path from a to b; bottleneck (V, V) f32, Mbit/s, inf on the
        diagonal; latency (V, V) f32, s, 0 on the diagonal.

    Raises:
        ValueError: a node cannot be reached.
    """
    graph = _directed(links, num_nodes)
    hops = dict(nx.all_pairs_shortest_path_length(graph))
    apart = sorted(set(graph) - set(hops[0]))
    if apart:
        raise ValueError(f"links: the graph of edge nodes is not connected; {apart} cannot be reached from node 0")
    route = np.zeros((num_nodes, num_nodes, max_links), bool)
    bottleneck = np.full((num_nodes, num_nodes), np.inf, np.float32)
    latency = np.zeros((num_nodes, num_nodes), np.float32)
    for target in range(num_nodes):
        widest = _widest(graph, hops, target)
        for start in range(num_nodes):
            if start != target:
                path = _lowest_path(graph, hops, widest=widest, start=start, target=target)
                edges = [graph.edges[edge] for edge in nx.utils.pairwise(path)]
                route[start, target, [edge["index"] for edge in edges]] = True
                bottleneck[start, target] = widest[start]
                latency[start, target] = sum(edge["latency"] for edge in edges)
    return route, bottleneck, latency


def _directed(links: Sequence[Link], num_nodes: int) -> nx.DiGraph:
    """Both directions of every link, each with the index of its resource."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(num_nodes))
    index = 0
    for link in links:
        graph.add_edge(link.a, link.b, index=index, bandwidth=link.bandwidth, latency=link.latency)
        index += link.back is not None
        back = link.bandwidth if link.back is None else link.back
        graph.add_edge(link.b, link.a, index=index, bandwidth=back, latency=link.latency)
        index += 1
    return graph


def packed(route: np.ndarray) -> np.ndarray:
    """Routes, (V, V, E) bool, by target, their starting nodes as bits of words: few bytes, as each decision reads all.

    Returns:
        (W, V, E) u32, W = ceil(V / 32): bit v % 32 of word v // 32 is set if the path from v to the target crosses e.
    """
    num_nodes, _, num_links = route.shape
    words = -(-num_nodes // WORD)
    packed_bytes = np.packbits(route, axis=0, bitorder="little")
    rows = np.zeros((4 * words, num_nodes, num_links), np.uint32)
    rows[: len(packed_bytes)] = packed_bytes
    shifted = rows.reshape(words, 4, num_nodes, num_links) << np.arange(0, WORD, 8, dtype=np.uint32)[:, None, None]
    return np.bitwise_or.reduce(shifted, axis=1)


def words(route: chex.Array, topology: chex.Array, target: chex.Array | slice = slice(None)) -> list[chex.Array]:
    """Rows of `Network.route`, (T, E) u32 for each of W words, because slices of one gathered array would be copies.

    Args:
        route: (G, W, V, E) u32.
        topology: () i32, row of `Network`.
        target: (T,) i32; all V nodes by default.
    """
    return [take(route, topology, word, target) for word in range(route.shape[1])]


def _widest(graph: nx.DiGraph, hops: Hops, target: int) -> dict[int, float]:
    """Largest bottleneck among the shortest paths from each node to the target."""
    widest = {target: float("inf")}
    for node in sorted(graph, key=lambda n: hops[n][target])[1:]:
        closer = [n for n in graph[node] if hops[n][target] == hops[node][target] - 1]
        widest[node] = max(min(graph.edges[node, n]["bandwidth"], widest[n]) for n in closer)
    return widest


def _lowest_path(graph: nx.DiGraph, hops: Hops, *, widest: dict[int, float], start: int, target: int) -> list[int]:
    """The path of lowest node indices among the shortest paths with the largest bottleneck."""
    path = [start]
    while path[-1] != target:
        node = path[-1]
        closer = [n for n in graph[node] if hops[n][target] == hops[node][target] - 1]
        path.append(min(n for n in closer if min(graph.edges[node, n]["bandwidth"], widest[n]) >= widest[start]))
    return path
