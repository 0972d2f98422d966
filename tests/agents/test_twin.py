"""The learned twin: Eq. 17, and a transition that it can learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.transitions import AGENT, BATCH, KEY, V, features_of, new_agent, transition_of

from jaxcec.agents import learner_for
from jaxcec.agents.features import RATE, encode
from jaxcec.agents.learner import executed_action
from jaxcec.agents.networks import Networks
from jaxcec.agents.twin import completion_reward, predict, twin_loss
from jaxcec.agents.types import Transition
from jaxcec.env import build_instance

NETWORKS = Networks(AGENT)
learn = jax.jit(learner_for(AGENT).learn)


def test_the_completion_reward_is_equation_17():
    """-(C / P(s') + W + D / s_link), with 80 Mcycles, and a transfer of 10 s at full bandwidth to node 1."""
    service = {"release": 0, "source": 0, "preds": [[]], "load": [80], "data": [50], "demand": [[1]]}
    env, _ = build_instance(
        links=[(0, 1, 5)], node_speed=[10, 20], device_speed=[1, 1], capacity=[[1], [1]], services=[service]
    )
    seen, _ = env.reset(KEY)
    waiting = seen.replace(nodes=seen.nodes.replace(finish=seen.nodes.finish + 6.0))  # W = 6 s at both nodes
    features = encode(seen)
    faster = features.replace(nodes=features.nodes.at[:, 1].set(jnp.log1p(40.0 / RATE)))  # P(s') = 40 at both

    def reward(observation, node, after):
        half, hold = jnp.float32(0.5), jnp.float32(3.0)
        return completion_reward(observation, jnp.int32(node), bandwidth=half, hold=hold, next_features=after)

    np.testing.assert_allclose(reward(seen, 1, features), -(80 / 20 + 0 + 10 / 0.5 + 3), rtol=1e-5)
    np.testing.assert_allclose(reward(seen, 1, faster), -(80 / 40 + 0 + 10 / 0.5 + 3), rtol=1e-5)
    np.testing.assert_allclose(reward(waiting, 1, faster), -(80 / 40 + 6 + 10 / 0.5 + 3), rtol=1e-5)
    np.testing.assert_allclose(reward(waiting, 0, faster), -(80 / 40 + 6 + 3), rtol=1e-5, err_msg="the hold alone")


def linear_world(rng) -> Transition:
    """All features decay, those of the chosen node grow with the context; the reward is linear in the next state."""
    features, node = features_of(rng, BATCH), rng.integers(0, V, BATCH)
    after = jax.tree.map(lambda x: np.float32(0.7) * x, features)
    after.nodes[np.arange(BATCH), node] += 0.5 * features.context[:, :1]
    reward = after.context[:, 0] - after.context[:, 1]
    return transition_of(features, node, reward, next_features=after, discount=0.9, weight=1.0)


@pytest.mark.usefixtures("lax_promotion")
def test_the_twin_learns_a_known_linear_transition():
    """On transitions that it was not trained on."""
    agent, rng = new_agent(), np.random.default_rng(2)
    unseen = linear_world(rng)
    action = executed_action(unseen)

    @jax.jit
    def outcome(twin):
        return twin_loss(NETWORKS, twin, unseen)[0], predict(NETWORKS, twin, unseen.features, action)

    before, _ = outcome(agent.params.twin)
    for _ in range(400):
        batch = linear_world(rng)
        agent, _ = learn(agent, batch, batch)
    after, (next_features, reward) = outcome(agent.params.twin)
    assert agent.target.twin is None
    assert after < before / 10
    assert np.abs(reward - unseen.reward).mean() < 0.1
    assert np.abs(next_features.nodes - unseen.next_features.nodes).mean() < 0.05
