"""DDPG's losses and updates, on transitions made by hand or by formula."""

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

from jaxcec.agents import AgentParams, learner_for
from jaxcec.agents.types import RelaxedAction

DDPG = AGENT.replace(algorithm="ddpg")
LEARNER = learner_for(DDPG)
learn = jax.jit(LEARNER.learn)


def test_the_critic_s_loss_is_that_computed_by_hand():
    """The target actor is indifferent: its value of the next state is the mean over nodes. Weight 0 counts nothing."""
    params, rng = new_agent(DDPG).params, np.random.default_rng(1)
    actor = jax.tree.map(np.zeros_like, params.actor)
    target = AgentParams(actor=actor, critic=critic_that_reads_a_feature(params.critic, 3.0))
    online = critic_that_reads_a_feature(params.critic, 2.0)
    features, after = features_of(rng, 3), features_of(rng, 3)
    batch = transition_of(
        features, [3, 1, 0], [1.0, 2.0, 50.0], next_features=after, discount=[0.9, 0.0, 0.9], weight=[1.0, 1.0, 0.0]
    )
    now, later = features.nodes[..., 0], after.nodes[..., 0]
    errors = [1.0 + 0.9 * 3.0 * later[0].mean() - 2.0 * now[0, 3], 2.0 - 2.0 * now[1, 1]]
    loss, metrics = jax.jit(LEARNER.critic_loss)(online, target, batch)
    np.testing.assert_allclose(loss, np.mean(np.square(errors)), rtol=1e-5)
    assert metrics == {"critic_loss": loss}
    assert jax.jit(LEARNER.critic_loss)(online, target, batch.replace(weight=np.zeros(3, "f")))[0] == 0


@pytest.mark.usefixtures("lax_promotion")
def test_an_update_moves_the_targets_by_the_target_rate():
    rng = np.random.default_rng(1)
    features = features_of(rng, BATCH)
    batch = transition_of(
        features, rng.integers(0, V, BATCH), 1.0, next_features=features_of(rng, BATCH), discount=0.9, weight=1.0
    )
    before = new_agent(DDPG)
    after, _ = learn(before, batch, batch)
    for name in ("actor", "critic"):
        old, new, target = (getattr(x, name) for x in (before.target, after.params, after.target))
        expected = jax.tree.map(lambda x, y: 0.75 * np.asarray(x) + 0.25 * np.asarray(y), old, new)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), target, expected)
        assert any(np.any(x != y) for x, y in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))


@pytest.mark.usefixtures("lax_promotion")
def test_the_actor_learns_the_best_node_of_a_bandit():
    """The reward is a feature of the chosen node, nodes are tried at random, and nothing follows."""
    agent, rng = new_agent(DDPG), np.random.default_rng(3)
    for _ in range(600):
        features, node = features_of(rng, BATCH), rng.integers(0, V, BATCH)
        reward = features.nodes[np.arange(BATCH), node, 0]
        batch = transition_of(features, node, reward, next_features=features, discount=0.0, weight=1.0)
        agent, _ = learn(agent, batch, batch)
    features = features_of(rng, 500)
    scores = jax.jit(LEARNER.networks.actor)(agent.params.actor, features).nodes
    assert regret(features, scores.argmax(axis=-1)) < 0.03, "a random choice has 0.3"


def test_per_node_networks_do_not_depend_on_the_numbering_of_nodes():
    rng, order, params = np.random.default_rng(4), np.array([2, 0, 3, 1]), new_agent(DDPG).params
    features = features_of(rng, 5)
    renumbered = features.replace(nodes=features.nodes[:, order])
    actor, critic = jax.jit(LEARNER.networks.actor), jax.jit(LEARNER.networks.q)
    pairs = zip(actor(params.actor, features), actor(params.actor, renumbered), strict=True)
    for before, after in pairs:
        assert np.ptp(before, axis=-1).min() > 1e-6, "nodes are distinguished"
        np.testing.assert_allclose(after, before[:, order], rtol=1e-5, atol=1e-7)
    action = RelaxedAction(*rng.random((3, 5, V), np.float32))
    value = critic(params.critic, features, action)
    same = critic(params.critic, renumbered, jax.tree.map(lambda x: x[:, order], action))
    other = critic(params.critic, renumbered, action)
    np.testing.assert_allclose(same, value, rtol=1e-4, atol=1e-5)
    assert np.abs(other - value).max() > 1e-4, "but an action belongs to its node"
