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

from jaxcec.env.dag import Decision
from jaxcec.env.reductions import total
from jaxcec.env.routing import WORD
from jaxcec.env.timeline import earliest_start
from jaxcec.env.types import Timeline


class Flow(struct.PyTreeNode):
    """T alternative coflows, each placed on the links' timeline without the others."""

    start: chex.Array  # (T,) s
    end: chex.Array  # (T,) s, when the last byte has left
    ready: chex.Array  # (T,) s, when the whole input has arrived
    usage: chex.Array  # (T, E) share of each link's bandwidth held in [start, end)


def inputs_at_nodes(decision: Decision, num_nodes: int) -> chex.Array:
    """Input held by each edge node, (V,) Mbit: what predecessors send lies at their hosts, the rest at the source.

    An end device counts as its edge node.
    """
    nodes = jnp.arange(num_nodes, dtype=jnp.int32)
    place = jnp.where(decision.chosen, decision.source, decision.host.astype(jnp.int32) % num_nodes)
    located = jnp.where(place[None, :] == nodes[:, None], decision.sent[None, :], 0.0)
    part = total(located)
    whole = jnp.sum(part)
    return decision.data * (part / jnp.where(whole > 0.0, whole, 1.0))


def crossing(inputs: chex.Array, route: Sequence[chex.Array]) -> chex.Array:
    """Traffic of the coflow on each link, x_e, (T, E) Mbit.

    Args:
        inputs: (V,) Mbit at each edge node.
        route: the words of `routing.words`, (T, E) u32 each: which nodes' paths to each of T targets cross a link.
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
    delay: chex.Array,
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
        delay: (T,) s, latency of the longest of its paths; it counts only if something moves.
        now: () s, the decision time.
        eta: (T,) share of the effective bottleneck to take, in (0, 1].
        eps: (T,) s, least hold of the flow; if nothing moves, the input is ready after it.
    """
    link_time = link_times(traffic, bandwidth * (1.0 - load))
    bottleneck = jnp.max(link_time, axis=1)  # G
    moves = bottleneck > 0.0
    duration = bottleneck / eta
    # Rate x_e / tau as a share of the nominal bandwidth, written so that the bottleneck's share is exactly eta (1 - u).
    usage = eta[:, None] * (link_time / jnp.where(moves, bottleneck, 1.0)[:, None]) * (1.0 - load)[None]
    not_before = now + eps
    start = jnp.where(moves, earliest_start(links, usage, not_before=not_before, duration=duration), not_before)
    end = start + duration
    return Flow(start=start, end=end, ready=end + jnp.where(moves, delay, 0.0), usage=usage)


def link_times(traffic: chex.Array, offered: chex.Array) -> chex.Array:
    """Time that each link would need on its own, x_e / c_e, (T, E) s, from (T, E) Mbit and (E,) Mbit/s."""
    # Padding offers nothing and nothing crosses it; with another divisor, its derivative is 0 and not 0 / 0.
    return jnp.where(traffic > 0.0, traffic / jnp.where(offered > 0.0, offered, 1.0)[None], 0.0)


def path_delay(inputs: chex.Array, latency: chex.Array) -> chex.Array:
    """(T,) s, the latency of the longest path that some input takes to each of T targets.

    Args:
        inputs: (V,) Mbit at each edge node.
        latency: (V, T) s, from each node to each target; 0 from a node to itself.
    """
    return jnp.max(jnp.where(inputs[:, None] > 0.0, latency, 0.0), axis=0)
