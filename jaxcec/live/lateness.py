"""What the mechanism leaves out: how much later runs finish than they were booked to, learned from event logs.

A real site needs time to decide, to tell a worker and to start a program, its flows carry headers, and a node may be
slower than its description says. The mirror's mechanism knows nothing of this; a linear model of it is added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import chex
import jax.numpy as jnp
import numpy as np
from flax import struct
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from scipy.optimize import least_squares

from jaxcec.env import Observation
from jaxcec.files import write_json
from jaxcec.live.site import Site

_WAITS = 1e-3  # s from which something counts as waiting
_INLIER = 0.1  # s: a larger error counts as its size, so that a few very late runs do not decide
_HELD = 20  # decisions without lateness, at the mean of its feature, that each term has to outweigh at least
FEATURES = (
    "always",
    "crosses links",
    "waits for links",
    "waits for the node",
    "transfer",
    "wait for links",
    "wait for the node",
    "execution",
)  # the first four are 1 or 0, the others s


class Lateness(struct.PyTreeNode):
    """A linear model of the lateness of a finish, s, on each of V edge nodes."""

    shared: chex.Array  # (len(FEATURES),) s, and s/s for the last four
    pause: chex.Array  # (V,) s, by which every execution on a node is later
    slower: chex.Array  # (V,) s/s, by which it takes longer there


def no_lateness(num_nodes: int) -> Lateness:
    """The model before anything was learned."""
    nothing = jnp.zeros(num_nodes)
    return Lateness(shared=jnp.zeros(len(FEATURES)), pause=nothing, slower=nothing)


def features(observation: Observation) -> chex.Array:
    """(V, len(FEATURES)) what the mechanism expects of the microservice on each node; 0 where it cannot run.

    It may wait for links, takes its input there at the rates that are offered, may wait for the node, and is executed.
    """
    nodes = observation.nodes
    crosses = nodes.path_links > 0.0
    transfer = jnp.where(crosses, nodes.at_offered, 0.0)
    for_links = jnp.where(crosses, nodes.data_ready - nodes.at_offered, 0.0)
    for_links, for_node = (jnp.where(wait > _WAITS, wait, 0.0) for wait in (for_links, nodes.wait))
    flags = jnp.ones_like(crosses), crosses, for_links > 0.0, for_node > 0.0
    columns = (*(flag.astype(jnp.float32) for flag in flags), transfer, for_links, for_node, nodes.execution)
    return jnp.where(nodes.feasible[:, None] > 0.0, jnp.stack(columns, axis=-1), 0.0)


def lateness_of(lateness: Lateness, seen: chex.Array, node: chex.Array) -> chex.Array:
    """(n,) s, how much later than the mechanism expects microservices with these features finish on these nodes.

    At the earliest they finish when they would begin.
    """
    late = seen @ lateness.shared + seen[:, 0] * lateness.pause[node] + seen[:, -1] * lateness.slower[node]
    return jnp.maximum(late, -seen[:, -1])


def corrected(observation: Observation, lateness: Lateness) -> tuple[Observation, chex.Array]:
    """The observation with finishes as they are expected with what was learned, and (V,) s, how much later they are."""
    nodes, seen = observation.nodes, features(observation)
    late = lateness_of(lateness, seen, jnp.arange(len(seen)))
    return observation.replace(nodes=nodes.replace(finish=nodes.finish + late)), late


def fitted_lateness(
    seen: np.ndarray, node: np.ndarray, lateness: np.ndarray, *, num_nodes: int, by_node: bool
) -> Lateness:
    """The model that fits what was measured.

    Args:
        seen: (n, len(FEATURES)) of the nodes that were chosen.
        node: (n,) those nodes.
        lateness: (n,) s, measured.
        num_nodes: V.
        by_node: whether nodes have terms of their own.
    """
    own = np.eye(num_nodes)[node] * by_node
    columns = np.concatenate([seen, own * seen[:, :1], own * seen[:, -1:]], axis=1).astype(np.float64)
    usual = np.concatenate([seen.mean(axis=0), np.ones(num_nodes), np.full(num_nodes, seen[:, -1].mean())])
    rows = np.concatenate([columns, np.diag(_HELD * np.maximum(usual, 1.0))])
    wanted = np.concatenate([lateness, np.zeros(columns.shape[1])])

    def errors(weights: np.ndarray) -> np.ndarray:
        return rows @ weights - wanted

    start = np.zeros(rows.shape[1])
    found = least_squares(errors, start, jac=lambda _: rows, loss="soft_l1", f_scale=_INLIER, x_scale="jac").x
    shared, pause, slower = np.split(found.astype(np.float32), [len(FEATURES), len(FEATURES) + num_nodes])
    return Lateness(shared=shared, pause=pause, slower=slower)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    shared: dict[str, FiniteFloat]
    pause: list[FiniteFloat]
    slower: list[FiniteFloat]
    site: str | None  # the digest of that of these nodes; None without terms of nodes


def save_lateness(path: Path, lateness: Lateness, site: Site | None) -> None:
    """Write the model as JSON that people can read, with the site that its nodes' terms are of; None without such."""
    shared = dict(zip(FEATURES, map(float, lateness.shared), strict=True))
    of_nodes = {name: [] if site is None else getattr(lateness, name).tolist() for name in ("pause", "slower")}
    write_json(path, {"shared": shared} | of_nodes | {"site": None if site is None else _digest(site)})


def load_lateness(path: Path, sites: Sequence[Site], *, num_nodes: int) -> Lateness:
    """The model in a file, for sites of at most `num_nodes` edge nodes.

    If it has terms of nodes, all sites must be the one whose nodes they are; without sites, it must have none.

    Raises:
        ValueError: the file is damaged, or has terms of nodes of another site.
    """
    try:
        read = _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if read.shared.keys() != set(FEATURES):
        raise ValueError(f"{path}: got features {', '.join(read.shared)}; must be {', '.join(FEATURES)}")
    shared = np.array([read.shared[name] for name in FEATURES], np.float32)
    if read.site is None:
        return no_lateness(num_nodes).replace(shared=shared)
    if {read.site} != {_digest(site) for site in sites} or len(read.pause) != num_nodes:
        raise ValueError(
            f"{path}: has terms of the nodes of another site; must be from a refit to this one's logs, or to logs of "
            "several sites"
        )
    return Lateness(shared, np.array(read.pause, np.float32), np.array(read.slower, np.float32))


def _digest(site: Site) -> str:
    return hashlib.sha256(site.model_dump_json().encode()).hexdigest()[:16]
