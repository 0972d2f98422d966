"""DTDRLMO: DDPG assisted by a learned digital twin (Algorithms 1 and 2)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import DDPG
from jaxcec.agents.features import Features, encode
from jaxcec.agents.twin import completion_reward, init_twin, predict, twin_loss
from jaxcec.agents.types import AgentParams, AgentState, Metrics, RelaxedAction, Transition
from jaxcec.env import Observation


class DTDRLMO(DDPG):
    """DDPG whose candidate actions are tried in a learned twin, which is fitted in turn with critic and actor."""

    learned = ("actor", "critic", "twin")

    def __init__(self, config: AgentConfig):
        super().__init__(config)
        self.reward_share = config.twin.reward

    def init_params(self, key: chex.PRNGKey, features: Features) -> AgentParams:
        """DDPG's networks and the twin's models."""
        key_twin = jax.random.split(key, 4)[2]
        return super().init_params(key, features).replace(twin=init_twin(self.networks, key_twin, features))

    def select(
        self, params: AgentParams, observation: Observation, scores: chex.Array, action: RelaxedAction
    ) -> tuple[chex.Array, chex.Numeric]:
        """The best of the actor's preferred nodes, by its preference and the return that the twin predicts.

        Returns:
            () i32 node and () s reward of Eq. 17.
        """
        config, features = self.config, encode(observation)
        _, candidates = jax.lax.top_k(scores, min(config.twin.candidates, scores.shape[-1]))

        def evaluate(node: chex.Array) -> tuple[chex.Array, chex.Array]:
            next_features, predicted = self.predicted_return(params, features, action, node)
            # A softmax with entropy bonus e prefers nodes by value / e: so e times a score is in units of value.
            score = config.entropy * scores[node] + config.twin.score * predicted
            bandwidth, hold = action.bandwidth[node], action.hold[node] * config.max_hold
            return score, completion_reward(
                observation, node, bandwidth=bandwidth, hold=hold, next_features=next_features
            )

        values, rewards = jax.vmap(evaluate)(candidates)
        best = jnp.argmax(jnp.where(observation.nodes.feasible[candidates] > 0.0, values, -jnp.inf))
        return candidates[best], rewards[best]

    def predicted_return(
        self, params: AgentParams, features: Features, action: RelaxedAction, node: chex.Array
    ) -> tuple[Features, chex.Array]:
        """The twin's prediction for a () node: the next features, and the () scaled return.

        The return is the predicted reward plus the discounted critic's value of the predicted state.
        """
        executed = action.replace(nodes=jax.nn.one_hot(node, action.nodes.shape[-1]))
        next_features, reward = predict(self.networks, params.twin, features, executed)
        next_action = self.networks.act(params.actor, next_features)
        return next_features, reward + self.config.discount * self.networks.q(params.critic, next_features, next_action)

    def learn(self, agent: AgentState, batch: Transition, single: Transition) -> tuple[AgentState, Metrics]:
        """One step of the twin (Algorithm 2, lines 13 and 14), then of DDPG's networks."""
        agent, of_twin = self.gradient_step(agent, "twin", lambda p: twin_loss(self.networks, p, single))
        agent, of_ddpg = super().learn(agent, batch, single)
        return agent, of_twin | of_ddpg
