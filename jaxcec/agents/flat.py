"""Networks that read all features as one vector, as the paper's do. They learn each node separately."""

from __future__ import annotations

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features
from jaxcec.agents.layers import FULL_BANDWIDTH, MLP, NO_HOLD, expected_flow
from jaxcec.agents.types import ActorOutput, RelaxedAction


class Actor(nn.Module):
    """mu of Eq. 18: scores, eta and eps of every node."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features) -> ActorOutput:
        num_nodes = features.nodes.shape[-2]
        out = MLP(config.hidden, 3 * num_nodes, last_scale=0.01)(flat_features(features))
        out = out.reshape((*out.shape[:-1], num_nodes, 3))
        return ActorOutput(out[..., 0], out[..., 1] + FULL_BANDWIDTH, out[..., 2] + NO_HOLD)


class Critic(nn.Module):
    """Q of Eq. 22, of the features and the relaxed action."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features, action: RelaxedAction) -> chex.Array:
        return MLP(config.hidden, 1)(flat_features(features, action.nodes, *expected_flow(action)))[..., 0]


class Value(nn.Module):
    """V of a state, (...) scaled reward."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features) -> chex.Array:
        return MLP(config.hidden, 1)(flat_features(features))[..., 0]


class TransitionModel(nn.Module):
    """f_s of Eq. 16: the change of the features until the next decision."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features, action: RelaxedAction) -> Features:
        leaves, structure = jax.tree.flatten(features)
        batch = features.context.ndim - 1
        shapes = [leaf.shape[batch:] for leaf in leaves]
        sizes = [math.prod(shape) for shape in shapes]
        inputs = flat_features(features, action.nodes, *expected_flow(action))
        out = MLP(config.hidden, sum(sizes), last_scale=0.01)(inputs)
        parts = jnp.split(out, [sizes[0], sizes[0] + sizes[1]], axis=-1)
        return jax.tree.unflatten(structure, [p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)])


def flat_features(features: Features, *extra: chex.Array) -> chex.Array:
    """(..., F): all features, and further (..., n) inputs, in one vector."""
    batch = features.context.shape[:-1]
    parts = [features.nodes.reshape((*batch, -1)), features.links.reshape((*batch, -1)), features.context, *extra]
    return jnp.concatenate(parts, axis=-1)
