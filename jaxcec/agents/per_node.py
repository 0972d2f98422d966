"""Networks in which one scorer is shared by all nodes.

They depend neither on the order of the nodes nor on their number. Scores are minus the priced costs of each node
(`layers.Prices`) plus a small network's correction.
"""

from __future__ import annotations

import chex
import flax.linen as nn
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features, costs, mean_link
from jaxcec.agents.layers import (
    FULL_BANDWIDTH,
    MLP,
    NO_HOLD,
    PRICES,
    Prices,
    RowMLP,
    chosen_row,
    expected_flow,
)
from jaxcec.agents.types import ActorOutput, RelaxedAction


class Actor(nn.Module):
    """mu of Eq. 18: scores, eta and eps of every node.

    Scores are values in units of `entropy`: what a softmax with that weight on its entropy prefers.
    """

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features) -> ActorOutput:
        out = RowMLP(config.hidden, 3, last_scale=0.01)(features.nodes, shared_features(features))
        cost = priced(config, Prices(name=PRICES)(features), features)
        out = out.at[..., 0].add(-cost * inverse_entropy(config))
        return ActorOutput(out[..., 0], out[..., 1] + FULL_BANDWIDTH, out[..., 2] + NO_HOLD)


class Critic(nn.Module):
    """Q of Eq. 22, linear in the distribution over nodes: the expected value of the choice."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features, action: RelaxedAction) -> chex.Array:
        rows = jnp.concatenate([features.nodes, jnp.stack([action.bandwidth, action.hold], axis=-1)], axis=-1)
        values = RowMLP(config.hidden, 1, last_scale=0.01)(rows, shared_features(features))[..., 0]
        values = values - priced(config, Prices(name=PRICES)(features), features)
        values = values + MLP(config.hidden, 1)(shared_features(features))
        return jnp.sum(action.nodes * values, axis=-1)


class Value(nn.Module):
    """V of a state, (...) scaled reward."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features) -> chex.Array:
        return MLP(config.hidden, 1)(shared_features(features))[..., 0]


class TransitionModel(nn.Module):
    """f_s of Eq. 16: the change of the features until the next decision."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features, action: RelaxedAction) -> Features:
        hidden = config.hidden
        summary = jnp.concatenate(
            [features.context, features.nodes.mean(-2), chosen_row(features, action), *expected_flow(action)], axis=-1
        )
        nodes = jnp.concatenate([features.nodes, action.nodes[..., None]], axis=-1)
        return Features(
            nodes=RowMLP(hidden, features.nodes.shape[-1], last_scale=0.01)(nodes, summary),
            links=RowMLP(hidden[:1], features.links.shape[-1], last_scale=0.01)(features.links, summary),
            context=MLP(hidden, features.context.shape[-1], last_scale=0.01)(summary),
        )


def inverse_entropy(config: AgentConfig) -> chex.Array:
    """() f32, 1 / `entropy`: values times it are in units of `entropy`.

    XLA replaces a division by a constant with this product. Written out, a traced setting gives the same bits.
    """
    return 1.0 / jnp.asarray(config.entropy, jnp.float32)


def priced(config: AgentConfig, prices: chex.Array, features: Features) -> chex.Array:
    """Cost of each node at given prices, (..., V) in scaled reward."""
    return config.reward_scale * jnp.sum(prices[..., None, :] * costs(features), axis=-1)


def shared_features(features: Features) -> chex.Array:
    """(..., F): what a scorer sees in addition to a node's row: context, means over nodes and over links."""
    return jnp.concatenate([features.context, features.nodes.mean(-2), mean_link(features)], axis=-1)
