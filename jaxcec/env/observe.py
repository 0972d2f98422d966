"""What an agent sees (Eq. 10-12): nothing later than now, nothing of services not yet released."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.env import background, timeline
from jaxcec.env.coflow import Flow, crossing, inputs_at_nodes, place_flow
from jaxcec.env.dag import Decision, current_decision
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
    hosts: Timeline


def current_situation(state: EnvState, params: EnvParams) -> Situation:
    """Gather the decision at hand, the loads at its time, and the timelines as this episode left them."""
    decision, episode, network = current_decision(state, params), state.episode, params.network
    num_links, num_hosts = network.bandwidth.shape[-1], network.speed.shape[-1]
    loads = background.load_at(params.background, episode.offset, decision.time)
    nothing = timeline.empty(*state.hosts.free.shape[1:])
    hosts = Timeline(
        times=jnp.where(episode.touched[:, None], state.hosts.times, nothing.times[None]),
        free=jnp.where(episode.touched[:, None, None], state.hosts.free, nothing.free[None]),
    )
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
        hosts=hosts,
    )


def place(
    situation: Situation, network_route: chex.Array, host: chex.Array, eta: chex.Array, eps: chex.Array
) -> tuple[Flow, Execution]:
    """Flow and execution of the microservice at hand on a host, as the timelines have it; nothing is reserved.

    Args:
        situation: the decision at hand.
        network_route: (V, E) bool, links on the path from each edge node to the host's.
        host: () i32.
        eta: () share of the effective bottleneck.
        eps: () s of hold.
    """
    decision = situation.decision
    traffic = crossing(situation.inputs, network_route)
    flow = place_flow(situation.links, traffic, situation.bandwidth, situation.link_load, decision.time, eta, eps)
    execution = place_execution(
        Timeline(times=situation.hosts.times[host], free=situation.hosts.free[host]),
        decision.load,
        situation.speed[host],
        decision.demand,
        situation.capacity[host],
        flow.ready,
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
    offered = situation.bandwidth * (1.0 - situation.link_load)
    inbound = params.network.route[topology].swapaxes(0, 1)  # (target V, from V, E)

    def of_node(node: chex.Array, route: chex.Array, nominal: chex.Array) -> NodeObservation:
        table = Timeline(times=situation.hosts.times[node], free=situation.hosts.free[node])
        flow, execution = place(situation, route, node, jnp.float32(1.0), jnp.float32(0.0))
        duration = decision.load / situation.speed[node]
        last = jnp.max(jnp.where(jnp.isfinite(table.times), table.times, 0.0))
        return NodeObservation(
            free=_free_at(table, now),
            speed=situation.speed[node],
            load=situation.host_load[node],
            backlog=jnp.maximum(last - now, 0.0),
            inputs=situation.inputs[node],
            wait=timeline.earliest_start(table, execution.usage, now, duration) - now,
            transfer=jnp.max(situation.inputs / nominal),
            execution=duration,
            traffic=_sum_of_ratios(crossing(situation.inputs, route), offered),
            data_ready=flow.ready - now,
            finish=execution.finish - now,
        )

    nodes = jnp.arange(num_nodes, dtype=jnp.int32)
    return jax.vmap(of_node)(nodes, inbound, params.network.bottleneck[topology].swapaxes(0, 1))


def _observe_links(situation: Situation) -> LinkObservation:
    free = _free_at(situation.links, situation.decision.time) * situation.bandwidth
    offered = situation.bandwidth * (1.0 - situation.link_load)
    there = situation.bandwidth > 0.0
    return LinkObservation(
        free=jnp.clip(free, 0.0, offered),
        load=jnp.where(there, situation.link_load, 0.0),
        bandwidth=situation.bandwidth,
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
    latest = decision.release + state.episode.completion[decision.service]
    return ServiceObservation(
        remaining_load=jnp.sum(jnp.where(undecided, params.dags.load[decision.dag], 0.0)),
        remaining=jnp.sum(undecided, dtype=jnp.int32),
        age=decision.time - decision.release,
        slack=jnp.maximum(latest - decision.time, 0.0),
        source=jnp.arange(num_nodes) == decision.source,
    )


def _free_at(table: Timeline, now: chex.Array) -> chex.Array:
    """(R,) what is free in the segment that holds an instant."""
    segment = jnp.maximum(jnp.sum(table.times <= now, dtype=jnp.int32) - 1, 0)
    return jnp.maximum(table.free[segment], 0.0)


def _sum_of_ratios(amount: chex.Array, rate: chex.Array) -> chex.Array:
    return jnp.sum(jnp.where(amount > 0.0, amount / jnp.maximum(rate, 1e-30), 0.0))


def flatten(observation: Observation) -> chex.Array:
    """One float32 vector: the leaves in the order of their declaration, raveled.

    Returns:
        (V (K + 11) + 3 E + K + 9,) for one observation (no batch axes): see `observation_size`.
    """
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(observation)])


def observation_size(num_nodes: int, max_links: int, num_resources: int) -> int:
    """Length of the flattened observation: V (K + 11) + 3 E + K + 9."""
    return num_nodes * (num_resources + 11) + 3 * max_links + num_resources + 9
