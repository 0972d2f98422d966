"""A learning algorithm of one's own: REINFORCE, in the table of algorithms next to DDPG and PPO.

Williams, Simple statistical gradient-following algorithms for connectionist reinforcement learning, Machine Learning
1992; the baseline is the mean return of the batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcec.agents import LEARNERS, AgentConfig, AgentParams, AgentState, EvolutionConfig, NodeLearner, train
from jaxcec.agents.learner import gradient_step, optimiser, weighted_mean
from jaxcec.agents.networks import actor_output, networks
from jaxcec.agents.replay import newest
from jaxcec.scenarios import Scenario, make_env

STEPS = 16  # decisions in every environment between updates


class Reinforce(NodeLearner):
    """Monte-Carlo policy gradient on the scores of the nodes."""

    def steps_per_update(self, config):
        return STEPS

    def replay_size(self, config, num_envs):
        return STEPS * num_envs

    def init_params(self, config, key, features):
        return AgentParams(actor=networks(config).actor.init(key, config, features))

    def init(self, config, params):
        state = optimiser(config.actor_learning_rate).init(params.actor)
        return AgentState(params=params, target=AgentParams(), optimisers={"actor": state})

    def scores(self, config, params, features):
        return actor_output(config, params.actor, features).nodes

    def update(self, config, agent, replay, next_features, key):
        steps = newest(replay, STEPS)  # (STEPS, num_envs, ...)

        def backward(later, step):
            reward, discount = step
            total = reward + discount * later
            return total, total

        start = jnp.zeros_like(steps.reward[0])
        returns = jax.lax.scan(backward, start, (steps.reward, steps.discount), reverse=True)[1]

        def loss(actor):
            log_probs = jax.nn.log_softmax(actor_output(config, actor, steps.features).nodes)
            chosen = jnp.take_along_axis(log_probs, steps.node[..., None], axis=-1)[..., 0]
            value = -weighted_mean((returns - returns.mean()) * chosen, steps.weight)
            return value, {"actor_loss": value}

        actor, state, metrics = gradient_step(
            loss, agent.params.actor, agent.optimisers["actor"], config.actor_learning_rate
        )
        return agent.replace(params=agent.params.replace(actor=actor), optimisers={"actor": state}), metrics


LEARNERS["reinforce"] = Reinforce()


def main(total_decisions: int = 60_000) -> list[float]:
    """Train on small services; the mean ACT of the validation episodes, s, as training goes on."""
    env, params = make_env(Scenario(num_services=3, max_microservices=6, reward="expected-act"), "train")
    config = AgentConfig(
        algorithm="reinforce",
        actor_learning_rate=1e-3,
        warmup_steps=2,
        evolution=EvolutionConfig(generations=0),
    )
    acts = []

    def callback(report):
        acts.extend(report.metrics[name] for name in ("validation_act",) if name in report.metrics)

    key = jax.random.key(0)
    train(env, params, config, num_envs=64, total_decisions=total_decisions, key=key, callback=callback)
    return acts


if __name__ == "__main__":
    print("validation ACT, s:", *(f"{act:.1f}" for act in main()))
