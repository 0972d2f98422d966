"""The evolution strategy finds prices that whole episodes are better for."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL

from jaxcec.agents import AgentConfig, EvolutionConfig, TrainedPolicy, TwinConfig, encode, evolution, learner_for
from jaxcec.agents.features import COSTS
from jaxcec.agents.networks import PATIENCE, PRICES, patience_of, prices_of
from jaxcec.agents.sharding import env_mesh
from jaxcec.evaluation.rollout import decisions_of
from jaxcec.policies import SRPT
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
CONFIG = AgentConfig(algorithm="ddpg", hidden=(8, 8), evolution=EvolutionConfig(pairs=32, slowest=1.0, fastest=1.0))


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
            agent, after, metrics = evolution.evolve(env, params, CONFIG, agent=agent, evolution=after, key=key)
            acts.append(float(metrics["act"]))
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


def test_the_twin_is_fitted_to_the_episodes_played_and_postponing_ends():
    """Services arrive together and give way to each other; the last metrics are of outcomes new to the twin."""
    env, params = make_env(dataclasses.replace(SMALL, num_services=8, arrival_rate=0.5), "train")
    observation, _ = env.reset_env(KEY, params)
    config = CONFIG.replace(algorithm="dtdrlmo", postpone=True, twin=TwinConfig(hidden=(32,), learning_rate=3e-3))
    learner = learner_for(config)
    agent = first = learner.init(learner.init_params(KEY, encode(observation)))
    start = evolution.init_evolution(agent)
    errors = []
    with jax.numpy_dtype_promotion("standard"):
        for key in jax.random.split(KEY, 12):
            agent, _, metrics = evolution.evolve(env, params, config, agent=agent, evolution=start, key=key)
            errors.append(float(metrics["twin_error"]))
    assert np.median(errors[-5:]) < 0.7 * errors[0]
    unchanged = agent.replace(params=agent.params.replace(twin=None), optimisers=None)
    jax.tree.map(
        np.testing.assert_array_equal, unchanged, first.replace(params=first.params.replace(twin=None), optimisers=None)
    )


def test_episodes_are_the_same_in_groups():
    env, params = make_env(SMALL, "train")
    config = CONFIG.replace(algorithm="dtdrlmo")
    learner = learner_for(config)
    agent = learner.init_params(KEY, encode(env.reset_env(KEY, params)[0]))
    mean = evolution.init_evolution(learner.init(agent)).mean
    prices = mean[None, None] + 0.1 * jax.random.normal(KEY, (12, 2, mean.size))
    drawn = {"prices": prices, "keys": jax.random.split(KEY, 12), "rates": jnp.linspace(0.05, 5.0, 12)}

    whole = jax.jit(partial(evolution._play_together, env, params, config, agent=agent, **drawn))
    act, outcomes = whole()
    assert len(np.unique(act)) >= 12 and 0.0 < outcomes.weight.mean() < 1.0
    assert (np.diff(decisions_of(env, params, drawn["keys"])) < 0).any(), "in another order than in the groups"
    for mesh in (None, env_mesh(jax.devices()[:2])):
        in_groups = jax.jit(partial(evolution._play, env, params, config, agent=agent, **drawn, groups=3, mesh=mesh))
        again, of_groups = in_groups()
        np.testing.assert_allclose(again, act, rtol=1e-5)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), of_groups, outcomes)


def test_patience_is_that_of_srpt_until_it_is_found():
    assert patience_of(None) == SRPT
    prices = {PATIENCE: jnp.log(jnp.array([2.0, 1.0, 0.5, 4.0], jnp.float32))}
    np.testing.assert_allclose(patience_of(prices), [2.0, 1.0, 0.5, 4.0], rtol=1e-6)
    env, params = make_env(SMALL, "train")
    learner = learner_for(CONFIG)
    new = learner.init_params(KEY, encode(env.reset_env(KEY, params)[0]))
    np.testing.assert_allclose(patience_of(prices_of(new)), SRPT, rtol=1e-6)


def test_an_agent_gives_way_only_if_it_may():
    """Of six services that arrive together, all but the shortest give way to the others."""
    env, params = make_env(dataclasses.replace(SMALL, num_services=8, arrival_rate=50.0, background="none"), "train")
    observation, _ = env.reset_env(KEY, params)
    policies = []
    for postpone in (False, True):
        config = CONFIG.replace(information="lookahead", postpone=postpone)
        policies.append(TrainedPolicy(config, learner_for(config).init_params(KEY, encode(observation))))
    hasty, patient = (policy.contender(env) for policy in policies)
    assert jax.eval_shape(hasty.apply, hasty.params, observation, None, KEY).postpone is None
    episodes = patient.play(env, params, jax.random.split(KEY, 4))
    assert episodes.postponed.sum() > 0
    assert np.all(episodes.act > 0)


def test_patience_is_perturbed_only_where_it_counts(found):
    agent, _, hasty, _ = found
    env, params = make_env(dataclasses.replace(SMALL, num_services=8, arrival_rate=0.5), "train")
    observation, _ = env.reset_env(KEY, params)
    config = CONFIG.replace(information="lookahead", postpone=True)
    learner = learner_for(config)
    new = learner.init(learner.init_params(KEY, encode(observation)))
    with jax.numpy_dtype_promotion("standard"):
        _, patient, _ = evolution.evolve(
            env, params, config, agent=new, evolution=evolution.init_evolution(new), key=KEY
        )
    for before, after, perturbed in ((agent, hasty, False), (new, patient, True)):
        patience = evolution.with_found_prices(before, after).params.actor["params"][PRICES][PATIENCE]
        assert np.all(patience != 0.0) == perturbed
