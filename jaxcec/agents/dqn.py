"""Double DQN with the critic, replay buffer and returns of DDPG: the critic itself chooses, and there is no actor.

Mnih et al., Human-level control through deep reinforcement learning, Nature 2015; van Hasselt et al., Deep
reinforcement learning with double Q-learning, AAAI 2016.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features, only_feasible
from jaxcec.agents.learner import NodeLearner, ReplayLearner
from jaxcec.agents.networks import inverse_entropy
from jaxcec.agents.types import AgentParams, AgentState, Learned, Metrics, Transition


class DQN(NodeLearner, ReplayLearner):
    """Double DQN over edge nodes. Values over `entropy` are the logits that exploration samples from."""

    learned = followed = ("critic",)

    def __init__(self, config: AgentConfig):
        super().__init__(config)
        if isinstance(config.entropy, int | float) and config.entropy == 0.0:
            raise ValueError("agent.entropy: got 0.0; must be positive for dqn, whose exploration is in units of it")

    def init_params(self, key: chex.PRNGKey, features: Features) -> AgentParams:
        """A new critic."""
        key_critic = jax.random.split(key, 4)[1]  # DDPG's
        return AgentParams(critic=self.networks.init("critic", key_critic, features))

    def scores(self, params: AgentParams, features: Features) -> chex.Array:
        """Values of the nodes in units of `entropy`, as an actor's scores are."""
        values = self.networks.q_of_nodes(params.critic, features) * inverse_entropy(self.config)
        return only_feasible(values, features)

    def learn(self, agent: AgentState, batch: Transition, single: Transition) -> Learned:
        """One step of the critic and of its target."""
        agent, metrics = self.gradient_step(agent, "critic", lambda p: self.loss(p, agent.target.critic, batch))
        return self.move_targets(agent), metrics

    def loss(self, critic: chex.ArrayTree, target: chex.ArrayTree, batch: Transition) -> tuple[chex.Array, Metrics]:
        """() Bellman error; the online critic chooses the next node, and the target evaluates it."""
        scores = self.scores(AgentParams(critic=critic), batch.next_features)
        node = jnp.argmax(scores, axis=-1, keepdims=True)
        values = self.networks.q_of_nodes(target, batch.next_features)
        loss = self.bellman_error(critic, batch, jnp.take_along_axis(values, node, axis=-1)[..., 0])
        return loss, {"critic_loss": loss}
