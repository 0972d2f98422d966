"""Double DQN: the values of nodes, its loss by hand, and a world whose values are known."""

import jax
import numpy as np
import pytest
from helpers.transitions import (
    AGENT,
    BATCH,
    V,
    critic_that_reads_a_feature,
    features_of,
    new_agent,
    regret,
    transition_of,
)

from jaxcec.agents import learner_for
from jaxcec.agents.networks import Networks, full_flow

DQN = AGENT.replace(algorithm="dqn", learn_flow=False)
LEARNER = learner_for(DQN)
learn = jax.jit(LEARNER.learn)


@pytest.mark.parametrize("network", ["per-node", "flat"])
def test_the_values_of_nodes_are_the_critic_s_of_each_choice(network):
    config = DQN.replace(network=network)
    features, critic = features_of(np.random.default_rng(5), 3), new_agent(config).params.critic
    networks = Networks(config)
    values = jax.jit(networks.q_of_nodes)(critic, features)
    for node in range(V):
        choice = full_flow(jax.nn.one_hot(np.full(3, node), V))
        np.testing.assert_allclose(values[:, node], networks.q(critic, features, choice), rtol=1e-5)


def test_the_online_critic_chooses_and_the_target_evaluates():
    """Online, a node is worth -2 x its first number: the least comes next, and is worth 3 x it to the target."""
    critic, rng = new_agent(DQN).params.critic, np.random.default_rng(1)
    online, target = critic_that_reads_a_feature(critic, -2.0), critic_that_reads_a_feature(critic, 3.0)
    features, after = features_of(rng, 3), features_of(rng, 3)
    batch = transition_of(
        features, [3, 1, 0], [1.0, 2.0, 50.0], next_features=after, discount=[0.9, 0.0, 0.9], weight=[1.0, 1.0, 0.0]
    )
    now, later = features.nodes[..., 0], after.nodes[..., 0]
    errors = [1.0 + 0.9 * 3.0 * later[0].min() + 2.0 * now[0, 3], 2.0 + 2.0 * now[1, 1]]
    loss, _ = jax.jit(LEARNER.loss)(online, target, batch)
    np.testing.assert_allclose(loss, np.mean(np.square(errors)), rtol=1e-5)


@pytest.mark.usefixtures("lax_promotion")
def test_dqn_learns_the_values_of_a_known_world():
    """The reward is a feature of the chosen node, and the same state follows: the best node is worth twice its own."""
    agent, rng = new_agent(DQN), np.random.default_rng(3)
    assert agent.params.actor is None and set(agent.optimisers) == {"critic"}
    for _ in range(800):
        features, node = features_of(rng, BATCH), rng.integers(0, V, BATCH)
        reward = features.nodes[np.arange(BATCH), node, 0]
        batch = transition_of(features, node, reward, next_features=features, discount=0.5, weight=1.0)
        agent, _ = learn(agent, batch, batch)
    features = features_of(rng, 500)
    logits = np.asarray(jax.jit(LEARNER.scores)(agent.params, features))
    assert regret(features, logits.argmax(axis=-1)) < 0.03
    expected = features.nodes[..., 0] + features.nodes[..., 0].max(axis=-1, keepdims=True)
    assert np.abs(DQN.entropy * logits - expected).mean() < 0.12
