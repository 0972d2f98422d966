"""DDPG (Eq. 18-23) with target networks, without a digital twin."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxcec.agents.features import Features, encode, pace_of
from jaxcec.agents.learner import ReplayLearner
from jaxcec.agents.networks import patience_of, prices_of, traffic_price
from jaxcec.agents.types import AgentParams, AgentState, Choice, Learned, Metrics, Transition
from jaxcec.env import Observation
from jaxcec.policies import Preference, giving_way


class DDPG(ReplayLearner):
    """Deep deterministic policy gradient on the relaxed choice of a node."""

    followed = ("actor", "critic")

    def init_params(self, key: chex.PRNGKey, features: Features) -> AgentParams:
        """New actor and critic."""
        key_actor, key_critic, _, _ = jax.random.split(key, 4)  # the others are for the twins
        actor = self.networks.init("actor", key_actor, features)
        return AgentParams(actor=actor, critic=self.networks.init("critic", key_critic, features))

    def choose(self, params: AgentParams, features: Features, key: chex.PRNGKey, *, explore: bool) -> Choice:
        """The node of the highest score, with the actor's eta and eps."""
        output = self.networks.actor(params.actor, features)
        scores, action = output.nodes, self.networks.relaxed(output)
        if explore:
            scores, action = self.explore(scores, action, key)
        return self.choice(features, action, jnp.argmax(scores))

    def learn(self, agent: AgentState, batch: Transition, single: Transition) -> Learned:
        """One step of critic, actor and targets (Algorithm 2, lines 15-18)."""
        agent, of_critic = self.gradient_step(agent, "critic", lambda p: self.critic_loss(p, agent.target, batch))
        agent, of_actor = self.gradient_step(agent, "actor", lambda p: self.actor_loss(p, agent.params.critic, batch))
        return self.move_targets(agent), of_critic | of_actor

    def critic_loss(self, critic: chex.ArrayTree, target: AgentParams, batch: Transition) -> tuple[chex.Array, Metrics]:
        """Eq. 22 with the target of Eq. 23."""
        next_action = self.networks.act(target.actor, batch.next_features)
        bootstrap = self.networks.q(target.critic, batch.next_features, next_action)
        loss = self.bellman_error(critic, batch, bootstrap)
        return loss, {"critic_loss": loss}

    def actor_loss(
        self, actor: chex.ArrayTree, critic: chex.ArrayTree, batch: Transition
    ) -> tuple[chex.Array, Metrics]:
        """Minus Eq. 20 by Eq. 21: the critic's value of the relaxed choice.

        Two small terms keep the actor in place where the critic is indifferent: the entropy of the choice of node, and
        a cost of holding and of unused bandwidth. Without the latter, eta and eps drift to a bound wherever they do not
        matter.
        """
        action = self.networks.act(actor, batch.features)
        value = self.networks.q(critic, batch.features, action)
        entropy = -jnp.sum(action.nodes * jnp.log(action.nodes + 1e-8), axis=-1)
        idle = jnp.mean(action.hold + 1.0 - action.bandwidth, axis=-1)
        loss = -jnp.mean(value + self.config.entropy * entropy - self.config.flow_cost * idle)
        return loss, {"actor_loss": loss}

    def preference(self, params: AgentParams, observation: Observation) -> Preference:
        """The actor's scores and patience as the base policy of a plan; the toll is its price of the traffic."""
        seen = self.foresee(params, observation)[0]
        features = encode(seen)
        output = self.networks.actor(params.actor, features)
        action = self.networks.relaxed(output)
        toll = traffic_price(params.actor, features) * observation.nodes.traffic
        pace = pace_of(seen)
        hold = pace * action.hold * self.config.max_hold
        postpone = giving_way(seen, patience_of(prices_of(params), pace)) if self.config.postpone else None
        return Preference(output.nodes, action.bandwidth, hold, toll, postpone)
