"""What an agent sees (Eq. 10-12): nothing later than now, nothing of services not yet released."""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.env import background, routing, timeline
from jaxcec.env.coflow import Flow, crossing, inputs_at_nodes, place_flow
from jaxcec.env.dag import Decision, current_decision, expected_completion, released
from jaxcec.env.execution import Execution, place_execution
from jaxcec.env.types import (
    EnvParams,
    EnvState,
    LinkObservation,
    MicroserviceObservation,
    NodeObservation,
    Observation,
    ServiceObservation,
    Timeline,
)


class Situation(struct.PyTreeNode):
    """The decision at hand with everything that placing it needs, gathered once per step."""

    decision: Decision
    inputs: chex.Array  # (V,) Mbit of the input at each edge node
    bandwidth: chex.Array  # (E,) Mbit/s nominal
    link_load: chex.Array  # (E,) other tenants' share now
    host_load: chex.Array  # (H,) likewise
    speed: chex.Array  # (H,) Mcycles/s offered now
    capacity: chex.Array  # (H, K)
    links: Timeline
    hosts: Timeline  # (H, ...); rows are stale until their hosts are touched: `host_timelines` knows
    touched: chex.Array  # (H,) bool


def current_situation(state: EnvState, params: EnvParams) -> Situation:
    """Gather the decision at hand, the loads at its time, and the timelines."""
    decision, episode, network = current_decision(state, params), state.episode, params.network
    num_links, num_hosts = network.bandwidth.shape[-1], network.speed.shape[-1]
    loads = background.load_at(params.background, episode.offset, decision.time)
    inputs = inputs_at_nodes(decision.data, decision.preds, decision.host, decision.source, num_hosts // 2)
    return Situation(
        decision=decision,
        inputs=jnp.where(decision.active, inputs, 0.0),
        bandwidth=network.bandwidth[episode.topology],
        link_load=loads[:num_links],
        host_load=loads[num_links:],
        speed=network.speed[episode.topology] * (1.0 - loads[num_links:]),
        capacity=network.capacity[episode.topology],
        links=state.links,
        hosts=state.hosts,
        touched=episode.touched,
    )


def host_timelines(situation: Situation, hosts: chex.Array | slice) -> Timeline:
    """Timelines of T hosts as this episode left them."""
    return jax.vmap(timeline.cleared_unless)(
        situation.touched[hosts], jax.tree.map(lambda x: x[hosts], situation.hosts)
    )


def place(
    situation: Situation,
    hosts: chex.Array | slice,
    tables: Timeline,
    route: Sequence[chex.Array],
    eta: chex.Array,
    eps: chex.Array,
) -> tuple[Flow, Execution]:
    """Flow and execution of the microservice at hand on each of T hosts, as the timelines have it; nothing is reserved.

    Args:
        situation: the decision at hand.
        hosts: (T,) i32, or which hosts.
        tables: their timelines.
        route: paths to each host's edge node, (T, E) u32 each: see `routing.words`.
        eta: (T,) share of the effective bottleneck.
        eps: (T,) s of hold.
    """
    decision = situation.decision
    traffic = crossing(situation.inputs, route)
    flow = place_flow(situation.links, traffic, situation.bandwidth, situation.link_load, decision.time, eta, eps)
    execution = jax.vmap(place_execution, in_axes=(0, None, 0, None, 0, 0))(
        tables, decision.load, situation.speed[hosts], decision.demand, situation.capacity[hosts], flow.ready
    )
    return flow, execution


def observe(state: EnvState, params: EnvParams) -> Observation:
    """The observation of a state; all zeros of its own in the microservice and service parts once all is decided."""
    situation = current_situation(state, params)
    decision = situation.decision

    def if_active(tree: chex.ArrayTree) -> chex.ArrayTree:
        return jax.tree.map(lambda x: jnp.where(decision.active, x, jnp.zeros_like(x)).astype(jnp.float32), tree)

    return Observation(
        nodes=_observe_nodes(situation, state, params),
        links=_observe_links(situation),
        microservice=if_active(_observe_microservice(decision, params)),
        service=if_active(_observe_service(decision, state, params, situation.inputs.shape[0])),
    )


def _observe_nodes(situation: Situation, state: EnvState, params: EnvParams) -> NodeObservation:
    decision, topology = situation.decision, state.episode.topology
    now, num_nodes = decision.time, situation.inputs.shape[0]
    nodes = slice(0, num_nodes)
    tables = host_timelines(situation, nodes)
    route = routing.words(params.network.route, topology)
    nominal = params.network.bottleneck[topology].swapaxes(0, 1)
    flow, execution = place(
        situation, nodes, tables, route, jnp.ones(num_nodes, jnp.float32), jnp.zeros(num_nodes, jnp.float32)
    )
    duration = decision.load / situation.speed[nodes]
    offered = situation.bandwidth * (1.0 - situation.link_load)

    def wait(table: Timeline, usage: chex.Array, duration: chex.Array) -> chex.Array:
        return timeline.earliest_start(table, usage[None], now[None], duration[None])[0] - now

    last = jnp.max(jnp.where(jnp.isfinite(tables.times), tables.times, 0.0), axis=1)
    return NodeObservation(
        free=jax.vmap(timeline.free_at, in_axes=(0, None))(tables, now),
        speed=situation.speed[nodes],
        load=situation.host_load[nodes],
        backlog=jnp.maximum(last - now, 0.0),
        inputs=situation.inputs,
        wait=jax.vmap(wait)(tables, execution.usage, duration),
        transfer=jnp.max(situation.inputs[None] / nominal, axis=1),
        execution=duration,
        traffic=_sum_of_ratios(crossing(situation.inputs, route), offered[None]),
        data_ready=flow.ready - now,
        finish=execution.finish - now,
        ahead=path_ahead(decision, params, topology),
    )


def path_ahead(decision: Decision, params: EnvParams, topology: chex.Array) -> chex.Array:
    """Optimistic time from the microservice's finish on each edge node to the end of the heaviest path behind it.

    The heaviest successor's input, the share from here and those from its other predecessors decided so far, moves to
    the node that is best for it, at nominal bandwidths; the path then runs there. Nothing waits. This is one move of
    PEFT's optimistic cost table (Arabnejad and Barbosa, IEEE TPDS 2014), which would be one per DAG and topology.

    Args:
        decision: the one at hand.
        params: the banks.
        topology: () i32.

    Returns:
        (V,) s; 0 for an exit, and once all is decided.
    """
    dags, network, num_nodes = params.dags, params.network, params.network.bottleneck.shape[-1]
    rank = jnp.where(dags.preds[decision.dag, :, decision.microservice], dags.rank[decision.dag], 0.0)
    successor = jnp.argmax(rank).astype(jnp.int32)
    behind = decision.active & (rank[successor] > 0.0)
    in_degree = dags.in_degree[decision.dag, successor].astype(jnp.float32)
    share = dags.data[decision.dag, successor] / jnp.maximum(in_degree, 1.0)
    siblings = dags.preds[decision.dag, successor] & (decision.pending < 0)
    at_node = decision.host.astype(jnp.int32)[None] % num_nodes == jnp.arange(num_nodes, dtype=jnp.int32)[:, None]
    outputs = jnp.sum(siblings[None] & at_node, axis=1).astype(jnp.float32)
    moving = share / network.bottleneck[topology]  # (V, V) s, from and to
    gathering = jnp.max(outputs[:, None] * moving, axis=0)
    run = rank[successor] / network.speed[topology, :num_nodes]
    return jnp.where(behind, jnp.min(jnp.maximum(moving, gathering[None]) + run[None], axis=1), 0.0)


def _observe_links(situation: Situation) -> LinkObservation:
    free = timeline.free_at(situation.links, situation.decision.time) * situation.bandwidth
    offered = situation.bandwidth * (1.0 - situation.link_load)
    there = situation.bandwidth > 0.0
    return LinkObservation(
        free=jnp.clip(free, 0.0, offered),
        load=jnp.where(there, situation.link_load, 0.0),
        bandwidth=situation.bandwidth,
        backlog=jnp.where(there, timeline.reserved_ahead(situation.links, situation.decision.time), 0.0),
    )


def _observe_microservice(decision: Decision, params: EnvParams) -> MicroserviceObservation:
    successors = params.dags.preds[decision.dag, :, decision.microservice]
    return MicroserviceObservation(
        load=decision.load,
        data=decision.data,
        demand=decision.demand,
        in_degree=jnp.sum(decision.preds, dtype=jnp.int32),
        out_degree=jnp.sum(successors, dtype=jnp.int32),
        rank=params.dags.rank[decision.dag, decision.microservice],
    )


def _observe_service(decision: Decision, state: EnvState, params: EnvParams, num_nodes: int) -> ServiceObservation:
    undecided = decision.pending >= 0
    episode = state.episode
    completion = episode.completion[decision.service]
    expected = expected_completion(
        decision.pending,
        decision.ready,
        params.dags.rank[decision.dag],
        params.network.speed[episode.topology],
        decision.release,
        completion,
    )
    # Left out by its index, not by taking one off: its own release may be rounded to after now.
    other = jnp.arange(episode.next_ready.size, dtype=jnp.int32) != decision.service
    present = other & released(episode, decision.time) & jnp.isfinite(episode.next_ready)
    age = jnp.maximum(decision.time - decision.release, 0.0)  # two roundings of one release
    return ServiceObservation(
        remaining_load=jnp.sum(jnp.where(undecided, params.dags.load[decision.dag], 0.0)),
        remaining=jnp.sum(undecided, dtype=jnp.int32),
        age=age,
        slack=jnp.maximum(completion - age, 0.0),
        expected=jnp.maximum(expected - age, 0.0),
        others=jnp.sum(present, dtype=jnp.int32),
        source=jnp.arange(num_nodes, dtype=jnp.int32) == decision.source,
    )


def _sum_of_ratios(amount: chex.Array, rate: chex.Array) -> chex.Array:
    return jnp.sum(jnp.where(amount > 0.0, amount / jnp.maximum(rate, 1e-30), 0.0), axis=-1)


def flatten(observation: Observation) -> chex.Array:
    """One float32 vector: the leaves in the order of their declaration, raveled.

    Returns:
        (V (K + 12) + 4 E + K + 11,) for one observation (no batch axes): see `observation_size`.
    """
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(observation)])


def observation_size(num_nodes: int, max_links: int, num_resources: int) -> int:
    """Length of the flattened observation: V (K + 12) + 4 E + K + 11."""
    return num_nodes * (num_resources + 12) + 4 * max_links + num_resources + 11
