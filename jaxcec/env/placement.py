"""The current decision, and what it would become on each host: Eq. 1 to 3, 8 and 9 put together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.env import background, timeline
from jaxcec.env.coflow import Flow, crossing, inputs_at_nodes, path_delay, place_flow
from jaxcec.env.dag import Decision, current_decision
from jaxcec.env.execution import Execution, feasible_hosts, place_execution
from jaxcec.env.indexing import take
from jaxcec.env.types import EnvParams, EnvState, Timeline


class Situation(struct.PyTreeNode):
    """The current decision with everything that placing it requires, gathered once per step."""

    state: EnvState  # a row of its hosts' timelines is stale until the host is touched: `place` returns the right ones
    decision: Decision
    inputs: chex.Array  # (V,) Mbit of the input at each edge node
    bandwidth: chex.Array  # (E,) Mbit/s nominal
    link_load: chex.Array  # (E,) other tenants' share now
    host_load: chex.Array  # (H,) other tenants' share now
    speed: chex.Array  # (H,) Mcycles/s offered now
    capacity: chex.Array  # (H, K)
    feasible: chex.Array  # (H,) bool


# The current microservice on each of T hosts, and the hosts' timelines, (T, Q), None, (T, K, Q): that of a host without
# reservations in this episode is empty.
Placed = tuple[Flow, Execution, Timeline]


def current_situation(state: EnvState, params: EnvParams) -> Situation:
    """Gather the current decision, the loads at its time, and the timelines."""
    decision, episode, network = current_decision(state, params), state.episode, params.network
    num_links, num_hosts = network.bandwidth.shape[-1], network.speed.shape[-1]
    loads = background.load_at(params.background, episode.offset, decision.time)
    nominal, capacity = take(network.speed, episode.topology), take(network.capacity, episode.topology)
    return Situation(
        state=state,
        decision=decision,
        inputs=jnp.where(decision.active, inputs_at_nodes(decision, num_hosts // 2), 0.0),
        bandwidth=take(network.bandwidth, episode.topology),
        link_load=loads[:num_links],
        host_load=loads[num_links:],
        speed=nominal * (1.0 - loads[num_links:]),
        capacity=capacity,
        feasible=feasible_hosts(decision.load, decision.demand, speed=nominal, capacity=capacity),
    )


def place(
    situation: Situation,
    hosts: chex.Array | slice,
    *,
    route: Sequence[chex.Array],
    latency: chex.Array,
    eta: chex.Array,
    eps: chex.Array,
) -> Placed:
    """Earliest flow and execution of the current microservice on each of T hosts independently; nothing is reserved.

    Args:
        situation: the current decision.
        hosts: (T,) i32, or a slice of the H hosts.
        route: paths to each host's edge node, (T, E) u32 each, from `routing.words`.
        latency: (V, T) s, of the paths from each edge node to each host's.
        eta: (T,) share of the effective bottleneck to take.
        eps: (T,) s, least hold of the flow.
    """
    decision, state = situation.decision, situation.state
    rows = jax.tree.map(lambda x: x[hosts], state.hosts)
    timelines = jax.vmap(timeline.cleared_unless)(state.episode.touched[hosts], rows)
    flow = place_flow(
        state.links,
        crossing(situation.inputs, route),
        bandwidth=situation.bandwidth,
        load=situation.link_load,
        delay=path_delay(situation.inputs, latency),
        now=decision.time,
        eta=eta,
        eps=eps,
    )
    run = jax.vmap(partial(place_execution, decision))
    return flow, run(timelines, flow.ready, situation.speed[hosts], situation.capacity[hosts]), timelines
