"""DDPG (Eq. 18-23) with target networks, without a digital twin."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import optax

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features, encode
from jaxcec.agents.learner import (
    Learner,
    bellman_error,
    choice_of,
    gradient_step,
    optimiser,
    update_from_replay,
    with_exploration,
)
from jaxcec.agents.networks import actor_output, networks, q_value, relax, relaxed_action
from jaxcec.agents.replay import Replay
from jaxcec.agents.types import AgentParams, AgentState, Choice, Metrics, RelaxedAction, Transition
from jaxcec.env import Observation


class DDPG(Learner):
    """Deep deterministic policy gradient on the relaxed choice of a node."""

    def init_params(self, config: AgentConfig, key: chex.PRNGKey, features: Features) -> AgentParams:
        """New actor and critic."""
        key_actor, key_critic, _, _ = jax.random.split(key, 4)  # the others are for the twins
        return AgentParams(
            actor=networks(config).actor.init(key_actor, config, features),
            critic=networks(config).critic.init(key_critic, config, features, uniform_action(features)),
        )

    def init(self, config: AgentConfig, params: AgentParams) -> AgentState:
        """Targets are copies: a buffer that is donated may appear only once."""
        return AgentState(
            params=params,
            target=jax.tree.map(jnp.copy, followed(params)),
            optimisers={
                "actor": optimiser(config.actor_learning_rate).init(params.actor),
                "critic": optimiser(config.critic_learning_rate).init(params.critic),
            },
        )

    def act(
        self, config: AgentConfig, params: AgentParams, observation: Observation, key: chex.PRNGKey, *, explore: bool
    ) -> Choice:
        """The node of the highest score, as `select` decides."""
        features = encode(observation)
        output = actor_output(config, params.actor, features)
        scores, action = output.nodes, relax(config, output)
        if explore:
            scores, action = with_exploration(config, scores, action, key)
        node, twin_reward = self.select(config, params, observation, features=features, scores=scores, action=action)
        return choice_of(config, features, action, node=node, twin_reward=twin_reward)

    def select(
        self,
        config: AgentConfig,
        params: AgentParams,
        observation: Observation,
        *,
        features: Features,
        scores: chex.Array,
        action: RelaxedAction,
    ) -> tuple[chex.Array, chex.Array]:
        """The chosen node, () i32, and the () twin's reward of it, which is 0 without a twin."""
        return jnp.argmax(scores), jnp.float32(0.0)

    def update(
        self, config: AgentConfig, agent: AgentState, replay: Replay, next_features: Features, key: chex.PRNGKey
    ) -> tuple[AgentState, Metrics]:
        """`updates_per_step` updates of every network."""
        return update_from_replay(config, agent, replay, key, self.learn)

    def learn(
        self, config: AgentConfig, agent: AgentState, batch: Transition, single: Transition
    ) -> tuple[AgentState, Metrics]:
        """One step of critic, actor and targets (Algorithm 2, lines 15-18).

        Args:
            config: the settings.
            agent: the learner's state.
            batch: transitions over `return_steps` decisions.
            single: transitions over one decision, which a twin learns from.
        """
        del single
        params, optimisers = agent.params, dict(agent.optimisers)
        critic, optimisers["critic"], of_critic = gradient_step(
            lambda p: critic_loss(config, p, agent.target, batch),
            params.critic,
            optimisers["critic"],
            config.critic_learning_rate,
        )
        params = params.replace(critic=critic)
        actor, optimisers["actor"], of_actor = gradient_step(
            lambda p: actor_loss(config, p, params.critic, batch),
            params.actor,
            optimisers["actor"],
            config.actor_learning_rate,
        )
        params = params.replace(actor=actor)
        target = optax.incremental_update(followed(params), agent.target, config.target_rate)
        return AgentState(params, target, optimisers), of_critic | of_actor

    def acting_params(self, agent: AgentState) -> AgentParams:
        """The targets, which average over updates."""
        return agent.target.replace(twin=agent.params.twin, forecast=agent.params.forecast)


def followed(params: AgentParams) -> AgentParams:
    """The networks that have a target: actor and critic."""
    return params.replace(twin=None, forecast=None)


def uniform_action(features: Features) -> RelaxedAction:
    """An action for initialising networks of one unbatched state."""
    num_nodes = features.nodes.shape[-2]
    return RelaxedAction(*(jnp.full(num_nodes, 1.0 / num_nodes) for _ in range(3)))


def critic_loss(
    config: AgentConfig, critic: chex.ArrayTree, target: AgentParams, batch: Transition
) -> tuple[chex.Array, Metrics]:
    """Eq. 22 with the target of Eq. 23."""
    next_action = relaxed_action(config, target.actor, batch.next_features)
    bootstrap = q_value(config, target.critic, batch.next_features, next_action)
    loss = bellman_error(config, critic, batch, bootstrap)
    return loss, {"critic_loss": loss}


def actor_loss(
    config: AgentConfig, actor: chex.ArrayTree, critic: chex.ArrayTree, batch: Transition
) -> tuple[chex.Array, Metrics]:
    """Minus Eq. 20 by Eq. 21: the critic's value of the relaxed choice.

    Two small terms keep the actor in place where the critic is indifferent: the entropy of the choice of node, and a
    cost of holding and of unused bandwidth. Without the latter, eta and eps drift to a bound wherever they do not
    matter.
    """
    action = relaxed_action(config, actor, batch.features)
    value = q_value(config, critic, batch.features, action)
    entropy = -jnp.sum(action.nodes * jnp.log(action.nodes + 1e-8), axis=-1)
    idle = jnp.mean(action.hold + 1.0 - action.bandwidth, axis=-1)
    loss = -jnp.mean(value + config.entropy * entropy - config.flow_cost * idle)
    return loss, {"actor_loss": loss}
