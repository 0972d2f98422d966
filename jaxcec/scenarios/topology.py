"""Random topologies of edge nodes (section V.A)."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np

from jaxcec.env.banks import Topology
from jaxcec.scenarios.sampling import truncated_normal


def most_links(num_nodes: int, neighbours: tuple[int, int] = (2, 3)) -> int:
    """Links that a drawn topology has at most, E: nine tenths of what its nodes ask for on average.

    Nodes that choose each other share a link, so far fewer than V k are ever drawn: of 20,000 draws of 8 nodes and
    (2, 3) three had 18 links, the most allowed, and none more.
    """
    asked = num_nodes * sum(neighbours) / 2
    return max(min(math.ceil(0.9 * asked), num_nodes * neighbours[1], num_nodes * (num_nodes - 1) // 2), 1)


def draw_topology(
    rng: np.random.Generator, num_nodes: int, neighbours: tuple[int, int] = (2, 3), max_tries: int = 1000
) -> list[tuple[int, int]]:
    """Draw the links of a connected topology, as the topology generator the paper names does (its reference 29).

    Nodes lie uniformly in the unit square; each draws k uniformly from the range `neighbours` and is joined to its k
    nearest nodes, or to all if there are fewer. A draw that is disconnected or has more than `most_links` is rejected.
    Unlike that generator, two nodes that choose each other get one link, not two.

    Args:
        rng: source of randomness.
        num_nodes: V, edge nodes.
        neighbours: least and largest k, both included.
        max_tries: draws before giving up.

    Returns:
        Undirected links (a, b) with a < b, sorted. Eight nodes and (2, 3) give 13.1 links on average.

    Raises:
        ValueError: for impossible arguments, or if no draw is connected.
    """
    least, largest = neighbours
    if num_nodes < 1:
        raise ValueError(f"num_nodes: got {num_nodes}; must be at least 1")
    if not 1 <= least <= largest:
        raise ValueError(f"neighbours: got {neighbours}; must be (least, largest) with 1 <= least <= largest")
    for _ in range(max_tries):
        links = _nearest_neighbour_links(rng, num_nodes, least, largest)
        graph = nx.Graph(links)
        graph.add_nodes_from(range(num_nodes))
        if nx.is_connected(graph) and len(links) <= most_links(num_nodes, neighbours):
            return links
    raise ValueError(
        f"neighbours: got {neighbours}; none of {max_tries} draws of {num_nodes} nodes was connected; must be larger"
    )


def _nearest_neighbour_links(
    rng: np.random.Generator, num_nodes: int, least: int, largest: int
) -> list[tuple[int, int]]:
    position = rng.random((num_nodes, 2))
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    nearest = np.argsort(distance, axis=1)[:, 1:]  # the nearest of all is the node itself
    degree = rng.integers(least, largest, num_nodes, endpoint=True)
    return sorted({(min(a, b), max(a, b)) for a in range(num_nodes) for b in nearest[a, : degree[a]].tolist()})


def synthetic_topology(
    rng: np.random.Generator,
    num_nodes: int = 8,
    neighbours: tuple[int, int] = (2, 3),
    bandwidth: float = 10.0,
    node_speed: float = 40.0,
    device_speed: float = 10.0,
) -> Topology:
    """Draw a topology and its numbers: link N(10, 80 %) Mbit/s, node N(40, 80 %) and device N(10, 20 %) Mcycles/s.

    Args:
        rng: source of randomness.
        num_nodes: V, edge nodes.
        neighbours: range of links that a node asks for, see `draw_topology`.
        bandwidth: mean of a link, Mbit/s.
        node_speed: mean speed of an edge node, Mcycles/s.
        device_speed: mean speed of an end device, Mcycles/s.

    Raises:
        ValueError: see `draw_topology` and `truncated_normal`.
    """
    links = draw_topology(rng, num_nodes, neighbours)
    rates = truncated_normal(rng, bandwidth, 0.8, len(links))
    return Topology(
        links=[(a, b, float(rate)) for (a, b), rate in zip(links, rates, strict=True)],
        node_speed=truncated_normal(rng, node_speed, 0.8, num_nodes),
        device_speed=truncated_normal(rng, device_speed, 0.2, num_nodes),
        capacity=np.ones((num_nodes, 2)),  # cpu and memory
    )
