"""PPO: the actor's scores are the logits of a categorical over nodes, moved by clipped probability ratios.

Schulman et al., Proximal policy optimization algorithms, 2017; advantages as in Schulman et al., High-dimensional
continuous control using generalized advantage estimation, ICLR 2016.
"""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features
from jaxcec.agents.learner import (
    NodeLearner,
    gradient_step,
    optimiser,
    weighted_mean,
)
from jaxcec.agents.networks import actor_output, networks, state_value
from jaxcec.agents.replay import Replay, newest
from jaxcec.agents.types import AgentParams, AgentState, Metrics, Step


class Sample(struct.PyTreeNode):
    """Steps with their advantages; the leading axes are (T, num_envs) or (batch,)."""

    features: Features
    node: chex.Array  # i32
    weight: chex.Array  # 0 where the episode was truncated
    log_prob: chex.Array  # of the node, when it was chosen
    advantage: chex.Array  # scaled reward
    target: chex.Array  # scaled reward, for the value of the state


class PPO(NodeLearner):
    """Proximal policy optimisation over edge nodes, at full bandwidth and without a hold."""

    def check(self, config: AgentConfig) -> None:
        """PPO samples its own policy, so exploration must be 1."""
        super().check(config)
        if isinstance(config.exploration, int | float) and config.exploration != 1.0:
            raise ValueError(
                f"agent.exploration: got {config.exploration}; must be 1 for ppo, which samples its policy"
            )

    def steps_per_update(self, config: AgentConfig) -> int:
        """Decisions in every environment that one update learns from."""
        return config.ppo.rollout_steps

    def replay_size(self, config: AgentConfig, num_envs: int) -> int:
        """The steps of one update."""
        return config.ppo.rollout_steps * num_envs

    def init_params(self, config: AgentConfig, key: chex.PRNGKey, features: Features) -> AgentParams:
        """New actor and state value."""
        key_actor, key_critic, _, _ = jax.random.split(key, 4)  # those of DDPG
        return AgentParams(
            actor=networks(config).actor.init(key_actor, config, features),
            critic=networks(config).value.init(key_critic, config, features),
        )

    def init(self, config: AgentConfig, params: AgentParams) -> AgentState:
        """There is no target network."""
        optimisers = {
            "actor": optimiser(config.actor_learning_rate).init(params.actor),
            "critic": optimiser(config.critic_learning_rate).init(params.critic),
        }
        return AgentState(params=params, target=AgentParams(), optimisers=optimisers)

    def scores(self, config: AgentConfig, params: AgentParams, features: Features) -> chex.Array:
        """The actor's."""
        return actor_output(config, params.actor, features).nodes

    def update(
        self, config: AgentConfig, agent: AgentState, replay: Replay, next_features: Features, key: chex.PRNGKey
    ) -> tuple[AgentState, Metrics]:
        """Several epochs over the newest steps."""
        return learn(config, agent, newest(replay, config.ppo.rollout_steps), next_features, key)


def learn(
    config: AgentConfig, agent: AgentState, steps: Step, next_features: Features, key: chex.PRNGKey
) -> tuple[AgentState, Metrics]:
    """Several epochs over the steps of one rollout.

    Each step occurs once in an epoch. A minibatch has one step of every environment, each from another time, so that
    all devices have an equal part in it.

    Args:
        config: the settings.
        agent: the learner's state, with which the steps were decided.
        steps: (T, num_envs, ...) in order.
        next_features: (num_envs, ...) of the states after them.
        key: for the order.
    """
    sample = evaluate_steps(config, agent, steps, next_features)

    def epoch(agent: AgentState, key: chex.PRNGKey) -> tuple[AgentState, Metrics]:
        times = jnp.broadcast_to(jnp.arange(sample.node.shape[0])[:, None], sample.node.shape)
        order = jax.random.permutation(key, times, axis=0, independent=True)
        shuffled = jax.tree.map(lambda x: jax.vmap(lambda row, i: row[i], in_axes=1, out_axes=1)(x, order), sample)
        return jax.lax.scan(partial(_learn_minibatch, config), agent, shuffled)

    agent, metrics = jax.lax.scan(epoch, agent, jax.random.split(key, config.ppo.epochs))
    return agent, jax.tree.map(jnp.mean, metrics)


def evaluate_steps(config: AgentConfig, agent: AgentState, steps: Step, next_features: Features) -> Sample:
    """Steps with log-probabilities, advantages and targets under the networks that decided them."""
    states = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), steps.features, next_features)
    values = state_value(config, agent.params.critic, states)
    advantage = advantages(config, steps, values)
    return Sample(
        features=steps.features,
        node=steps.node,
        weight=steps.weight,
        log_prob=_log_probs(config, agent.params.actor, steps.features, steps.node)[1],
        advantage=advantage,
        target=values[:-1] + advantage,
    )


def advantages(config: AgentConfig, steps: Step, values: chex.Array) -> chex.Array:
    """GAE(lambda), (T, num_envs) scaled reward.

    The value after a termination is 0. The state after a truncation is unknown: the truncated step has no advantage,
    and the steps before it bootstrap from the value of the state in which it was decided.

    Args:
        config: with `ppo.gae_lambda`.
        steps: (T, num_envs) in order.
        values: (T + 1, num_envs) of their states and of the states after the last.
    """

    def backward(next_advantage: chex.Array, step: tuple[chex.Array, ...]) -> tuple[chex.Array, chex.Array]:
        reward, discount, weight, value, next_value = step
        error = reward + discount * next_value - value
        advantage = weight * (error + config.ppo.gae_lambda * discount * next_advantage)
        return advantage, advantage

    rows = (steps.reward, steps.discount, steps.weight, values[:-1], values[1:])
    return jax.lax.scan(backward, jnp.zeros_like(values[0]), rows, reverse=True)[1]


def policy_loss(config: AgentConfig, actor: chex.ArrayTree, batch: Sample) -> tuple[chex.Array, Metrics]:
    """() minus the clipped objective with an entropy bonus.

    Advantages are not normalised: the bonus is in units of scaled reward, as it is in DDPG's objective.
    """
    log_probs, chosen = _log_probs(config, actor, batch.features, batch.node)
    ratio = jnp.exp(chosen - batch.log_prob)
    clipped = jnp.clip(ratio, 1.0 - config.ppo.clip, 1.0 + config.ppo.clip)
    gain = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
    loss = -weighted_mean(gain + config.entropy * entropy, batch.weight)
    return loss, {"actor_loss": loss}


def value_loss(config: AgentConfig, critic: chex.ArrayTree, batch: Sample) -> tuple[chex.Array, Metrics]:
    """() mean square error of the states' values."""
    loss = weighted_mean(jnp.square(state_value(config, critic, batch.features) - batch.target), batch.weight)
    return loss, {"critic_loss": loss}


def _learn_minibatch(config: AgentConfig, agent: AgentState, batch: Sample) -> tuple[AgentState, Metrics]:
    """One step of both networks."""
    params, optimisers = agent.params, dict(agent.optimisers)
    actor, optimisers["actor"], of_actor = gradient_step(
        lambda p: policy_loss(config, p, batch), params.actor, optimisers["actor"], config.actor_learning_rate
    )
    critic, optimisers["critic"], of_critic = gradient_step(
        lambda p: value_loss(config, p, batch), params.critic, optimisers["critic"], config.critic_learning_rate
    )
    params = params.replace(actor=actor, critic=critic)
    return agent.replace(params=params, optimisers=optimisers), of_critic | of_actor


def _log_probs(
    config: AgentConfig, actor: chex.ArrayTree, features: Features, node: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """(..., V) log-probabilities of all nodes, and (...) that of the chosen one."""
    log_probs = jax.nn.log_softmax(actor_output(config, actor, features).nodes)
    return log_probs, jnp.take_along_axis(log_probs, node[..., None], axis=-1)[..., 0]
