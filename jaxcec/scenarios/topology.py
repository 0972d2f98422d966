"""Random topologies of edge nodes, as in section V.A."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import networkx as nx
import numpy as np

from jaxcec.env.banks import Topology
from jaxcec.env.routing import Link
from jaxcec.scenarios.sampling import truncated_normal

Duplex = Literal["half", "full"]
_TRIES = 1000  # draws of a topology before giving up
# Of varied topologies:
_CHANGED = (0.75, 0.5, 0.25, 0.25)  # shares with another ratio, with latency, with fewer nodes, with unlike nodes
_RATIO = 10.0  # bandwidths are to speeds up to so many times, and down to this part of, what they are elsewhere
_LATENCY = (0.002, 0.5)  # least and largest, in times in which an input crosses a link
_CAPACITY = 0.5  # least of a small node


def check_neighbours(field: str, neighbours: tuple[int, int]) -> None:
    """Raise ValueError unless 1 <= least <= largest."""
    least, largest = neighbours
    if not 1 <= least <= largest:
        raise ValueError(f"{field}: got {neighbours}; must be (least, largest) with 1 <= least <= largest")


def most_links(num_nodes: int, neighbours: tuple[int, int]) -> int:
    """Return E, the largest number of links of a drawn topology: 90 % of the mean number that its nodes choose.

    Two nodes that choose each other share a link, so a topology has far fewer links than its nodes choose: of 20,000
    draws with 8 nodes and (2, 3) neighbours, three had 18 links, the largest number allowed, and none had more.
    """
    chosen = num_nodes * sum(neighbours) / 2
    return max(min(math.ceil(0.9 * chosen), num_nodes * neighbours[1], num_nodes * (num_nodes - 1) // 2), 1)


def draw_topology(rng: np.random.Generator, num_nodes: int, neighbours: tuple[int, int]) -> list[tuple[int, int]]:
    """Draw the links of a connected topology, following the topology generator that the paper cites (reference 29).

    The nodes are uniform in the unit square. Each node draws k uniformly from the range `neighbours` and is linked to
    its k nearest nodes, or to all other nodes if there are fewer. A draw that is disconnected or has more than
    `most_links` links is rejected. Unlike in that generator, two nodes that choose each other share one link.

    Args:
        rng: source of randomness.
        num_nodes: V, edge nodes.
        neighbours: least and largest k, both included.

    Returns:
        Undirected links (a, b) with a < b, sorted; on average 13.1 of them for eight nodes and (2, 3) neighbours.

    Raises:
        ValueError: `num_nodes` is below 1, see `check_neighbours`, or none of 1000 draws was accepted.
    """
    if num_nodes < 1:
        raise ValueError(f"num_nodes: got {num_nodes}; must be at least 1")
    check_neighbours("neighbours", neighbours)
    for _ in range(_TRIES):
        links = _nearest_neighbour_links(rng, num_nodes, neighbours)
        graph = nx.Graph(links)
        graph.add_nodes_from(range(num_nodes))
        if nx.is_connected(graph) and len(links) <= most_links(num_nodes, neighbours):
            return links
    raise ValueError(
        f"neighbours: got {neighbours}; none of {_TRIES} draws of {num_nodes} nodes was connected; must be larger"
    )


def _nearest_neighbour_links(
    rng: np.random.Generator, num_nodes: int, neighbours: tuple[int, int]
) -> list[tuple[int, int]]:
    position = rng.random((num_nodes, 2))
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    nearest = np.argsort(distance, axis=1)[:, 1:]  # the very nearest is the node itself
    degree = rng.integers(*neighbours, num_nodes, endpoint=True)
    return sorted({(min(a, b), max(a, b)) for a in range(num_nodes) for b in nearest[a, : degree[a]].tolist()})


def synthetic_topology(
    rng: np.random.Generator,
    num_nodes: int,
    *,
    neighbours: tuple[int, int],
    bandwidth: float,
    node_speed: float,
    device_speed: float,
    duplex: Duplex = "half",
    latency: float = 0.0,
) -> Topology:
    """Draw a topology with its bandwidths and speeds.

    All are truncated normal, with standard deviations of 80 % of the mean for links and edge nodes and of 20 % for end
    devices.

    Args:
        rng: source of randomness.
        num_nodes: V, edge nodes.
        neighbours: least and largest number of nearest nodes that a node is linked to, see `draw_topology`.
        bandwidth: mean of a link, Mbit/s.
        node_speed: mean speed of an edge node, Mcycles/s.
        device_speed: mean speed of an end device, Mcycles/s.
        duplex: whether the directions of a link share its bandwidth, or have as much each.
        latency: of every link, s.

    Raises:
        ValueError: see `draw_topology` and `truncated_normal`.
    """
    links = draw_topology(rng, num_nodes, neighbours)
    rates = truncated_normal(rng, bandwidth, relative_sd=0.8, size=len(links))
    return Topology(
        links=[
            Link(a, b, float(rate), float(rate) if duplex == "full" else None, latency)
            for (a, b), rate in zip(links, rates, strict=True)
        ],
        node_speed=truncated_normal(rng, node_speed, relative_sd=0.8, size=num_nodes),
        device_speed=truncated_normal(rng, device_speed, relative_sd=0.2, size=num_nodes),
        capacity=np.ones((num_nodes, 2)),  # cpu and memory
    )


def varied_topology(
    rng: np.random.Generator, num_nodes: int, *, crossing: float, latency: float, **means: Any
) -> Topology:
    """Draw a topology of those that differ by more than the paper's do, so that what is trained on them holds widely.

    Independently of each other, three of four have another ratio of bandwidths to speeds, a tenth of to ten times the
    usual one; every second has latency, from a five-hundredth to half of the time in which an input crosses a link; one
    of four has fewer nodes, down to two; and one of four has routers and small nodes. Ratios and latencies are
    log-uniform.

    Args:
        rng: source of randomness.
        num_nodes: V, the largest number of edge nodes.
        crossing: s, in which the mean input crosses the mean link.
        latency: of every link that is not drawn, s.
        means: see `synthetic_topology`.

    Raises:
        ValueError: see `synthetic_topology`.
    """
    ratio, late, fewer, unlike = rng.random(len(_CHANGED)) < _CHANGED
    factor = _RATIO ** rng.uniform(-0.5, 0.5) if ratio else 1.0
    for name, power in {"bandwidth": factor, "node_speed": 1.0 / factor, "device_speed": 1.0 / factor}.items():
        means[name] *= power
    if late:
        latency = crossing * float(np.exp(rng.uniform(*np.log(_LATENCY))))
    if fewer:
        num_nodes = int(rng.integers(min(2, num_nodes), num_nodes, endpoint=True))
    drawn = synthetic_topology(rng, num_nodes, latency=latency, **means)
    return _with_unlike_nodes(rng, drawn) if unlike else drawn


def _with_unlike_nodes(rng: np.random.Generator, topology: Topology) -> Topology:
    """The topology in which up to half of the nodes are routers and up to half are small; one at least is neither."""
    count = len(topology.node_speed)
    order, half = rng.permutation(count)[1:], count // 2
    routers = int(rng.integers(half, endpoint=True))
    small = order[routers : routers + int(rng.integers(half, endpoint=True))]
    speed, capacity = np.array(topology.node_speed), np.array(topology.capacity)
    speed[order[:routers]] = 0.0
    capacity[small] = rng.uniform(_CAPACITY, 1.0, (len(small), 1))
    return dataclasses.replace(topology, node_speed=speed, capacity=capacity)
