"""The schedule of one episode: a record of every decision, and the bars of a Gantt chart."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import CECEnv, EnvParams, EnvState, Names, Network, Observation, any_undecided, known_world
from jaxcec.env.background import load_at
from jaxcec.env.env import LEAST_BANDWIDTH
from jaxcec.env.routing import WORD
from jaxcec.env.types import Background
from jaxcec.evaluation.measures import STANDARD, MeasureConfig, Measures, Work, decision_work, episode_measures
from jaxcec.evaluation.rollout import Apply, Contender, check_finite, never_postponed_late

Row = dict[str, Any]  # the record of a decision, its work, and what the policy saw of the microservice
Paths = dict[tuple[int, int], list[int]]  # links on the path between two nodes
Resource = tuple[Literal["node", "device", "link"], int]  # with the number of the node or link


NAMELESS = Names()


class Placed(NamedTuple):
    """One decision and its consequences. Times are in s since the start of the episode."""

    service: int
    workflow: str  # name of the service's DAG, or its row in the bank
    microservice: int
    task: str  # name of the microservice, or its number
    node: int  # the edge node that it runs on, or whose end device it runs on
    kind: Literal["node", "device"]  # which of the two
    host: str  # its name: by default `node 3`, or `device 3` for the end device
    load: float  # Mcycles, C
    data: float  # Mbit, D
    bandwidth: float  # eta, share of the path's bottleneck, B
    hold: float  # s, eps
    decided: float
    flow_start: float
    flow_end: float
    data_ready: float  # later than `flow_end` by the latency
    start: float
    finish: float
    origins: tuple[int, ...]  # edge nodes that sent input
    sent: tuple[float, ...]  # Mbit that each of them sent
    links: tuple[int, ...]  # crossed by the input
    traffic: float  # Mbit of input sent, counted once on each link that it crossed
    demand: tuple[float, ...]  # of each kind of resource, R
    predecessors: tuple[int, ...]  # microservices that had to finish before

    @property
    def wait(self) -> float:
        """Time in s from the arrival of the input to the start of the execution."""
        return self.start - self.data_ready

    @property
    def resource(self) -> Resource:
        """Where it ran."""
        return self.kind, self.node


class Schedule(NamedTuple):
    """One episode under one policy."""

    policy: str
    placed: list[Placed]  # in the order of decisions
    nodes: list[str]  # name of each edge node
    devices: list[str]  # name of the end device of each
    places: list[int]  # of each edge node, the node where it is: another one if it fills up a smaller network
    links: list[tuple[int, int, float]]  # both ends and the nominal bandwidth in Mbit/s
    link_names: list[str]
    releases: list[float]  # of each service, s
    sources: list[int]  # edge node that each service arrives at
    speeds: list[float]  # of each host, Mcycles/s nominal: edge nodes first, then their end devices
    capacities: list[list[float]]  # of each edge node, of each kind of resource
    slowdowns: list[float]  # of each service
    measures: dict[str, float]  # `act` and those of `measures.Measures` that are of the whole episode
    measuring: MeasureConfig  # numbers that the measures depend on
    frame: float  # length of a frame of `loads`, s
    loads: np.ndarray  # (frames, E + V) share of each link, then of each node, that other tenants use

    @property
    def completions(self) -> list[float]:
        """Completion time of each service, s (Eq. 5)."""
        last = [max(p.finish for p in self.placed if p.service == i) for i in range(len(self.releases))]
        return [finish - release for finish, release in zip(last, self.releases, strict=True)]

    @property
    def act(self) -> float:
        """Average completion time, s."""
        return float(np.mean(self.completions))

    @property
    def makespan(self) -> float:
        """Time in s at which the last microservice finishes."""
        return max(p.finish for p in self.placed)

    @property
    def moved(self) -> float:
        """Share of microservices that did not run on the edge node that their service arrived at."""
        return float(np.mean([p.resource != ("node", self.sources[p.service]) for p in self.placed]))

    @property
    def traffic(self) -> float:
        """Input sent, counted once on each link that it crossed, Mbit."""
        return sum(p.traffic for p in self.placed)

    @property
    def busy(self) -> float:
        """Share of the edge nodes' time until the makespan in which at least one microservice runs, without routers."""
        nodes = [v for v, _ in enumerate(self.nodes) if self.speeds[v] > 0.0]
        runs = [sorted((p.start, p.finish) for p in self.placed if p.resource == ("node", v)) for v in nodes]
        return sum(map(_covered, runs)) / (max(len(nodes), 1) * self.makespan)

    def name(self, resource: Resource) -> str:
        """Name of a resource."""
        kind, number = resource
        return {"node": self.nodes, "device": self.devices, "link": self.link_names}[kind][number]


def _covered(intervals: Sequence[tuple[float, float]]) -> float:
    """Length of the union of intervals that are sorted by their starts."""
    length, until = 0.0, 0.0
    for start, end in intervals:
        length += max(end - max(start, until), 0.0)
        until = max(until, end)
    return length


class Bar(NamedTuple):
    """An interval in which an execution or a flow occupies a resource; bars that overlap have different slots."""

    resource: Resource
    slot: int
    slots: int  # of the resource
    start: float
    end: float
    placed: Placed


def record(
    env: CECEnv,
    env_params: EnvParams,
    contender: Contender,
    key: chex.PRNGKey,
    *,
    names: Names = NAMELESS,
    measuring: MeasureConfig = STANDARD,
) -> Schedule:
    """Play the episode that `rollout` plays for one key, such as one of `episode_keys`, and keep every decision.

    The names, such as `Sources.names` of a scenario with files, are those of nodes, workflows and tasks.

    Raises:
        ValueError: the policy's actions have numbers that are not finite.
    """
    state, rows, invalid = _play_recorded(env, env_params, contender.apply, contender.params, key)
    check_finite(contender.name, invalid=int(invalid), steps=int(state.episode.step))
    rows = jax.tree.map(np.asarray, rows)
    measures = _measures(state, rows["work"], env_params, config=measuring)
    episode, num_nodes, network = state.episode, env.config.num_nodes, env_params.network
    pattern, topology = int(episode.arrivals), int(episode.topology)
    nodes = names.nodes(topology, num_nodes)
    devices = [names.device(*node) for node in enumerate(nodes)]
    links, paths = _links_and_paths(network, topology, num_nodes)
    dags = np.asarray(env_params.arrivals.dag[pattern])
    preds = np.asarray(env_params.dags.preds[dags])  # (M, N, N)
    booked = [jax.tree.map(lambda column, i=i: column[i], rows) for i in np.flatnonzero(rows["decided"])]
    placed = [_placed(row, paths, preds=preds, dags=dags, names=names, hosts=[*nodes, *devices]) for row in booked]
    frame = float(env_params.background.frame)
    loads = _loads(env_params.background, episode.offset, int(np.ceil(max(p.finish for p in placed) / frame)))
    of_nodes = slice(env.config.max_links, env.config.max_links + num_nodes)
    return Schedule(
        policy=contender.name,
        placed=placed,
        nodes=nodes,
        devices=devices,
        places=_places(network, topology),
        links=links,
        link_names=[names.link((a, b), nodes) for a, b, _ in links],
        releases=np.asarray(env_params.arrivals.release[pattern] / env_params.arrival_rate).tolist(),
        sources=np.asarray(env_params.arrivals.source[pattern]).tolist(),
        speeds=np.asarray(network.speed[topology]).tolist(),
        capacities=np.asarray(network.capacity[topology, :num_nodes]).tolist(),
        slowdowns=np.asarray(measures.slowdown).tolist(),
        measures={"act": float(rows["act"].max())}
        | {name: float(value) for name, value in measures._asdict().items() if value.ndim == 0},
        measuring=measuring,
        frame=frame,
        loads=np.concatenate([loads[:, : len(links)], loads[:, of_nodes]], axis=1),
    )


@jax.jit
def _measures(state: EnvState, work: Work, env_params: EnvParams, *, config: MeasureConfig) -> Measures:
    """The measures of an episode from the work of each decision, (decisions,) each."""
    return episode_measures(state, jax.tree.map(jnp.sum, work), env_params, config=config)


def _loads(background: Background, offset: chex.Array, frames: int) -> np.ndarray:
    """(frames, R) load of each link and host from the beginning of an episode."""
    padded = 1 << (frames - 1).bit_length()  # so that episodes of any length share few compiled programs
    return np.asarray(_padded_loads(background, offset, padded))[:frames]


@functools.partial(jax.jit, static_argnums=2)
def _padded_loads(background: Background, offset: chex.Array, frames: int) -> chex.Array:
    times = jnp.arange(frames, dtype=jnp.float32) * background.frame
    return jax.vmap(lambda time: load_at(background, offset, time))(times)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _play_recorded(
    env: CECEnv, env_params: EnvParams, apply: Apply, params: Any, key: chex.PRNGKey
) -> tuple[EnvState, Row, chex.Array]:
    """The last state of the episode, a row of each booked decision, of as many as an episode can have, and the number
    of actions with a number that is not finite.
    """

    def step(observation: Observation, state: EnvState, index: chex.Array) -> tuple[Observation, EnvState, Row]:
        step_key = jax.random.fold_in(key, index)
        action = apply(params, observation, known_world(state, env_params), step_key)
        action = never_postponed_late(env, action, index)
        next_observation, next_state, _, _, info = env.step_env(step_key, state, action, env_params)
        seen = {
            "load": observation.microservice.load,
            "data": observation.microservice.data,
            "inputs": observation.nodes.inputs,
            "demand": observation.microservice.demand,
            "bandwidth": jnp.clip(action.bandwidth, LEAST_BANDWIDTH, 1.0),  # as it counts
            "hold": jnp.maximum(action.hold, 0.0),
            "work": decision_work(state, info, env_params),
        }
        return next_observation, next_state, info | seen

    def step_and_write(carry: tuple[Observation, EnvState, Row, chex.Array, chex.Array, chex.Array]) -> Any:
        observation, state, rows, booked, invalid, index = carry
        observation, state, row = step(observation, state, index)
        at = jnp.where(row["decided"], booked, most)  # beyond the rows, where nothing is written
        rows = jax.tree.map(lambda column, x: column.at[at].set(x, mode="drop"), rows, row)
        booked, invalid = (n + row[name].astype(jnp.int32) for n, name in ((booked, "decided"), (invalid, "invalid")))
        return observation, state, rows, booked, invalid, index + 1

    most, zero = env.config.num_services * env.config.max_microservices, jnp.int32(0)
    first = env.reset_env(key, env_params)
    row = jax.eval_shape(step, *first, zero)[2]
    rows = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), row)
    carry = jax.lax.while_loop(lambda carry: any_undecided(carry[1]), step_and_write, (*first, rows, zero, zero, zero))
    return carry[1], carry[2], carry[4]


def _links_and_paths(network: Network, topology: int, num_nodes: int) -> tuple[list[tuple[int, int, float]], Paths]:
    """Ends and bandwidth of each link, and the links on the path between every two nodes.

    Routes have the fewest hops. A path over a single link is therefore that link itself, which gives its two ends.
    """
    route, bandwidth = np.asarray(network.route[topology]), np.asarray(network.bandwidth[topology])
    pairs = [(a, b) for a in range(num_nodes) for b in range(num_nodes) if a != b]
    paths = {(a, b): np.flatnonzero(route[a // WORD, b] >> (a % WORD) & 1).tolist() for a, b in pairs}
    ends: dict[int, tuple[int, int]] = {}
    for pair, path in paths.items():
        if len(path) == 1:
            ends.setdefault(path[0], pair)  # the lower node first, unless each direction is a resource of its own
    return [(*ends[link], float(bandwidth[link])) for link in sorted(ends)], paths


def _places(network: Network, topology: int) -> list[int]:
    """Of each edge node, the first node at the same place: between the two, no link is the bottleneck."""
    return np.argmax(np.isinf(np.asarray(network.bottleneck[topology])), axis=1).tolist()


def _placed(
    row: Row, paths: Paths, *, preds: np.ndarray, dags: np.ndarray, names: Names, hosts: Sequence[str]
) -> Placed:
    """The decision in one row of `_play_recorded`.

    Of the episode are given the (M, N, N) predecessors of each microservice, the (M,) row in the bank of each service's
    DAG, and the names of all hosts.
    """
    service, microservice = int(row["service"]), int(row["microservice"])
    host, num_nodes, dag = int(row["host"]), len(hosts) // 2, int(dags[service])
    node = host % num_nodes
    origins = tuple(int(v) for v in np.flatnonzero(row["inputs"]) if v != node)
    same = ("load", "data", "bandwidth", "hold", "flow_start", "flow_end", "data_ready", "start", "finish")
    return Placed(
        service=service,
        workflow=names.workflow(dag),
        microservice=microservice,
        task=names.task(dag, microservice),
        node=node,
        kind="node" if host < num_nodes else "device",
        host=hosts[host],
        decided=float(row["time"]),
        origins=origins,
        sent=tuple(float(row["inputs"][v]) for v in origins),
        demand=tuple(map(float, row["demand"])),
        predecessors=tuple(np.flatnonzero(preds[service, microservice]).tolist()),
        links=tuple(sorted({link for v in origins for link in paths[v, node]})),
        traffic=float(sum(row["inputs"][v] * len(paths[v, node]) for v in origins)),
        **{name: float(row[name]) for name in same},
    )


def bars(schedule: Schedule) -> list[Bar]:
    """Executions on hosts and flows on links; each resource has the fewest slots that can hold its bars."""
    intervals: dict[Resource, list[tuple[float, float, Placed]]] = {}
    for placed in schedule.placed:
        intervals.setdefault(placed.resource, []).append((placed.start, placed.finish, placed))
        for link in placed.links:
            intervals.setdefault(("link", link), []).append((placed.flow_start, placed.flow_end, placed))
    return [bar for resource, found in intervals.items() for bar in _in_slots(resource, found)]


def resources(schedules: Sequence[Schedule]) -> list[Resource]:
    """Rows of a chart from top to bottom: nodes that can run something, then the devices and links that are used."""
    first = schedules[0]
    used = {bar.resource for schedule in schedules for bar in bars(schedule)}
    rows: list[Resource] = [("node", v) for v, _ in enumerate(first.nodes) if first.speeds[v] > 0.0]
    rows += [("device", v) for v, _ in enumerate(first.nodes) if ("device", v) in used]
    return rows + [("link", link) for link, _ in enumerate(first.links) if ("link", link) in used]


def _in_slots(resource: Resource, intervals: list[tuple[float, float, Placed]]) -> list[Bar]:
    """The bars of one resource, each in the lowest slot that is free when it starts."""
    ordered = sorted(intervals, key=lambda each: each[:2])
    slots, ends = [], list[float]()  # of each bar; of the last bar in each slot
    for start, end, _ in ordered:
        slot = next((i for i, before in enumerate(ends) if before <= start + 1e-3), len(ends))
        ends[slot:] = [end, *ends[slot + 1 :]]
        slots.append(slot)
    return [Bar(resource, slot, len(ends), *interval) for slot, interval in zip(slots, ordered, strict=True)]
