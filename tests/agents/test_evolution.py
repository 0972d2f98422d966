"""The evolution strategy finds prices that whole episodes are better for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL

from jaxcec.agents import evolution
from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import init_agent
from jaxcec.agents.features import COSTS, encode
from jaxcec.agents.networks import PRICES
from jaxcec.scenarios.scenario import make_env

KEY = jax.random.key(0)
CONFIG = AgentConfig(algorithm="ddpg", hidden=(8, 8), evolution_pairs=32, evolution_spread=1.0)


@pytest.fixture(scope="module")
def found():
    """Distributions before and after some generations that begin with a price on the wrong side."""
    env, params = make_env(dataclasses.replace(SMALL, background="none"), "train")
    observation, _ = env.reset_env(KEY, params)
    agent = init_agent(CONFIG, KEY, encode(observation))
    start = evolution.begin(agent)
    wrong = start.mean.at[COSTS.index("behind")].set(-0.3)  # later finishes are sought
    start = start.replace(mean=wrong, average=wrong)
    after, acts = start, []
    with jax.numpy_dtype_promotion("standard"):
        for key in jax.random.split(KEY, 12):
            after, act = evolution.evolve(env, params, CONFIG, after, key)
            acts.append(float(act))
    return agent, start, after, acts


def test_episodes_get_shorter(found):
    _, start, after, acts = found
    assert np.mean(acts[-3:]) < 0.7 * np.mean(acts[:3])
    behind = COSTS.index("behind")
    assert after.mean[behind] > start.mean[behind] + 0.2
    assert after.generation == 12


def test_actor_critic_and_targets_get_the_prices_found_and_nothing_else_changes(found):
    agent, _, after, _ = found
    ended = evolution.end(agent, after)
    for tree in (ended.params, ended.target):
        for network in (tree.actor, tree.critic):
            flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(network["params"][PRICES])])
            np.testing.assert_array_equal(flat, after.average)
    without = [{name: x for name, x in a.params.actor["params"].items() if name != PRICES} for a in (agent, ended)]
    jax.tree.map(np.testing.assert_array_equal, *without)
