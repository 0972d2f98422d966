"""PPO: the actor's scores are the logits of a categorical over nodes, moved by clipped probability ratios.

Schulman et al., Proximal policy optimization algorithms, 2017; advantages as in Schulman et al., High-dimensional
continuous control using generalized advantage estimation, ICLR 2016.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features
from jaxcec.agents.learner import NodeLearner, weighted_mean
from jaxcec.agents.replay import Replay, newest
from jaxcec.agents.types import AgentParams, AgentState, Learned, Metrics, Step


class Sample(struct.PyTreeNode):
    """Steps with their advantages; the leading axes are (T, num_envs) or (batch,)."""

    features: Features
    node: chex.Array  # i32
    weight: chex.Array  # 0 where the episode was truncated
    log_prob: chex.Array  # of the node, when it was chosen
    advantage: chex.Array  # scaled reward
    target: chex.Array  # scaled reward, for the value of the state


class PPO(NodeLearner):
    """Proximal policy optimisation over edge nodes; exploration samples from the policy."""

    def __init__(self, config: AgentConfig):
        super().__init__(config)
        if isinstance(config.exploration, int | float) and config.exploration != 1.0:
            got = config.exploration
            raise ValueError(f"agent.exploration: got {got}; must be 1 for ppo, which samples its policy")
        self.steps_per_update = config.ppo.rollout_steps

    def replay_size(self, num_envs: int) -> int:
        """The steps of one update."""
        return self.steps_per_update * num_envs

    def init_params(self, key: chex.PRNGKey, features: Features) -> AgentParams:
        """New actor and state value."""
        key_actor, key_critic, _, _ = jax.random.split(key, 4)  # those of DDPG
        actor = self.networks.init("actor", key_actor, features)
        return AgentParams(actor=actor, critic=self.networks.init("value", key_critic, features))

    def scores(self, params: AgentParams, features: Features) -> chex.Array:
        """The actor's scores."""
        return self.networks.actor(params.actor, features).nodes

    def update(self, agent: AgentState, replay: Replay, next_features: Features, key: chex.PRNGKey) -> Learned:
        """Several epochs over the newest steps."""
        return self.learn(agent, newest(replay, self.steps_per_update), next_features, key)

    def learn(self, agent: AgentState, steps: Step, next_features: Features, key: chex.PRNGKey) -> Learned:
        """Several epochs over the (T, num_envs, ...) steps of one rollout in order, decided with the learner's state.

        The next features, (num_envs, ...), are of the states after them. Each step occurs once in an epoch. A minibatch
        has one step of every environment, each from another time, so that all devices have an equal part in it.
        """
        sample = self.evaluate(agent, steps, next_features)

        def epoch(agent: AgentState, key: chex.PRNGKey) -> Learned:
            times = jnp.broadcast_to(jnp.arange(sample.node.shape[0])[:, None], sample.node.shape)
            order = jax.random.permutation(key, times, axis=0, independent=True)
            shuffled = jax.tree.map(lambda x: jax.vmap(lambda row, i: row[i], in_axes=1, out_axes=1)(x, order), sample)
            return jax.lax.scan(self._learn_minibatch, agent, shuffled)

        agent, metrics = jax.lax.scan(epoch, agent, jax.random.split(key, self.config.ppo.epochs))
        return agent, jax.tree.map(jnp.mean, metrics)

    def evaluate(self, agent: AgentState, steps: Step, next_features: Features) -> Sample:
        """(T, num_envs) steps with log-probabilities, advantages and targets under the networks that decided them."""
        states = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), steps.features, next_features)
        values = self.networks.value(agent.params.critic, states)
        advantage = self.advantages(steps, values)
        return Sample(
            features=steps.features,
            node=steps.node,
            weight=steps.weight,
            log_prob=self._log_probs(agent.params.actor, steps.features, steps.node)[1],
            advantage=advantage,
            target=values[:-1] + advantage,
        )

    def advantages(self, steps: Step, values: chex.Array) -> chex.Array:
        """GAE(lambda), (T, num_envs) scaled reward, from steps in order.

        The values, (T + 1, num_envs), are those of the steps' states and of the states after the last. The value after
        a termination is 0. The state after a truncation is unknown: the truncated step has no advantage, and the steps
        before it bootstrap from the value of the state in which it was decided.
        """

        def backward(next_advantage: chex.Array, step: tuple[chex.Array, ...]) -> tuple[chex.Array, chex.Array]:
            reward, discount, weight, value, next_value = step
            error = reward + discount * next_value - value
            advantage = weight * (error + self.config.ppo.gae_lambda * discount * next_advantage)
            return advantage, advantage

        rows = (steps.reward, steps.discount, steps.weight, values[:-1], values[1:])
        return jax.lax.scan(backward, jnp.zeros_like(values[0]), rows, reverse=True)[1]

    def policy_loss(self, actor: chex.ArrayTree, batch: Sample) -> tuple[chex.Array, Metrics]:
        """() minus the clipped objective with an entropy bonus.

        Advantages are not normalised: the bonus is in units of scaled reward, as it is in DDPG's objective.
        """
        log_probs, chosen = self._log_probs(actor, batch.features, batch.node)
        ratio, clip = jnp.exp(chosen - batch.log_prob), self.config.ppo.clip
        clipped = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
        gain = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        loss = -weighted_mean(gain + self.config.entropy * entropy, batch.weight)
        return loss, {"actor_loss": loss}

    def value_loss(self, critic: chex.ArrayTree, batch: Sample) -> tuple[chex.Array, Metrics]:
        """() mean square error of the states' values."""
        value = self.networks.value(critic, batch.features)
        loss = weighted_mean(jnp.square(value - batch.target), batch.weight)
        return loss, {"critic_loss": loss}

    def _learn_minibatch(self, agent: AgentState, batch: Sample) -> Learned:
        """One step of both networks."""
        agent, of_actor = self.gradient_step(agent, "actor", lambda p: self.policy_loss(p, batch))
        agent, of_critic = self.gradient_step(agent, "critic", lambda p: self.value_loss(p, batch))
        return agent, of_critic | of_actor

    def _log_probs(self, actor: chex.ArrayTree, features: Features, node: chex.Array) -> tuple[chex.Array, chex.Array]:
        """(..., V) log-probabilities of all nodes, and (...) that of the chosen one."""
        log_probs = jax.nn.log_softmax(self.networks.actor(actor, features).nodes)
        return log_probs, jnp.take_along_axis(log_probs, node[..., None], axis=-1)[..., 0]
