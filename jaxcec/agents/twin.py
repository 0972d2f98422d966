"""The learned digital twin (Algorithm 1): a transition model (Eq. 15, 16), a reward model, and the reward of Eq. 17."""

from __future__ import annotations

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features, node_speed
from jaxcec.agents.learner import executed_action, weighted_mean
from jaxcec.agents.networks import MLP, Networks, chosen_row, expected_flow, full_flow
from jaxcec.agents.types import Metrics, RelaxedAction, Transition
from jaxcec.env import Observation


class RewardModel(nn.Module):
    """Reward of a decision (Algorithm 1, line 3), of the state, the action and the predicted next state.

    The algorithm's text names the next state alone, which does not determine the decision.
    """

    @nn.compact
    def __call__(
        self, config: AgentConfig, features: Features, action: RelaxedAction, next_features: Features
    ) -> chex.Array:
        parts = [chosen_row(features, action), chosen_row(next_features, action), *expected_flow(action)]
        inputs = jnp.concatenate([features.context, next_features.context, *parts], axis=-1)
        return MLP(config.hidden, 1)(inputs)[..., 0]


class TwinParams(NamedTuple):
    """Parameters of both models."""

    transition: chex.ArrayTree
    reward: chex.ArrayTree


def init_twin(networks: Networks, key: chex.PRNGKey, features: Features) -> TwinParams:
    """New parameters for features of these shapes."""
    key_transition, key_reward = jax.random.split(key)
    reward = RewardModel().init(key_reward, networks.config, features, full_flow(features.nodes[:, 0]), features)
    return TwinParams(networks.init("transition", key_transition, features), reward)


def predict(
    networks: Networks, params: TwinParams, features: Features, action: RelaxedAction
) -> tuple[Features, chex.Array]:
    """Predicted next features and scaled reward. There may be leading batch axes."""
    next_features = jax.tree.map(jnp.add, features, networks.change(params.transition, features, action))
    return next_features, RewardModel().apply(params.reward, networks.config, features, action, next_features)


def twin_loss(networks: Networks, params: TwinParams, batch: Transition) -> tuple[chex.Array, Metrics]:
    """Eq. 16 over a batch of transitions over one decision, plus the square error of the reward model.

    Transitions whose next state is unknown, or belongs to another episode, have no weight.

    Returns:
        The () loss, and as metrics `twin_error`, the mean square error of Eq. 16 as a share of that of 'nothing
        changes', and `twin_reward_error`, the mean square error of the reward model.
    """
    action = executed_action(batch)
    weight = batch.weight * (batch.discount > 0.0).astype(jnp.float32)
    change = networks.change(params.transition, batch.features, action)
    target = jax.tree.map(jnp.subtract, batch.next_features, batch.features)
    error = _mean_square(jax.tree.map(jnp.subtract, target, change), weight)
    estimate = RewardModel().apply(params.reward, networks.config, batch.features, action, batch.next_features)
    reward_error = weighted_mean(jnp.square(estimate - batch.reward), weight)
    share = error / jnp.maximum(_mean_square(target, weight), 1e-8)
    return error + reward_error, {"twin_error": share, "twin_reward_error": reward_error}


def completion_reward(
    observation: Observation, node: chex.Array, *, bandwidth: chex.Array, hold: chex.Array, next_features: Features
) -> chex.Array:
    """Eq. 17 for the current microservice: -(C / P(s'_node) + W + D / s_link), s.

    D / s_link is the transfer time at the chosen share of bandwidth, W the wait at the node after it, both from the
    timelines as they are; P is the node's speed in the state that the transition model predicts.

    Args:
        observation: of the current state.
        node: () i32, the chosen edge node.
        bandwidth: () eta, share of the path's bottleneck.
        hold: () eps, s.
        next_features: predicted.
    """
    nodes = observation.nodes
    transfer = nodes.data_ready[node] / bandwidth + hold
    wait = nodes.finish[node] - nodes.data_ready[node] - nodes.execution[node]
    speed = jnp.maximum(node_speed(next_features)[node], jnp.maximum(1e-3 * nodes.speed[node], 1e-6))
    return -(observation.microservice.load / speed + wait + transfer)


def _mean_square(tree: Features, weight: chex.Array) -> chex.Array:
    """Weighted mean over all features of a batch."""
    squares = sum(jnp.sum(jnp.square(x).reshape(x.shape[0], -1), axis=-1) for x in jax.tree.leaves(tree))
    size = sum(x[0].size for x in jax.tree.leaves(tree))
    return jnp.sum(weight * squares) / (jnp.maximum(jnp.sum(weight), 1.0) * size)
