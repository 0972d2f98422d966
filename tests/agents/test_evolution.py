"""The evolution strategy finds prices that whole episodes are better for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL

from jaxcec.agents import AgentConfig, EvolutionConfig, encode, evolution, learner_for
from jaxcec.agents.features import COSTS
from jaxcec.agents.networks import PRICES
from jaxcec.scenarios.scenario import make_env

KEY = jax.random.key(0)
CONFIG = AgentConfig(algorithm="ddpg", hidden=(8, 8), evolution=EvolutionConfig(pairs=32, spread=1.0))


@pytest.fixture(scope="module")
def found():
    """Distributions before and after some generations that start from a price of the wrong sign."""
    env, params = make_env(dataclasses.replace(SMALL, background="none"), "train")
    observation, _ = env.reset_env(KEY, params)
    learner = learner_for(CONFIG)
    agent = learner.init(learner.init_params(KEY, encode(observation)))
    start = evolution.init_evolution(agent)
    wrong = start.mean.at[COSTS.index("behind")].set(-0.3)  # prefers later finishes
    start = start.replace(mean=wrong, average=wrong)
    after, acts = start, []
    with jax.numpy_dtype_promotion("standard"):
        for key in jax.random.split(KEY, 12):
            after, act = evolution.evolve(env, params, CONFIG, evolution=after, key=key)
            acts.append(float(act))
    return agent, start, after, acts


def test_episodes_get_shorter(found):
    _, start, after, acts = found
    assert np.mean(acts[-3:]) < 0.7 * np.mean(acts[:3])
    behind = COSTS.index("behind")
    assert after.mean[behind] > start.mean[behind] + 0.2
    assert after.generation == 12


def test_actor_critic_and_targets_take_the_prices_found_and_nothing_else_changes(found):
    agent, _, after, _ = found
    ended = evolution.with_found_prices(agent, after)
    for tree in (ended.params, ended.target):
        for network in (tree.actor, tree.critic):
            flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(network["params"][PRICES])])
            np.testing.assert_array_equal(flat, after.average)
    without = [{name: x for name, x in a.params.actor["params"].items() if name != PRICES} for a in (agent, ended)]
    jax.tree.map(np.testing.assert_array_equal, *without)
