"""DTDRLMO: DDPG assisted by a learned digital twin (Algorithms 1 and 2)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import DDPG, uniform_action
from jaxcec.agents.features import Features
from jaxcec.agents.learner import executed_action, gradient_step, optimiser
from jaxcec.agents.networks import q_value, relaxed_action
from jaxcec.agents.twin import TwinParams, completion_reward, init_twin, predict, twin_loss
from jaxcec.agents.types import AgentParams, AgentState, Metrics, RelaxedAction, Transition
from jaxcec.env import Observation


class DTDRLMO(DDPG):
    """DDPG whose candidate actions are tried in a learned twin, which is fitted in turn with critic and actor."""

    def init_params(self, config: AgentConfig, key: chex.PRNGKey, features: Features) -> AgentParams:
        """DDPG's networks and the twin's models."""
        key_twin = jax.random.split(key, 4)[2]
        twin = init_twin(config, key_twin, features, uniform_action(features))
        return super().init_params(config, key, features).replace(twin=twin)

    def init(self, config: AgentConfig, params: AgentParams) -> AgentState:
        """DDPG's state and the twin's optimiser."""
        agent = super().init(config, params)
        twin = optimiser(config.twin.learning_rate).init(params.twin)
        return agent.replace(optimisers=agent.optimisers | {"twin": twin})

    def reward_share(self, config: AgentConfig) -> chex.Numeric:
        """Share of Eq. 17 in the training reward."""
        return config.twin.reward

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
        """The best of the actor's preferred nodes, by its preference and the return that the twin predicts.

        Returns:
            () i32 node and () s reward of Eq. 17.
        """
        _, candidates = jax.lax.top_k(scores, min(config.twin.candidates, scores.shape[-1]))

        def evaluate(node: chex.Array) -> tuple[chex.Array, chex.Array]:
            next_features, predicted = predicted_return(config, params, features, action, node=node)
            # A softmax with entropy bonus e prefers nodes by value / e: so e times a score is in units of value.
            score = config.entropy * scores[node] + config.twin.score * predicted
            hold = action.hold[node] * config.max_hold
            return score, completion_reward(
                observation, node, bandwidth=action.bandwidth[node], hold=hold, next_features=next_features
            )

        values, rewards = jax.vmap(evaluate)(candidates)
        best = jnp.argmax(values)
        return candidates[best], rewards[best]

    def learn(
        self, config: AgentConfig, agent: AgentState, batch: Transition, single: Transition
    ) -> tuple[AgentState, Metrics]:
        """One step of the twin (Algorithm 2, lines 13 and 14), then of DDPG's networks."""
        executed = executed_action(single, single.features.nodes.shape[-2])
        twin, twin_optimiser, of_twin = gradient_step(
            lambda p: twin_loss(
                config,
                p,
                features=single.features,
                action=executed,
                reward=single.reward,
                next_features=single.next_features,
                weight=single.weight * (single.discount > 0.0).astype(jnp.float32),
            ),
            agent.params.twin,
            agent.optimisers["twin"],
            config.twin.learning_rate,
        )
        agent = agent.replace(
            params=agent.params.replace(twin=twin), optimisers=agent.optimisers | {"twin": twin_optimiser}
        )
        agent, of_ddpg = super().learn(config, agent, batch, single)
        return agent, of_twin | of_ddpg


def predicted_return(
    config: AgentConfig, params: AgentParams, features: Features, action: RelaxedAction, *, node: chex.Array
) -> tuple[Features, chex.Array]:
    """The twin's prediction for a node: the next features, and the () scaled return.

    The return is the predicted reward plus the discounted critic's value of the predicted state.
    """
    twin: TwinParams = params.twin  # type: ignore[assignment]  # a learner with a twin
    executed = action.replace(nodes=jax.nn.one_hot(node, action.nodes.shape[-1]))
    next_features, reward = predict(config, twin, features, executed)
    next_action = relaxed_action(config, params.actor, next_features)
    return next_features, reward + config.discount * q_value(config, params.critic, next_features, next_action)
