"""PPO: advantages and losses by hand, and a bandit whose best node is known."""

import jax
import numpy as np
import pytest
from helpers.transitions import AGENT, KEY, V, features_of, new_agent, regret, step_of

from jaxcec.agents import AgentParams, PPOConfig, learner_for
from jaxcec.agents.ppo import Sample

PPO = AGENT.replace(algorithm="ppo", learn_flow=False, ppo=PPOConfig(rollout_steps=8))
STEPS, ENVS = 8, 32
LEARNER = learner_for(PPO)
learn, scores_of = jax.jit(LEARNER.learn), jax.jit(LEARNER.scores)


def test_advantages_are_those_computed_by_hand():
    """Lambda 0.5, discount 0.8; at the second decision one environment terminates, the other is truncated."""
    config = PPO.replace(ppo=PPO.ppo.replace(gae_lambda=0.5))
    reward = np.float32([[1, 1], [2, 2], [3, 3]])
    discount, weight = np.float32([[0.8, 0.8], [0, 0.8], [0.8, 0.8]]), np.float32([[1, 1], [1, 0], [1, 1]])
    features = features_of(np.random.default_rng(0), 3, 2)
    steps = step_of(features, np.zeros((3, 2)), reward, discount=discount, weight=weight)
    values = np.float32([[10, 10], [20, 20], [30, 30], [40, 40]])
    last = 3 + 0.8 * 40 - 30
    ended = 2 - 20  # nothing follows
    expected = [[1 + 0.8 * 20 - 10 + 0.4 * ended, 1 + 0.8 * 20 - 10], [ended, 0], [last, last]]
    np.testing.assert_allclose(learner_for(config).advantages(steps, values), expected, rtol=1e-5)


def test_ratios_count_no_further_than_the_clip():
    """The decisions are now four times as likely: a gain counts 1.2 times, a loss four times."""
    config = PPO.replace(entropy=0.0, network="flat")
    actor = jax.tree.map(np.zeros_like, new_agent(config).params.actor)
    features, one = features_of(np.random.default_rng(8), 3), np.ones(3, np.float32)
    before = np.full(3, np.log(1 / V / 4), np.float32)
    batch = Sample(features, np.int32([0, 1, 2]), np.float32([1, 1, 0]), before, np.float32([1, -1, 9]), one)
    slope, metrics = jax.grad(lambda p: learner_for(config).policy_loss(p, batch), has_aux=True)(actor)
    np.testing.assert_allclose(metrics["actor_loss"], -(1.2 - 4.0) / 2, rtol=1e-5)
    np.testing.assert_allclose(slope["params"]["MLP_0"]["Dense_1"]["bias"].reshape(V, 3)[:, 0], [-0.5, 1.5, -0.5, -0.5])


@pytest.mark.usefixtures("lax_promotion")
def test_ppo_learns_the_best_node_of_a_bandit():
    """Nodes are drawn from the policy, the reward is a feature of the chosen one, and nothing follows."""
    agent, rng = new_agent(PPO), np.random.default_rng(3)
    assert agent.target == AgentParams() and LEARNER.acting_params(agent) == agent.params
    for key in jax.random.split(KEY, 100):
        features = features_of(rng, STEPS, ENVS)
        node = np.asarray(jax.random.categorical(key, scores_of(agent.params, features)))
        reward = np.take_along_axis(features.nodes[..., 0], node[..., None], -1)[..., 0]
        last = jax.tree.map(lambda x: x[0], features)
        agent, _ = learn(agent, step_of(features, node, reward, discount=0.0, weight=1.0), last, key)
    features = features_of(rng, 500)
    assert regret(features, scores_of(agent.params, features).argmax(axis=-1)) < 0.03
    values = LEARNER.networks.value(agent.params.critic, features)
    assert np.abs(values - features.nodes[..., 0].max(axis=-1)).mean() < 0.15
