"""Timing of the flows that carry a microservice's input to its host: one coflow (Eq. 2, 3, 9).

All flows of a coflow run at constant rates and end together: the minimum-allocation rule of Varys (Chowdhury et al.,
'Efficient coflow scheduling with Varys', SIGCOMM 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import chex
import jax.numpy as jnp
from flax import struct

from jaxcec.env.routing import WORD
from jaxcec.env.timeline import earliest_start
from jaxcec.env.types import Timeline


class Flow(struct.PyTreeNode):
    """T alternative coflows, each placed on the links' timeline without the others."""

    start: chex.Array  # (T,) s
    ready: chex.Array  # (T,) s, when the whole input has arrived
    usage: chex.Array  # (T, E) share of each link's bandwidth held in [start, ready)


def inputs_at_nodes(
    data: chex.Array, *, preds: chex.Array, hosts: chex.Array, source: chex.Array, num_nodes: int
) -> chex.Array:
    """Input held by each edge node: equal shares at the predecessors' hosts; for an entry, everything at the source.

    Args:
        data: () Mbit, D.
        preds: (N,) bool, the predecessors.
        hosts: (N,) int, the host of each microservice of the service. An end device counts as its edge node.
        source: () int, the service's edge node.
        num_nodes: V.

    Returns:
        (V,) Mbit.
    """
    nodes = jnp.arange(num_nodes, dtype=jnp.int32)
    located = preds[:, None] & ((hosts.astype(jnp.int32) % num_nodes)[:, None] == nodes[None, :])  # (N, V)
    count = jnp.sum(located, axis=0).astype(jnp.float32)
    entry = (nodes == source).astype(jnp.float32)
    share = jnp.where(jnp.any(preds), count / jnp.maximum(jnp.sum(count), 1.0), entry)
    return data * share


def crossing(inputs: chex.Array, route: Sequence[chex.Array]) -> chex.Array:
    """Traffic of the coflow on each link, x_e.

    Args:
        inputs: (V,) Mbit at each edge node.
        route: the words of `routing.words`, (T, E) u32 each: which nodes' paths to each of T targets cross a link.

    Returns:
        (T, E) Mbit.
    """

    def from_node(node: int) -> chex.Array:
        bit = jnp.uint32(1 << node % WORD)
        return jnp.where((route[node // WORD] & bit) > 0, inputs[node], 0.0)

    # A sum of V terms rather than a reduction of one array: XLA would write that array, (T, V, E), to memory.
    return reduce(add, map(from_node, range(inputs.size)))


def place_flow(
    links: Timeline,
    traffic: chex.Array,
    *,
    bandwidth: chex.Array,
    load: chex.Array,
    now: chex.Array,
    eta: chex.Array,
    eps: chex.Array,
) -> Flow:
    """Earliest coflow at the requested rate for each of T targets independently; nothing is reserved.

    Args:
        links: timeline of all links.
        traffic: (T, E) Mbit, x_e.
        bandwidth: (E,) Mbit/s nominal; 0 on padding, which no traffic crosses.
        load: (E,) other tenants' share now.
        now: () s, the decision time.
        eta: (T,) share of the effective bottleneck to take, in (0, 1].
        eps: (T,) s, least hold of the flow.
    """
    # x_e / c_e, the time that each link would need on its own
    offered = (bandwidth * (1.0 - load))[None]
    link_time = jnp.where(traffic > 0.0, traffic / jnp.maximum(offered, 1e-30), 0.0)
    bottleneck = jnp.max(link_time, axis=1)  # G
    moves = bottleneck > 0.0
    duration = bottleneck / eta
    # Rate x_e / tau as a share of the nominal bandwidth, written so that the bottleneck's share is exactly eta (1 - u).
    usage = eta[:, None] * (link_time / jnp.where(moves, bottleneck, 1.0)[:, None]) * (1.0 - load)[None]
    start = jnp.where(moves, earliest_start(links, usage, not_before=now + eps, duration=duration), now)
    return Flow(start=start, ready=jnp.where(moves, start + duration, now), usage=usage)
