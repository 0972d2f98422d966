"""A custom learning algorithm: REINFORCE, in the table of algorithms next to DDPG and PPO.

Williams, Simple statistical gradient-following algorithms for connectionist reinforcement learning, Machine Learning
1992; the baseline is the mean return of the batch.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxcec.agents import LEARNERS, AgentConfig, AgentParams, AgentState, EvolutionConfig, NodeLearner, Report, train
from jaxcec.agents.features import Features
from jaxcec.agents.learner import weighted_mean
from jaxcec.agents.replay import Replay, newest
from jaxcec.scenarios import Scenario, make_env


class Reinforce(NodeLearner):
    """Monte-Carlo policy gradient on the scores of the nodes."""

    learned = ("actor",)
    steps_per_update = 16  # decisions in every environment between updates

    def replay_size(self, num_envs: int) -> int:
        return self.steps_per_update * num_envs

    def init_params(self, key: chex.PRNGKey, features: Features) -> AgentParams:
        return AgentParams(actor=self.networks.init("actor", key, features))

    def scores(self, params: AgentParams, features: Features) -> chex.Array:
        return self.networks.actor(params.actor, features).nodes

    def update(
        self, agent: AgentState, replay: Replay, next_features: Features, key: chex.PRNGKey
    ) -> tuple[AgentState, dict[str, Any]]:
        steps = newest(replay, self.steps_per_update)  # (16, num_envs, ...)

        def backward(later: chex.Array, step: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
            reward, discount = step
            total = reward + discount * later
            return total, total

        start = jnp.zeros_like(steps.reward[0])
        returns = jax.lax.scan(backward, start, (steps.reward, steps.discount), reverse=True)[1]

        def loss(actor: chex.ArrayTree) -> tuple[chex.Array, dict[str, Any]]:
            log_probs = jax.nn.log_softmax(self.networks.actor(actor, steps.features).nodes)
            chosen = jnp.take_along_axis(log_probs, steps.node[..., None], axis=-1)[..., 0]
            value = -weighted_mean((returns - returns.mean()) * chosen, steps.weight)
            return value, {"actor_loss": value}

        return self.gradient_step(agent, "actor", loss)


LEARNERS["reinforce"] = Reinforce


def main(total_decisions: int = 60_000) -> list[float]:
    """Train on small services from untrained prices; validation ACT, s, before and during training."""
    env, params = make_env(Scenario(num_services=3, max_microservices=6, reward="expected-act"), "train")
    config = AgentConfig(
        algorithm="reinforce",
        network="flat",
        actor_learning_rate=1e-3,
        warmup_steps=2,
        evolution=EvolutionConfig(generations=0),
    )
    acts: list[float] = []

    def callback(report: Report) -> None:
        if "validation_act" in report.metrics:
            acts.append(float(report.metrics["validation_act"] or 0.0))

    key = jax.random.key(0)
    train(env, params, config, num_envs=64, total_decisions=total_decisions, key=key, callback=callback)
    return acts


if __name__ == "__main__":
    print("validation ACT, s:", *(f"{act:.1f}" for act in main()))
