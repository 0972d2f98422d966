"""What ran where and when in one episode: the record of its decisions, and the bars of its Gantt chart."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import Background, CECEnv, EnvParams, EnvState, Network, Observation, known_world
from jaxcec.env.background import load_at
from jaxcec.env.routing import WORD
from jaxcec.evaluation.rollout import Apply, Contender


class Placed(NamedTuple):
    """One decision. Times in s since the episode's beginning."""

    service: int
    microservice: int
    host: str  # `node 3`, or `device 3` for the end device at it
    load: float  # Mcycles, C
    data: float  # Mbit, D
    bandwidth: float  # eta, share of the path's bottleneck, B
    hold: float  # s, eps
    decided: float
    flow_start: float
    data_ready: float
    start: float
    finish: float
    origins: tuple[int, ...]  # edge nodes that sent input
    links: tuple[int, ...]  # that the input crossed

    @property
    def wait(self) -> float:
        """s between the input's arrival and the start."""
        return self.start - self.data_ready

    @property
    def node(self) -> int:
        """The edge node it ran on or beside."""
        return int(self.host.split()[1])


class Schedule(NamedTuple):
    """An episode under one policy."""

    policy: str
    placed: list[Placed]  # in the order of decisions
    num_nodes: int
    links: list[tuple[int, int, float]]  # ends and nominal Mbit/s
    releases: list[float]  # s, of each service
    sources: list[int]  # edge node that each came to
    frame: float  # s
    loads: np.ndarray  # (frames, E + V) other tenants' share of links, then of nodes

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
        """s until the last microservice is done."""
        return max(p.finish for p in self.placed)

    def link_name(self, link: int) -> str:
        """A link by its ends."""
        a, b, _ = self.links[link]
        return f"link {a}-{b}"


class Bar(NamedTuple):
    """A stretch of a resource's time. What overlaps lies in different slots."""

    resource: str
    slot: int
    start: float
    end: float
    placed: Placed


def record(env: CECEnv, env_params: EnvParams, contender: Contender, key: chex.PRNGKey) -> Schedule:
    """Play the episode of one key, as `rollout` plays it, and keep every decision.

    Args:
        env: the environment.
        env_params: its banks.
        contender: the policy.
        key: one of `episode_keys`.
    """
    state, info = _recorded(env, env_params, contender.apply, contender.params, key)
    info = jax.tree.map(np.asarray, info)
    episode, num_nodes = state.episode, env.config.num_nodes
    links, crossed = _links(env_params.network, int(episode.topology), num_nodes)
    rows = np.flatnonzero(info["decided"])
    placed = [_placed({name: column[i] for name, column in info.items()}, crossed, num_nodes) for i in rows]
    pattern = int(episode.arrivals)
    background = env_params.background
    frames = int(np.ceil(max(p.finish for p in placed) / float(background.frame)))
    times = jnp.arange(frames, dtype=jnp.float32) * background.frame
    return Schedule(
        policy=contender.name,
        placed=placed,
        num_nodes=num_nodes,
        links=links,
        releases=np.asarray(env_params.arrivals.release[pattern] / env_params.arrival_rate).tolist(),
        sources=np.asarray(env_params.arrivals.source[pattern]).tolist(),
        frame=float(background.frame),
        loads=_loads(background, episode.offset, times, env.config.max_links, len(links), num_nodes),
    )


@functools.partial(jax.jit, static_argnums=(0, 2))
def _recorded(
    env: CECEnv, env_params: EnvParams, apply: Apply, params: Any, key: chex.PRNGKey
) -> tuple[EnvState, dict[str, chex.Array]]:
    """The episode's last state, and a row for each decision it may at most have."""

    def step(carry: tuple[Observation, EnvState], index: chex.Array) -> tuple[Any, dict[str, chex.Array]]:
        observation, state = carry
        step_key = jax.random.fold_in(key, index)
        action = apply(params, observation, known_world(state, env_params), step_key)
        following, after, _, _, info = env.step_env(step_key, state, action, env_params)
        seen = {
            "load": observation.microservice.load,
            "data": observation.microservice.data,
            "inputs": observation.nodes.inputs,
            "bandwidth": action.bandwidth,
            "hold": action.hold,
        }
        return (following, after), info | seen

    most = env.config.num_services * env.config.max_microservices
    (_, state), info = jax.lax.scan(step, env.reset_env(key, env_params), jnp.arange(most))
    return state, info


def _links(
    network: Network, topology: int, num_nodes: int
) -> tuple[list[tuple[int, int, float]], dict[tuple[int, int], list[int]]]:
    """Ends and bandwidth of each link, and the links on the path between each two nodes.

    The routes are shortest by hops, so a path over one link is that link itself, and says which nodes it joins.
    """
    route, bandwidth = np.asarray(network.route[topology]), np.asarray(network.bandwidth[topology])
    pairs = [(a, b) for a in range(num_nodes) for b in range(num_nodes) if a != b]
    crossed = {(a, b): np.flatnonzero(route[a // WORD, b] >> (a % WORD) & 1).tolist() for a, b in pairs}
    ends = {path[0]: pair for pair, path in crossed.items() if len(path) == 1 and pair[0] < pair[1]}
    return [(*ends[link], float(bandwidth[link])) for link in sorted(ends)], crossed


def _placed(row: dict[str, Any], crossed: dict[tuple[int, int], list[int]], num_nodes: int) -> Placed:
    host, node = int(row["host"]), int(row["host"]) % num_nodes
    origins = tuple(int(v) for v in np.flatnonzero(row["inputs"]) if v != node)
    times = {name: float(row[name]) for name in ("flow_start", "data_ready", "start", "finish")}
    return Placed(
        service=int(row["service"]),
        microservice=int(row["microservice"]),
        host=f"node {node}" if host < num_nodes else f"device {node}",
        load=float(row["load"]),
        data=float(row["data"]),
        bandwidth=float(row["bandwidth"]),
        hold=float(row["hold"]),
        decided=float(row["time"]),
        origins=origins,
        links=tuple(sorted({link for v in origins for link in crossed[v, node]})),
        **times,
    )


def _loads(
    background: Background, offset: chex.Array, times: chex.Array, max_links: int, num_links: int, num_nodes: int
) -> np.ndarray:
    """(frames, links + nodes) share of each that other tenants have."""
    loads = np.asarray(jax.vmap(lambda time: load_at(background, offset, time))(times))
    return np.concatenate([loads[:, :num_links], loads[:, max_links : max_links + num_nodes]], axis=1)


def bars(schedule: Schedule) -> list[Bar]:
    """Executions on hosts and flows on links, each resource's in as few slots as can hold them."""
    stretches: dict[str, list[tuple[float, float, Placed]]] = {}
    for placed in schedule.placed:
        stretches.setdefault(placed.host, []).append((placed.start, placed.finish, placed))
        for link in placed.links:
            name = schedule.link_name(link)
            stretches.setdefault(name, []).append((placed.flow_start, placed.data_ready, placed))
    return [
        Bar(resource, slot, start, end, placed)
        for resource, found in stretches.items()
        for slot, (start, end, placed) in _slotted(found)
    ]


def slot_counts(drawn: Sequence[Bar]) -> dict[str, int]:
    """How many slots each resource's bars need."""
    counts: dict[str, int] = {}
    for bar in drawn:
        counts[bar.resource] = max(counts.get(bar.resource, 0), bar.slot + 1)
    return counts


def resources(schedules: Sequence[Schedule]) -> list[str]:
    """All nodes, then the devices and links that some schedule uses, in the order of a chart from above."""
    first = schedules[0]
    used = {bar.resource for schedule in schedules for bar in bars(schedule)}
    devices = [f"device {v}" for v in range(first.num_nodes)]
    links = [first.link_name(link) for link in range(len(first.links))]
    return [f"node {v}" for v in range(first.num_nodes)] + [name for name in devices + links if name in used]


def _slotted(
    stretches: list[tuple[float, float, Placed]],
) -> Iterator[tuple[int, tuple[float, float, Placed]]]:
    """Each stretch with the lowest slot that is free when it begins."""
    ends: list[float] = []
    for stretch in sorted(stretches, key=lambda s: s[:2]):
        slot = next((i for i, end in enumerate(ends) if end <= stretch[0] + 1e-3), len(ends))
        ends[slot:] = [stretch[1], *ends[slot + 1 :]]
        yield slot, stretch
