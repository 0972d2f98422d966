"""Double DQN with the critic, replay buffer and returns of DDPG: the critic itself chooses, and there is no actor.

Mnih et al., Human-level control through deep reinforcement learning, Nature 2015; van Hasselt et al., Deep
reinforcement learning with double Q-learning, AAAI 2016.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import optax

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import uniform_action
from jaxcec.agents.features import Features
from jaxcec.agents.learner import (
    NodeLearner,
    bellman_error,
    gradient_step,
    optimiser,
    update_from_replay,
)
from jaxcec.agents.networks import networks, q_of_nodes
from jaxcec.agents.per_node import inverse_entropy
from jaxcec.agents.replay import Replay
from jaxcec.agents.types import AgentParams, AgentState, Metrics, Transition


class DQN(NodeLearner):
    """Double DQN over edge nodes, at full bandwidth and without a hold."""

    def check(self, config: AgentConfig) -> None:
        """Values are explored in units of `entropy`, which must not be 0."""
        super().check(config)
        if isinstance(config.entropy, float) and config.entropy == 0.0:
            raise ValueError("agent.entropy: got 0.0; must be positive for dqn, whose exploration is in units of it")

    def init_params(self, config: AgentConfig, key: chex.PRNGKey, features: Features) -> AgentParams:
        """A new critic."""
        key_critic = jax.random.split(key, 4)[1]  # the one of DDPG
        return AgentParams(critic=networks(config).critic.init(key_critic, config, features, uniform_action(features)))

    def init(self, config: AgentConfig, params: AgentParams) -> AgentState:
        """The target is a copy: a buffer that is donated may appear only once."""
        state = optimiser(config.critic_learning_rate).init(params.critic)
        return AgentState(params=params, target=jax.tree.map(jnp.copy, params), optimisers={"critic": state})

    def scores(self, config: AgentConfig, params: AgentParams, features: Features) -> chex.Array:
        """Values of the nodes over `entropy`."""
        return q_logits(config, params.critic, features)

    def update(
        self, config: AgentConfig, agent: AgentState, replay: Replay, next_features: Features, key: chex.PRNGKey
    ) -> tuple[AgentState, Metrics]:
        """`updates_per_step` updates of the critic."""
        return update_from_replay(config, agent, replay, key, self.learn)

    def learn(
        self, config: AgentConfig, agent: AgentState, batch: Transition, single: Transition
    ) -> tuple[AgentState, Metrics]:
        """One step of the critic on transitions over `return_steps` decisions, and of its target."""
        del single
        critic, state, metrics = gradient_step(
            lambda p: q_loss(config, p, agent.target.critic, batch),
            agent.params.critic,
            agent.optimisers["critic"],
            config.critic_learning_rate,
        )
        params = agent.params.replace(critic=critic)
        target = optax.incremental_update(params, agent.target, config.target_rate)
        return AgentState(params, target, {"critic": state}), metrics

    def acting_params(self, agent: AgentState) -> AgentParams:
        """The target, which averages over updates."""
        return agent.target


def q_logits(config: AgentConfig, critic: chex.ArrayTree, features: Features) -> chex.Array:
    """Q of every node in units of `entropy`, (..., V), as an actor's scores are."""
    return q_of_nodes(config, critic, features) * inverse_entropy(config)


def q_loss(
    config: AgentConfig, critic: chex.ArrayTree, target: chex.ArrayTree, batch: Transition
) -> tuple[chex.Array, Metrics]:
    """() Bellman error; the online critic chooses the next node, and the target evaluates it."""
    node = jnp.argmax(q_logits(config, critic, batch.next_features), axis=-1, keepdims=True)
    bootstrap = jnp.take_along_axis(q_of_nodes(config, target, batch.next_features), node, axis=-1)[..., 0]
    loss = bellman_error(config, critic, batch, bootstrap)
    return loss, {"critic_loss": loss}
