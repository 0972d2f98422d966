"""The digital twin (Algorithm 1): a learned transition model (Eq. 15, 16), a reward model, and the reward of Eq. 17."""

from __future__ import annotations

import math
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features, node_speed
from jaxcec.agents.networks import MLP, RelaxedAction, RowMLP, expected_flow, flat_input
from jaxcec.env import Observation


class Transition(nn.Module):
    """f_s of Eq. 16: features and action to the change of the features until the next decision."""

    config: AgentConfig

    @nn.compact
    def __call__(self, features: Features, action: RelaxedAction) -> Features:
        hidden = self.config.hidden
        if self.config.network == "flat":
            leaves, structure = jax.tree.flatten(features)
            batch = features.context.ndim - 1
            shapes = [leaf.shape[batch:] for leaf in leaves]
            sizes = [math.prod(shape) for shape in shapes]
            out = MLP(hidden, sum(sizes), last_scale=0.01)(flat_input(features, action.nodes, *expected_flow(action)))
            parts = jnp.split(out, [sizes[0], sizes[0] + sizes[1]], axis=-1)
            return jax.tree.unflatten(structure, [p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)])
        summary = jnp.concatenate(
            [features.context, features.nodes.mean(-2), chosen_row(features, action), *expected_flow(action)], axis=-1
        )
        nodes = jnp.concatenate([features.nodes, action.nodes[..., None]], axis=-1)
        return Features(
            nodes=RowMLP(hidden, features.nodes.shape[-1], last_scale=0.01)(nodes, summary),
            links=RowMLP(hidden[:1], features.links.shape[-1], last_scale=0.01)(features.links, summary),
            context=MLP(hidden, features.context.shape[-1], last_scale=0.01)(summary),
        )


class Reward(nn.Module):
    """Reward of a decision from the next state (Algorithm 1, line 3), with the state and action it came from.

    The next state alone, which is all that the algorithm's text names, does not say what was decided.
    """

    config: AgentConfig

    @nn.compact
    def __call__(self, features: Features, action: RelaxedAction, following: Features) -> chex.Array:
        parts = [chosen_row(features, action), chosen_row(following, action), *expected_flow(action)]
        inputs = jnp.concatenate([features.context, following.context, *parts], axis=-1)
        return MLP(self.config.hidden, 1)(inputs)[..., 0]


class TwinParams(NamedTuple):
    """Parameters of both models."""

    transition: chex.ArrayTree
    reward: chex.ArrayTree


class TwinLosses(NamedTuple):
    """What `twin_loss` reports beside the loss."""

    transition_error: chex.Array  # () mean square error of Eq. 16 as a share of that of 'nothing changes'
    reward_error: chex.Array  # () mean square error of the reward model, scaled reward squared


def init_twin(config: AgentConfig, key: chex.PRNGKey, features: Features, action: RelaxedAction) -> TwinParams:
    """Parameters for inputs of these shapes."""
    key_transition, key_reward = jax.random.split(key)
    return TwinParams(
        Transition(config).init(key_transition, features, action),
        Reward(config).init(key_reward, features, action, features),
    )


def predict(
    config: AgentConfig, params: TwinParams, features: Features, action: RelaxedAction
) -> tuple[Features, chex.Array]:
    """Next features and scaled reward as the twin foresees them. Leading axes are batch axes."""
    change = Transition(config).apply(params.transition, features, action)
    following = jax.tree.map(jnp.add, features, change)
    return following, Reward(config).apply(params.reward, features, action, following)


def twin_loss(
    config: AgentConfig,
    params: TwinParams,
    features: Features,
    action: RelaxedAction,
    reward: chex.Array,
    following: Features,
    weight: chex.Array,
) -> tuple[chex.Array, TwinLosses]:
    """Eq. 16 over a batch plus the reward model's square error.

    Args:
        config: network and sizes.
        params: of both models.
        features: (batch, ...) s_t.
        action: (batch, V) as executed.
        reward: (batch,) scaled.
        following: (batch, ...) s_{t+1}.
        weight: (batch,) 0 where s_{t+1} belongs to another episode.
    """
    change = Transition(config).apply(params.transition, features, action)
    target = jax.tree.map(jnp.subtract, following, features)
    error = _mean_square(jax.tree.map(jnp.subtract, target, change), weight)
    estimate = Reward(config).apply(params.reward, features, action, following)
    reward_error = jnp.sum(weight * jnp.square(estimate - reward)) / jnp.maximum(jnp.sum(weight), 1.0)
    share = error / jnp.maximum(_mean_square(target, weight), 1e-8)
    return error + reward_error, TwinLosses(share, reward_error)


def completion_reward(
    observation: Observation, node: chex.Array, eta: chex.Array, eps: chex.Array, following: Features
) -> chex.Array:
    """Eq. 17 for the microservice at hand: -(C / P(s'_node) + W + D / s_link), s.

    D / s_link is the transfer at the share asked for, W the wait at the node after it, both as the timelines have them
    now; P is the node's speed in the state that the transition model foresees.

    Args:
        observation: what is seen now.
        node: () i32, the chosen edge node.
        eta: () bandwidth share.
        eps: () s.
        following: predicted next features.
    """
    nodes = observation.nodes
    transfer = jnp.where(nodes.data_ready[node] > 0.0, nodes.data_ready[node] / eta + eps, 0.0)
    wait = nodes.finish[node] - nodes.data_ready[node] - nodes.execution[node]
    speed = jnp.maximum(node_speed(following)[node], 1e-3 * nodes.speed[node])
    return -(observation.microservice.load / speed + wait + transfer)


def chosen_row(features: Features, action: RelaxedAction) -> chex.Array:
    """(..., F): the row of the chosen node, averaged over a relaxed choice."""
    return jnp.sum(action.nodes[..., None] * features.nodes, axis=-2)


def _mean_square(tree: Features, weight: chex.Array) -> chex.Array:
    """Mean over all features of a batch."""
    squares = sum(jnp.sum(jnp.square(x).reshape(x.shape[0], -1), axis=-1) for x in jax.tree.leaves(tree))
    size = sum(x[0].size for x in jax.tree.leaves(tree))
    return jnp.sum(weight * squares) / (jnp.maximum(jnp.sum(weight), 1.0) * size)
