"""Actor and critic in two forms: one scorer shared by all nodes (`per-node`), one vector (`flat`).

The discrete choice of a node is relaxed to a point of the simplex: see `RelaxedAction` and docs/learning.md.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features

_FULL_BANDWIDTH = 4.0  # initial logit of eta (0.98)
_NO_HOLD = -6.0  # initial logit of eps / max_hold (0.0025)


class RelaxedAction(struct.PyTreeNode):
    """The action as the critic takes it: a distribution over nodes, with eta and eps were each of them chosen.

    A decision that was executed has all its weight on one node.
    """

    nodes: chex.Array  # (V,) non-negative, sums to 1
    bandwidth: chex.Array  # (V,) eta
    hold: chex.Array  # (V,) eps as a share of max_hold


def expected_flow(action: RelaxedAction) -> tuple[chex.Array, chex.Array]:
    """Expected eta and eps of the choice, (..., 1) each."""
    bandwidth = jnp.sum(action.nodes * action.bandwidth, axis=-1, keepdims=True)
    return bandwidth, jnp.sum(action.nodes * action.hold, axis=-1, keepdims=True)


class ActorOutput(NamedTuple):
    """Scores before noise, softmax and sigmoid; (V,) each."""

    nodes: chex.Array
    bandwidth: chex.Array
    hold: chex.Array


def relax(output: ActorOutput) -> RelaxedAction:
    """The relaxed action of an actor's output."""
    return RelaxedAction(
        nodes=jax.nn.softmax(output.nodes),
        bandwidth=jax.nn.sigmoid(output.bandwidth),
        hold=jax.nn.sigmoid(output.hold),
    )


class MLP(nn.Module):
    """Hidden layers with ReLU, then a linear layer."""

    hidden: tuple[int, ...]
    outputs: int
    last_scale: float = 1.0  # scale of the last layer's initial weights

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        for units in self.hidden:
            x = nn.relu(nn.Dense(units)(x))
        init = nn.initializers.variance_scaling(self.last_scale, "fan_in", "truncated_normal")
        return nn.Dense(self.outputs, kernel_init=init)(x)


def per_node_input(features: Features, *extra: chex.Array) -> chex.Array:
    """(..., V, F): each node's row beside the context, the mean over nodes and links, and extra columns."""
    rows = features.nodes
    shared = jnp.concatenate([features.context, rows.mean(-2), features.links.mean(-2)], axis=-1)
    shared = jnp.broadcast_to(shared[..., None, :], (*rows.shape[:-1], shared.shape[-1]))
    return jnp.concatenate([rows, shared, *(x[..., None] for x in extra)], axis=-1)


def flat_input(features: Features, *extra: chex.Array) -> chex.Array:
    """(..., F): everything in one vector."""
    batch = features.context.shape[:-1]
    parts = [features.nodes.reshape((*batch, -1)), features.links.reshape((*batch, -1)), features.context, *extra]
    return jnp.concatenate(parts, axis=-1)


class Actor(nn.Module):
    """mu of Eq. 18: features to scores of every node, with eta and eps for each."""

    config: AgentConfig

    @nn.compact
    def __call__(self, features: Features) -> ActorOutput:
        num_nodes = features.nodes.shape[-2]
        if self.config.network == "per-node":
            out = MLP(self.config.hidden, 3, last_scale=0.01)(per_node_input(features))
        else:
            out = MLP(self.config.hidden, 3 * num_nodes, last_scale=0.01)(flat_input(features))
            out = out.reshape((*out.shape[:-1], num_nodes, 3))
        return ActorOutput(out[..., 0], out[..., 1] + _FULL_BANDWIDTH, out[..., 2] + _NO_HOLD)


class Critic(nn.Module):
    """Q of Eq. 22. Per node it is linear in the distribution over nodes: the expected value of the choice."""

    config: AgentConfig

    @nn.compact
    def __call__(self, features: Features, action: RelaxedAction) -> chex.Array:
        if self.config.network == "per-node":
            rows = per_node_input(features, action.bandwidth, action.hold)
            return jnp.sum(action.nodes * MLP(self.config.hidden, 1)(rows)[..., 0], axis=-1)
        return MLP(self.config.hidden, 1)(flat_input(features, action.nodes, *expected_flow(action)))[..., 0]
