"""PPO: the actor's scores as logits of a categorical over nodes, moved by clipped probability ratios.

Schulman et al., Proximal policy optimization algorithms, 2017; advantages as in Schulman et al., High-dimensional
continuous control using generalized advantage estimation, ICLR 2016.
"""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import AgentState, optimisers, weighted_mean
from jaxcec.agents.features import Features
from jaxcec.agents.networks import Value, node_logits
from jaxcec.agents.replay import Decided


class Sample(struct.PyTreeNode):
    """Decisions with what they are judged by; (T, num_envs) or (batch,) leading axes."""

    features: Features
    node: chex.Array  # i32
    weight: chex.Array  # 0 where the episode was truncated
    log_prob: chex.Array  # of the node, when it was chosen
    advantage: chex.Array  # scaled reward
    goal: chex.Array  # scaled reward, for the value of the state


def advantages(config: AgentConfig, decided: Decided, values: chex.Array) -> chex.Array:
    """GAE(lambda), (T, num_envs) scaled reward.

    After a termination nothing follows. What follows a truncation is not known: that decision has no advantage, and
    those before it bootstrap from the value of the state it was made in.

    Args:
        config: with `gae_lambda`.
        decided: (T, num_envs) in order.
        values: (T + 1, num_envs) of their states and of the state after the last.
    """

    def back(following: chex.Array, now: tuple[chex.Array, ...]) -> tuple[chex.Array, chex.Array]:
        reward, discount, weight, value, next_value = now
        error = reward + discount * next_value - value
        advantage = weight * (error + config.gae_lambda * discount * following)
        return advantage, advantage

    steps = (decided.reward, decided.discount, decided.weight, values[:-1], values[1:])
    return jax.lax.scan(back, jnp.zeros_like(values[0]), steps, reverse=True)[1]


def policy_loss(config: AgentConfig, actor: chex.ArrayTree, batch: Sample) -> chex.Array:
    """() minus the clipped objective with an entropy bonus.

    Advantages are not normalised: the bonus is in units of scaled reward, as it is in DDPG's objective.
    """
    log_probs, chosen = _log_probs(config, actor, batch.features, batch.node)
    ratio = jnp.exp(chosen - batch.log_prob)
    clipped = jnp.clip(ratio, 1.0 - config.ppo_clip, 1.0 + config.ppo_clip)
    gain = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
    return -weighted_mean(gain + config.entropy * entropy, batch.weight)


def value_loss(config: AgentConfig, critic: chex.ArrayTree, batch: Sample) -> chex.Array:
    """() mean square error of the states' values."""
    return weighted_mean(jnp.square(Value(config).apply(critic, batch.features) - batch.goal), batch.weight)


def update(
    config: AgentConfig, state: AgentState, decided: Decided, last: Features, key: chex.PRNGKey
) -> tuple[AgentState, dict[str, chex.Array]]:
    """Several epochs over the decisions of one rollout, each once in an epoch.

    A minibatch has one decision of every environment, each of another time: so all devices take part in it equally.

    Args:
        config: the agent's.
        state: what it has learned, and with what it decided.
        decided: (T, num_envs, ...) decisions in order.
        last: (num_envs, ...) the states after them.
        key: for the order.
    """
    sample = _judged(config, state, decided, last)

    def epoch(state: AgentState, key: chex.PRNGKey) -> tuple[AgentState, dict[str, chex.Array]]:
        times = jnp.broadcast_to(jnp.arange(sample.node.shape[0])[:, None], sample.node.shape)
        order = jax.random.permutation(key, times, axis=0, independent=True)
        shuffled = jax.tree.map(lambda x: jax.vmap(lambda row, i: row[i], in_axes=1, out_axes=1)(x, order), sample)
        return jax.lax.scan(partial(_update, config), state, shuffled)

    state, losses = jax.lax.scan(epoch, state, jax.random.split(key, config.ppo_epochs))
    return state, jax.tree.map(jnp.mean, losses)


def _judged(config: AgentConfig, state: AgentState, decided: Decided, last: Features) -> Sample:
    """Decisions as the networks that made them judge them."""
    states = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), decided.features, last)
    values = Value(config).apply(state.params.critic, states)
    advantage = advantages(config, decided, values)
    return Sample(
        features=decided.features,
        node=decided.node,
        weight=decided.weight,
        log_prob=_log_probs(config, state.params.actor, decided.features, decided.node)[1],
        advantage=advantage,
        goal=values[:-1] + advantage,
    )


def _update(config: AgentConfig, state: AgentState, batch: Sample) -> tuple[AgentState, dict[str, chex.Array]]:
    """One step of both networks on one minibatch."""
    actor_optimiser, critic_optimiser, _ = optimisers(config)
    params = state.params
    loss_actor, grads = jax.value_and_grad(lambda p: policy_loss(config, p, batch))(params.actor)
    updates, actor_state = actor_optimiser.update(grads, state.actor_optimiser)
    params = params.replace(actor=optax.apply_updates(params.actor, updates))

    loss_critic, grads = jax.value_and_grad(lambda p: value_loss(config, p, batch))(params.critic)
    updates, critic_state = critic_optimiser.update(grads, state.critic_optimiser)
    params = params.replace(critic=optax.apply_updates(params.critic, updates))

    state = state.replace(params=params, actor_optimiser=actor_state, critic_optimiser=critic_state)
    return state, {"critic_loss": loss_critic, "actor_loss": loss_actor}


def _log_probs(
    config: AgentConfig, actor: chex.ArrayTree, features: Features, node: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """(..., V) log-probabilities of all nodes, and (...) that of the one chosen."""
    log_probs = jax.nn.log_softmax(node_logits(config, actor, features))
    return log_probs, jnp.take_along_axis(log_probs, node[..., None], axis=-1)[..., 0]
