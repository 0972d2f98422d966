"""The observation (Eq. 10-12): nothing later than now, and nothing about services not yet released."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import routing, timeline
from jaxcec.env.coflow import crossing, link_times, path_delay
from jaxcec.env.dag import Decision, expected_completion, released, successors_of
from jaxcec.env.execution import execution_time, feasible_hosts
from jaxcec.env.indexing import take
from jaxcec.env.placement import Situation, current_situation, place
from jaxcec.env.reductions import largest
from jaxcec.env.spaces import Box, Tree
from jaxcec.env.types import (
    INFEASIBLE,
    EnvConfig,
    EnvParams,
    EnvState,
    LinkObservation,
    MicroserviceObservation,
    NodeObservation,
    Observation,
    ServiceObservation,
    Timeline,
)

LEAST_FREE = 0.01  # share of a link's bandwidth that counts as free at least, so that `at_free` is finite


def observe(state: EnvState, params: EnvParams) -> Observation:
    """The observation of a state; after termination, the microservice and service parts are zero."""
    situation = current_situation(state, params)
    decision = situation.decision

    def if_active(tree: chex.ArrayTree) -> chex.ArrayTree:
        return jax.tree.map(lambda x: jnp.where(decision.active, x, jnp.zeros_like(x)).astype(jnp.float32), tree)

    return Observation(
        nodes=_observe_nodes(situation, params),
        links=_observe_links(situation),
        microservice=if_active(_observe_microservice(decision, params)),
        service=if_active(_observe_service(decision, state, params)),
        time_unit=jnp.asarray(params.time_unit, jnp.float32),
    )


def _observe_nodes(situation: Situation, params: EnvParams) -> NodeObservation:
    decision, topology = situation.decision, situation.state.episode.topology
    now, num_nodes = decision.time, situation.inputs.shape[0]
    nodes = slice(0, num_nodes)
    route = routing.words(params.network.route, topology)
    latency, nominal = take(params.network.latency, topology), take(params.network.bottleneck, topology).swapaxes(0, 1)
    eta, eps = jnp.ones(num_nodes, jnp.float32), jnp.zeros(num_nodes, jnp.float32)
    flow, execution, timelines = place(situation, nodes, route=route, latency=latency, eta=eta, eps=eps)
    duration = execution_time(decision.load, situation.speed[nodes])
    offered = situation.bandwidth * (1.0 - situation.link_load)

    def wait(host: Timeline, usage: chex.Array, duration: chex.Array) -> chex.Array:
        return timeline.earliest_start(host, usage[None], not_before=now[None], duration=duration[None])[0] - now

    feasible = situation.feasible[nodes]

    def if_feasible(time: chex.Array) -> chex.Array:
        return jnp.where(feasible, time, INFEASIBLE)

    last = largest(jnp.where(jnp.isfinite(timelines.times), timelines.times, 0.0))
    links, delay = _observe_links(situation), path_delay(situation.inputs, latency)
    traffic = crossing(situation.inputs, route)
    link_time = link_times(traffic, offered)
    free = jnp.maximum(links.free, LEAST_FREE * situation.bandwidth)

    return NodeObservation(
        free=jax.vmap(timeline.free_at, in_axes=(0, None))(timelines, now),
        share=execution.usage,
        speed=situation.speed[nodes],
        load=situation.host_load[nodes],
        backlog=jnp.maximum(last - now, 0.0),
        committed=jnp.max(jax.vmap(timeline.reserved_ahead, in_axes=(0, None))(timelines, now), axis=-1),
        inputs=situation.inputs,
        wait=if_feasible(jax.vmap(wait)(timelines, execution.usage, duration)),
        transfer=jnp.max(situation.inputs[None] / nominal, axis=1) + delay,
        execution=if_feasible(duration),
        traffic=jnp.sum(link_time, axis=-1),
        at_offered=jnp.max(link_time, axis=-1) + delay,
        at_free=jnp.max(link_times(traffic, free), axis=-1) + delay,
        **_observe_paths(links, link_time),
        data_ready=flow.ready - now,
        finish=if_feasible(execution.finish - now),
        ahead=path_ahead(decision, params, topology),
        feasible=feasible.astype(jnp.float32),
    )


def _observe_paths(links: LinkObservation, link_time: chex.Array) -> dict[str, chex.Array]:
    """The leaves about the links that the input crosses to each node, from (V, E) s that each link needs for it."""
    crossed = link_time > 0.0

    def worst(of_link: chex.Array) -> chex.Array:
        return jnp.max(jnp.where(crossed, of_link, 0.0), axis=-1)

    return {
        "path_links": jnp.sum(crossed, axis=-1, dtype=jnp.int32).astype(jnp.float32),
        "path_load": worst(links.load[None]),
        "path_busy": worst(links.busy[None]),
        "path_committed": worst(links.backlog[None]),
        "path_committed_total": jnp.sum(jnp.where(crossed, links.backlog[None], 0.0), axis=-1),
        "path_contended": worst(links.backlog[None] + link_time),
    }


def path_ahead(decision: Decision, params: EnvParams, topology: chex.Array) -> chex.Array:
    """(V,) s, optimistic time from the finish on each edge node to the end of the heaviest path after the microservice.

    The input of the heaviest successor, that from this microservice and that from its other decided predecessors and
    from the source, moves to the best node for it at nominal bandwidths, and the path then runs there without waiting.
    This is one step of PEFT's optimistic cost table (Arabnejad and Barbosa, IEEE TPDS 2014); a whole table would be
    needed for each DAG and topology.

    It is 0 for an exit, for a successor that no edge node can run, and after termination. The row of `Network` is the
    () i32 `topology`.
    """
    dags, network, num_nodes = params.dags, params.network, params.network.bottleneck.shape[-1]
    rank = jnp.where(successors_of(decision, dags), take(dags.rank, decision.dag), 0.0)
    successor = jnp.argmax(rank).astype(jnp.int32)
    has_successor = decision.active & (take(rank, successor) > 0.0)
    what = decision.dag, successor
    sent = take(dags.sent, *what)
    external, total = take(sent, successor), jnp.sum(sent)
    unit = take(dags.data, *what) / jnp.where(total > 0.0, total, 1.0)
    nodes = jnp.arange(num_nodes, dtype=jnp.int32)
    siblings = jnp.where(decision.pending < 0, sent, 0.0)
    at_node = decision.host.astype(jnp.int32)[None] % num_nodes == nodes[:, None]
    others = jnp.sum(jnp.where(at_node, siblings[None], 0.0), axis=1)
    others += jnp.where(nodes == decision.source, external, 0.0)
    moving = unit / take(network.bottleneck, topology)  # (V, V) s, from node to node
    latency = take(network.latency, topology)
    own = take(sent, decision.microservice)
    arrival = jnp.where(own * unit > 0.0, own * moving + latency, 0.0)
    gathering = jnp.max(jnp.where(others[:, None] * unit > 0.0, others[:, None] * moving + latency, 0.0), axis=0)
    speed, capacity = take(network.speed, topology), take(network.capacity, topology)
    feasible = feasible_hosts(take(dags.load, *what), take(dags.demand, *what), speed=speed, capacity=capacity)
    feasible = feasible[:num_nodes]
    run = jnp.where(feasible, execution_time(take(rank, successor), speed[:num_nodes]), INFEASIBLE)
    ahead = jnp.min(jnp.maximum(arrival, gathering[None]) + run[None], axis=1)
    return jnp.where(has_successor & jnp.any(feasible), ahead, 0.0)


def _observe_links(situation: Situation) -> LinkObservation:
    now = situation.decision.time
    free = timeline.free_at(situation.state.links, now) * situation.bandwidth
    offered = situation.bandwidth * (1.0 - situation.link_load)
    exists = situation.bandwidth > 0.0
    return LinkObservation(
        free=jnp.clip(free, 0.0, offered),
        load=jnp.where(exists, situation.link_load, 0.0),
        bandwidth=situation.bandwidth,
        backlog=jnp.where(exists, timeline.reserved_ahead(situation.state.links, now), 0.0),
        busy=jnp.where(exists, jnp.maximum(timeline.busy_until(situation.state.links) - now, 0.0), 0.0),
    )


def _observe_microservice(decision: Decision, params: EnvParams) -> MicroserviceObservation:
    return MicroserviceObservation(
        load=decision.load,
        data=decision.data,
        demand=decision.demand,
        in_degree=jnp.sum(decision.preds, dtype=jnp.int32),
        out_degree=jnp.sum(successors_of(decision, params.dags), dtype=jnp.int32),
        rank=take(params.dags.rank, decision.dag, decision.microservice),
    )


def _observe_service(decision: Decision, state: EnvState, params: EnvParams) -> ServiceObservation:
    undecided = decision.pending >= 0
    episode = state.episode
    completion = take(episode.completion, decision.service)
    expected = expected_completion(
        decision.pending,
        decision.ready,
        rank=take(params.dags.rank, decision.dag),
        speed=take(params.network.speed, episode.topology),
        release=decision.release,
        completion=completion,
    )
    # This service is excluded by its index, not by subtracting one: its release may be rounded to after now.
    services = jnp.arange(episode.next_ready.size, dtype=jnp.int32)
    present = (services != decision.service) & released(episode, decision.time) & jnp.isfinite(episode.next_ready)
    work = jnp.where(episode.begun, state.work, take(params.dags.work, take(params.arrivals.dag, episode.arrivals)))
    shorter = (work < decision.work) | ((work == decision.work) & (services < decision.service))
    age = jnp.maximum(decision.time - decision.release, 0.0)  # both may be roundings of one release time
    return ServiceObservation(
        remaining_load=jnp.sum(jnp.where(undecided, take(params.dags.load, decision.dag), 0.0)),
        remaining=jnp.sum(undecided, dtype=jnp.int32),
        age=age,
        slack=jnp.maximum(completion - age, 0.0),
        expected=jnp.maximum(expected - age, 0.0),
        others=jnp.sum(present, dtype=jnp.int32),
        source=jnp.arange(params.network.bottleneck.shape[-1], dtype=jnp.int32) == decision.source,
        shorter=jnp.sum(present & shorter, dtype=jnp.int32),
    )


def flatten(observation: Observation) -> chex.Array:
    """One float32 vector of `observation_size` elements: the leaves in the order of their declaration, raveled.

    The observation is that of one environment, without batch axes.
    """
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(observation)])


def observation_size(num_nodes: int, max_links: int, num_resources: int) -> int:
    """Length of the flattened observation: V (2 K + 22) + 5 E + K + 13."""
    return num_nodes * (2 * num_resources + 22) + 5 * max_links + num_resources + 13


def observation_space(config: EnvConfig) -> Tree:
    """Non-negative float32 arrays of the shapes in `types.Observation`."""
    v, e, k = (config.num_nodes,), (config.max_links,), (config.num_resources,)

    def boxes(cls: type, shape: tuple[int, ...], **exceptions: tuple[int, ...]) -> chex.ArrayTree:
        names = (field.name for field in dataclasses.fields(cls))
        return cls(**{name: Box(0.0, float("inf"), exceptions.get(name, shape)) for name in names})

    return Tree(
        Observation(
            nodes=boxes(NodeObservation, v, free=v + k, share=v + k),
            links=boxes(LinkObservation, e),
            microservice=boxes(MicroserviceObservation, (), demand=k),
            service=boxes(ServiceObservation, (), source=v),
            time_unit=Box(0.0, float("inf"), ()),
        )
    )
