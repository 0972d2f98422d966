"""One episode of a world, as the lab plays it and as the simulator does."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import CECEnv, Dags, EnvParams
from jaxcec.env.background import load_at
from jaxcec.env.known import HISTORY
from jaxcec.env.routing import WORD
from jaxcec.live.events import Service
from jaxcec.live.site import Site


class LabWorld(NamedTuple):
    """One episode."""

    site: Site
    services: list[Service]  # with their releases, s since the beginning of the episode
    before: np.ndarray  # (HISTORY, E + V) share of each link resource, then of each node, in the frames before it
    loads: np.ndarray  # (frames, E + V) the same from its beginning on


def without_devices(params: EnvParams) -> EnvParams:
    """The params without end devices, which the lab does not have."""
    num_nodes = params.network.speed.shape[-1] // 2
    network = params.network.replace(speed=params.network.speed.at[:, num_nodes:].set(0.0))
    return params.replace(network=network)


def lab_world(env: CECEnv, params: EnvParams, key: chex.PRNGKey, *, seconds: float) -> LabWorld:
    """The episode that the simulator plays for a key.

    Args:
        env: the environment.
        params: without devices.
        key: of the episode.
        seconds: for which other tenants' load is needed, s.
    """
    episode = env.reset_env(key, params)[1].episode
    topology, pattern = int(episode.topology), int(episode.arrivals)
    site = _site(env, params, topology)
    rows = jax.tree.map(np.asarray, params.dags)
    arrivals = jax.tree.map(lambda bank: np.asarray(bank[pattern]), params.arrivals)
    releases = arrivals.release / float(params.arrival_rate)
    services = [
        _service(rows, int(row), release=float(release), source=int(source))
        for row, release, source in zip(arrivals.dag, releases, arrivals.source, strict=True)
    ]
    frames = jnp.arange(-HISTORY, int(np.ceil(seconds / site.frame)) + 1, dtype=jnp.float32) * params.background.frame
    resources = np.r_[: len(site.bandwidth), env.config.max_links : env.config.max_links + env.config.num_nodes]
    offset = episode.offset[resources]
    loads = np.asarray(load_at(params.background, offset[:, None], frames[None])).T
    return LabWorld(site, services, loads[:HISTORY], loads[HISTORY:])


def _site(env: CECEnv, params: EnvParams, topology: int) -> Site:
    config, network = env.config, params.network
    speed = np.asarray(network.speed[topology], np.float64)
    return Site(
        links=_links(np.asarray(network.route[topology]), np.asarray(network.bandwidth[topology], np.float64)),
        node_speed=speed[: config.num_nodes].tolist(),
        device_speed=speed[config.num_nodes :].tolist(),
        capacity=np.asarray(network.capacity[topology, : config.num_nodes], np.float64).tolist(),
        ties="index" if (np.diff(np.asarray(params.dags.turn)) > 0).all() else "rank",
        frame=float(params.background.frame),
        num_services=config.num_services,
        max_microservices=config.max_microservices,
        link_breakpoints=config.link_breakpoints,
        host_breakpoints=config.host_breakpoints,
    )


def _links(route: np.ndarray, bandwidth: np.ndarray) -> list[tuple[Any, ...]]:
    """The links in the order of their resources, from (W, V, E) packed routes: a path over one link is that link."""
    num_nodes = route.shape[1]
    found: dict[int, tuple[int, int]] = {}
    for a, b in ((a, b) for a in range(num_nodes) for b in range(num_nodes) if a != b):
        path = np.flatnonzero(route[a // WORD, b] >> (a % WORD) & 1)
        if len(path) == 1:
            found.setdefault(int(path[0]), (a, b))
    links: list[tuple[int, int, float | tuple[float, float]]] = []
    for index, (a, b) in sorted(found.items()):
        if found.get(index - 1) != (b, a):
            back = found.get(index + 1) == (b, a)
            links.append(
                (a, b, (float(bandwidth[index]), float(bandwidth[index + 1])) if back else float(bandwidth[index]))
            )
    return links


def _service(rows: Dags, row: int, *, release: float, source: int) -> Service:
    size = int(rows.size[row])
    sent = rows.sent[row, :size, :size].astype(np.float64)
    total = sent.sum(axis=1)
    parts = sent * (rows.data[row, :size] / np.where(total > 0.0, total, 1.0))[:, None]  # (n, n) Mbit
    preds = [np.flatnonzero(rows.preds[row, j, :size]).tolist() for j in range(size)]
    return Service(
        source=source,
        load=rows.load[row, :size].tolist(),
        demand=rows.demand[row, :size].tolist(),
        release=release,
        inputs=[{k: float(parts[j, k]) for k in preds[j]} for j in range(size)],
        external=np.diagonal(parts).tolist(),
    )
