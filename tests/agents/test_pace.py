"""What agents learn does not depend on how long everything takes, only on how long things take compared with others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL
from helpers.parameters import perturbed

from jaxcec.agents import AgentConfig, EvolutionConfig, encode, learner_for, train
from jaxcec.env import time_unit
from jaxcec.evaluation import rollout
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
FASTER = 2.0**-7  # a power of two, so that nothing is rounded otherwise
CHOICES = [
    {"algorithm": "ddpg", "information": "state", "learn_flow": True},
    {"algorithm": "dqn", "information": "lookahead"},
    {"algorithm": "dtdrlmo"},
]


@pytest.fixture(scope="module")
def world():
    """An environment with contention, and its params."""
    return make_env(dataclasses.replace(SMALL, arrival_rate=0.2, latency=1.0), "train")


def faster(params):
    """The world in which everything takes FASTER times as long, at the same rates, as there is less to do and send."""
    scaled = {name: FASTER * getattr(params.dags, name) for name in ("load", "data", "rank", "work")}
    params = params.replace(
        dags=params.dags.replace(**scaled),
        network=params.network.replace(latency=FASTER * params.network.latency),
        background=params.background.replace(frame=FASTER * params.background.frame),
        arrival_rate=params.arrival_rate / FASTER,
    )
    return params.replace(time_unit=time_unit(params.network, params.dags))


@pytest.mark.parametrize("settings", CHOICES)
def test_where_all_is_faster_the_decisions_are_the_same(world, settings):
    """So is the ACT, in the unit of time, to the last bit."""
    env, params = world
    learner = learner_for(AgentConfig(hidden=(8,), **settings))
    agent = perturbed(learner.init_params(KEY, encode(env.reset_env(KEY, params)[0])))
    play = jax.jit(lambda params: rollout(env, params, apply=learner.policy(env), params=agent, keys=KEY[None]))
    usual, other = play(params), play(faster(params))
    np.testing.assert_array_equal(usual.host, other.host)
    np.testing.assert_array_equal(FASTER * usual.completion, other.completion)
    assert len(np.unique(usual.host)) > 2


def test_where_all_is_faster_services_give_way_for_less_long():
    """An agent that postpones does so for the same part of everything else."""
    env, params = make_env(dataclasses.replace(SMALL, num_services=12, arrival_rate=1.0, postpone=True), "train")
    learner = learner_for(AgentConfig(algorithm="ddpg", information="lookahead", hidden=(8,), postpone=True))
    agent = learner.init_params(KEY, encode(env.reset_env(KEY, params)[0]))
    play = jax.jit(lambda params: rollout(env, params, apply=learner.policy(env), params=agent, keys=KEY[None]))
    usual, other = play(params), play(faster(params))
    assert usual.postponed[0] > 0
    np.testing.assert_array_equal(usual.postponed, other.postponed)
    np.testing.assert_allclose(FASTER * usual.decided_at, other.decided_at, rtol=1e-5)


@pytest.mark.usefixtures("lax_promotion")
def test_where_all_is_faster_the_same_is_learned(world):
    """Rewards and waits count in the unit of time: evolution, twin, critic and actor end at the same parameters."""
    env, params = world
    config = AgentConfig(
        hidden=(8,),
        replay_size=64,
        batch_size=16,
        return_steps=2,
        warmup_steps=4,
        evolution=EvolutionConfig(generations=2, pairs=2),
    )
    usual, other = (
        train(env, each, config, num_envs=8, total_decisions=64, key=KEY, validation_episodes=0).params
        for each in (params, faster(params))
    )
    for x, y in zip(jax.tree.leaves(usual), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_the_unit_is_a_power_of_two_near_the_time_of_a_mean_microservice(world):
    _, params = world
    network, dags = (jax.tree.map(np.asarray, x) for x in (params.network, params.dags))
    speed, bandwidth = network.speed[:, : SMALL.num_nodes], network.bandwidth
    run = dags.load.sum() / dags.size.sum() / speed[speed > 0.0].mean()
    transfer = dags.data.sum() / dags.size.sum() / bandwidth[bandwidth > 0.0].mean()
    assert params.time_unit == 2.0 ** np.round(np.log2(run + transfer))
    idle = params.dags.replace(load=jnp.zeros_like(params.dags.load), data=jnp.zeros_like(params.dags.data))
    assert time_unit(params.network, idle) == 64.0
