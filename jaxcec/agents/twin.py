"""The digital twin of dtdrlmo: a mirror of what is committed, and a learned model of timing (Algorithm 1, Eq. 15-17).

The mirror is the level of information of that name (`agents.information`). The model maps the state and a candidate
action to the part of the next state that the action decides: how long the input waits for links, and then how long the
microservice waits for the node. It is fitted to decisions that were executed, by the likelihood of the logarithms of
the waits that were measured.
"""

from __future__ import annotations

import chex
import flax.linen as nn
import jax.numpy as jnp
from flax import struct

from jaxcec.agents.features import pace_of
from jaxcec.agents.information import MIRRORED_AT_NODES, timed
from jaxcec.agents.networks import MLP
from jaxcec.agents.types import Metrics
from jaxcec.env import Action, Info, Observation

_LEAST_DEVIATION = 0.05  # of the logarithm of a wait
_LONGEST = 1e4  # s at the usual pace, of a predicted wait
_TIMES = ("transfer", "at_offered", "at_free", "execution", "traffic", *MIRRORED_AT_NODES)  # of the nodes, in s


class Outcome(struct.PyTreeNode):
    """What the twin learns from an executed decision. There may be leading axes."""

    inputs: chex.Array  # (F,)
    waits: chex.Array  # (2,) s, for links and then for the node
    pace: chex.Array  # () `features.pace_of`
    weight: chex.Array  # () 1, or 0 if the microservice did not run on that node


class TimingModel(nn.Module):
    """(..., F) inputs to mean and deviation of the logarithms of the two waits, (..., 2) each.

    They are log(1 + wait / 1 s) at the usual pace, and at any other with the second that is as long there.
    """

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: chex.Array) -> tuple[chex.Array, chex.Array]:
        mean, spread = jnp.split(MLP(self.hidden, 4, last_scale=0.01)(inputs), 2, axis=-1)
        return mean, nn.softplus(spread) + _LEAST_DEVIATION


def input_size(num_resources: int) -> int:
    """F for nodes with K kinds of resources."""
    return len(_TIMES) + 2 * num_resources + 9


def candidates(observation: Observation) -> chex.Array:
    """(V, F) inputs of `TimingModel`, a candidate for each edge node, from one observation that is `restricted`."""
    nodes, links, unit = observation.nodes, observation.links, pace_of(observation)
    times = jnp.stack([getattr(nodes, name) for name in _TIMES], axis=-1)
    per_node = [
        _log(jnp.minimum(times / unit, _LONGEST)),
        jnp.stack([nodes.load, nodes.path_load, nodes.path_links / 4.0, observation.service.source], axis=-1),
        nodes.free,
        nodes.share,
        jnp.min(nodes.free - nodes.share, axis=-1, keepdims=True),
    ]
    existing = jnp.maximum(jnp.sum(links.bandwidth > 0.0).astype(jnp.float32), 1.0)
    system = jnp.stack(
        [
            _log(observation.service.others),
            jnp.mean(_log(nodes.committed / unit)),
            jnp.sum(_log(links.backlog / unit)) / existing,
            jnp.sum(links.load) / existing,
        ]
    )
    return jnp.concatenate([*per_node, jnp.broadcast_to(system, (times.shape[0], system.size))], axis=-1)


def foreseen(observation: Observation, prediction: tuple[chex.Array, chex.Array], noise: chex.Array) -> Observation:
    """The unbatched `restricted` observation with the twin's predictions of when each node has the input and finishes.

    The prediction is that of `TimingModel` for its `candidates`, (V, 2) each; the noise, (V, 2), is by how many
    deviations it is off: 0 for the most likely waits, standard normal to sample from what the twin deems possible.
    """
    mean, deviation = prediction
    waits = pace_of(observation) * waits_of(mean + noise * deviation)
    nodes = observation.nodes
    data_ready = nodes.at_offered + jnp.where(nodes.path_links > 0.0, waits[..., 0], 0.0)
    return observation.replace(nodes=timed(nodes, data_ready, waits[..., 1]))


def waits_of(logarithms: chex.Array) -> chex.Array:
    """s at the usual pace, the waits of these logarithms, as they are predicted."""
    return jnp.clip(jnp.expm1(logarithms), 0.0, _LONGEST)


def outcome_of(inputs: chex.Array | None, action: Action, info: Info, pace: chex.Array) -> Outcome | None:
    """What was measured after an action, (...), from the record of the step that executed it, (...).

    The inputs are of the candidate that was executed, (..., F). None without a twin, which has no candidates.
    """
    if inputs is None:
        return None
    links = info["flow_start"] - info["time"] - jnp.maximum(action.hold, 0.0)
    return Outcome(
        inputs=inputs,
        waits=jnp.maximum(jnp.stack([links, info["start"] - info["data_ready"]], axis=-1), 0.0),
        pace=jnp.broadcast_to(pace, links.shape),
        weight=(info["decided"] & (info["host"] == action.host)).astype(jnp.float32),
    )


def timing_loss(model: TimingModel, params: chex.ArrayTree, outcomes: Outcome) -> tuple[chex.Array, Metrics]:
    """() minus the log likelihood of (batch, ...) outcomes under a Gaussian of the logarithms of their waits.

    Returns:
        The loss, and as metrics `twin_error`, the mean absolute error of the predicted waits in s, and `twin_within`,
        the share of the waits within one predicted deviation.
    """
    mean, deviation = model.apply(params, outcomes.inputs)
    pace = jnp.where(outcomes.weight > 0.0, outcomes.pace, 1.0)[..., None]  # rows not yet written have pace 0
    z = (jnp.log1p(outcomes.waits / pace) - mean) / deviation
    weight = jnp.broadcast_to(outcomes.weight[..., None], z.shape)
    weight = weight / jnp.maximum(jnp.sum(weight), 1.0)
    error = jnp.abs(pace * waits_of(mean) - outcomes.waits)
    within = (jnp.abs(z) <= 1.0).astype(jnp.float32)
    metrics = {"twin_error": jnp.sum(weight * error), "twin_within": jnp.sum(weight * within)}
    return jnp.sum(weight * (jnp.log(deviation) + 0.5 * jnp.square(z))), metrics


def _log(x: chex.Array) -> chex.Array:
    return 0.5 * jnp.log1p(x)
