"""What the mechanism leaves out: by how much later than booked runs finish, learned from an event log.

A real site needs time to decide, to tell a worker and to start a program, its flows carry headers, and a node may be
slower than its description says. The mirror's mechanism knows nothing of this; a linear model of it is added.
"""

from __future__ import annotations

from pathlib import Path

import chex
import jax.numpy as jnp
import numpy as np
from flax import struct
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from scipy.optimize import least_squares

from jaxcec.env import Observation
from jaxcec.files import write_json

_WAITS = 1e-3  # s from which something counts as waiting
_INLIER = 0.1  # s, errors beyond which count as the number of s and no more as its square
_HELD = 3.0  # weight of a host's own terms against the errors: few decisions do not tell a host from the others
FEATURES = (
    *("always", "crosses links", "waits for links", "waits for the node"),  # 1 or 0
    *("transfer", "wait for links", "wait for the node", "execution"),  # s
)


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
    for_links = jnp.where(crosses, jnp.maximum(nodes.data_ready - nodes.at_offered, 0.0), 0.0)
    flags = jnp.ones_like(crosses), crosses, for_links > _WAITS, nodes.wait > _WAITS
    columns = (*(flag.astype(jnp.float32) for flag in flags), transfer, for_links, nodes.wait, nodes.execution)
    return jnp.where(nodes.feasible[:, None] > 0.0, jnp.stack(columns, axis=-1), 0.0)


def lateness_of(lateness: Lateness, seen: chex.Array, host: chex.Array) -> chex.Array:
    """(n,) s, by how much later than the mechanism expects microservices with these features finish on these nodes."""
    return seen @ lateness.shared + seen[:, 0] * lateness.pause[host] + seen[:, -1] * lateness.slower[host]


def corrected(observation: Observation, lateness: Lateness) -> tuple[Observation, chex.Array]:
    """The observation with finishes as they are expected with what was learned, and (V,) s, how much later they are."""
    nodes, seen = observation.nodes, features(observation)
    late = lateness_of(lateness, seen, jnp.arange(len(seen)))
    return observation.replace(nodes=nodes.replace(finish=nodes.finish + late)), late


def fitted_lateness(
    seen: np.ndarray, host: np.ndarray, lateness: np.ndarray, *, num_nodes: int, by_node: bool
) -> Lateness:
    """The model that fits what was measured; an error counts by its size, so that a few long ones do not decide.

    Args:
        seen: (n, len(FEATURES)) of the nodes that were chosen.
        host: (n,) those nodes.
        lateness: (n,) s, measured.
        num_nodes: V.
        by_node: whether nodes have terms of their own.
    """
    own = np.eye(num_nodes)[host] * by_node
    columns = np.concatenate([seen, own * seen[:, :1], own * seen[:, -1:]], axis=1).astype(np.float64)
    scale = np.maximum(np.sqrt(np.mean(columns**2, axis=0)), 1e-9)
    held = np.diag(np.where(np.arange(columns.shape[1]) < len(FEATURES), 1e-3, _HELD))
    rows = np.concatenate([columns / scale, held])
    wanted = np.concatenate([lateness, np.zeros(len(held))])

    def errors(weights: np.ndarray) -> np.ndarray:
        return rows @ weights - wanted

    start = np.zeros(rows.shape[1])
    found = least_squares(errors, start, jac=lambda _: rows, loss="soft_l1", f_scale=_INLIER).x / scale
    shared, pause, slower = np.split(found.astype(np.float32), [len(FEATURES), len(FEATURES) + num_nodes])
    return Lateness(shared=shared, pause=pause, slower=slower)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    shared: dict[str, FiniteFloat]
    pause: list[FiniteFloat]
    slower: list[FiniteFloat]


def save_lateness(path: Path, lateness: Lateness) -> None:
    """Write the model as JSON that people can read."""
    shared = dict(zip(FEATURES, map(float, lateness.shared), strict=True))
    write_json(path, {"shared": shared, "pause": lateness.pause.tolist(), "slower": lateness.slower.tolist()})


def load_lateness(path: Path, num_nodes: int) -> Lateness:
    """The model in a file.

    Raises:
        ValueError: the file is damaged, or of a site with another number of nodes.
    """
    try:
        read = _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if read.shared.keys() != set(FEATURES):
        raise ValueError(f"{path}: got features {', '.join(read.shared)}; must be {', '.join(FEATURES)}")
    for name in ("pause", "slower"):
        if (number := len(getattr(read, name))) != num_nodes:
            raise ValueError(f"{path}: {name}: got {number} nodes; the site has {num_nodes}")
    shared = [read.shared[name] for name in FEATURES]
    return Lateness(*(np.array(each, np.float32) for each in (shared, read.pause, read.slower)))
