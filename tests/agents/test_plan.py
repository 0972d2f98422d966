"""The planning agent: it predicts load from observed load, and nothing of the future reaches its decisions."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, STEPS, changed_later, random_actions

from jaxcec.agents import AgentConfig, encode, forecast, learner_for
from jaxcec.agents.features import COSTS
from jaxcec.agents.networks import PATIENCE, PRICES
from jaxcec.env import HISTORY, known_world
from jaxcec.policies import Patience, PlanConfig, giving_way
from jaxcec.scenarios import make_env
from jaxcec.scenarios.load_processes import draw_background

KEY = jax.random.key(0)
PLANNER = AgentConfig(algorithm="dtdrlmo-plan", hidden=(16, 16), plan=PlanConfig(steps=4))


@pytest.fixture(scope="module")
def fitted():
    """A forecast fitted to one bank of loads, and windows of another: (n, HISTORY), (n, FRAMES)."""
    train, test = (
        draw_background("ar1", np.random.default_rng(seed), num_traces=32, num_frames=512, frame=10.0)
        for seed in (0, 1)
    )
    with jax.numpy_dtype_promotion("standard"):  # as for all of optax's Adam
        params = forecast.fit_forecast(KEY, jax.tree.map(jnp.asarray, train))
    window = HISTORY + forecast.FRAMES
    windows = np.lib.stride_tricks.sliding_window_view(test.load, window, axis=1)[:, ::8].reshape(-1, window)
    return params, windows[:, :HISTORY], windows[:, HISTORY:]


def test_the_forecast_is_better_than_no_change_and_than_the_mean_and_knows_its_error(fitted):
    params, history, future = fitted
    mean, deviation = jax.jit(forecast.LoadForecast().apply)(params, history)

    def error(guess):
        return np.sqrt(np.mean(np.square(future - guess), axis=0))

    ours, no_change, average = error(mean), error(history[:, -1:]), error(future.mean())
    assert (ours[1:] < no_change[1:]).all() and ours.mean() < 0.85 * no_change.mean()
    assert ours[:8].mean() < 0.8 * average[:8].mean()
    assert 0.9 < np.mean(np.abs(future - mean) < deviation) / 0.683 < 1.1, "one deviation holds 68 % of a Gaussian"


@pytest.fixture(scope="module")
def setting(fitted):
    """Environment, params, states of random episodes, and a planner's parameters with unusual prices."""
    env, params = make_env(dataclasses.replace(SMALL, num_frames=256), "train")
    actions = random_actions(env, KEY, (STEPS,))

    def step(state, action):
        return env.step_env(KEY, state, action, params)[1], state

    observation, state = env.reset_env(KEY, params)
    states = jax.jit(lambda s: jax.lax.scan(step, s, actions)[1])(state)
    agent = learner_for(PLANNER).init_params(KEY, encode(observation)).replace(forecast=fitted[0])
    agent.actor["params"][PRICES]["Dense_0"]["bias"] = jnp.array([0.1, 0.0, 1.0, 0.5, 2.0, 0.3])
    return env, params, states, agent


@pytest.mark.parametrize("samples", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_nothing_of_the_future_reaches_a_decision(setting, samples):
    env, params, states, agent = setting
    config = PLANNER.replace(plan=PlanConfig(steps=4, samples=samples))
    decide = learner_for(config).policy(env)

    @jax.jit
    @jax.vmap
    def both(state):
        changed, other, later = changed_later(state, params)
        futures = jax.tree.map(lambda *x: jnp.stack(x), (state, params), (changed, other))
        return jax.vmap(lambda s, p: decide(agent, None, known_world(s, p), KEY))(*futures), later

    action, later = both(states)
    assert np.asarray(later).any()
    jax.tree.map(lambda x: np.testing.assert_array_equal(x[:, 0], x[:, 1]), action)
    assert len(np.unique(action.host)) > 1


def test_a_plan_knows_the_current_load_and_predicts_the_rest(setting):
    _, params, states, agent = setting
    world = known_world(jax.tree.map(lambda x: x[3], states), params)
    mean, _ = forecast.LoadForecast().apply(agent.forecast, world.history)
    worlds = (forecast.predict_load(agent.forecast, world, KEY, sampled=sampled) for sampled in (False, True))
    predicted, drawn = (world.params.background.load for world in worlds)
    np.testing.assert_array_equal(predicted[:, 0], world.history[:, -1])
    np.testing.assert_allclose(predicted[:, 1:], np.clip(mean, 0.0, 0.9), rtol=1e-6)
    np.testing.assert_array_equal(drawn[:, 0], predicted[:, 0])
    assert np.abs(drawn - predicted)[:, 1:].mean() > 0.01


def test_the_toll_is_traffic_at_the_actors_price_in_units_of_delay(setting):
    env, params, states, agent = setting
    seen = env.observe(KEY, jax.tree.map(lambda x: x[3], states), None, params)
    preference = jax.jit(partial(learner_for(PLANNER).preference, agent))(seen)
    prices = dict(zip(COSTS, (0.1, 0.0, 1.0, 0.5, 2.0, 0.3), strict=True))
    np.testing.assert_allclose(preference.toll, prices["traffic"] / prices["behind"] * seen.nodes.traffic, rtol=1e-4)
    assert np.ptp(preference.toll) > 0.0


def test_a_plan_gives_way_as_patiently_as_the_actor(setting):
    env, params, states, agent = setting
    hasty = Patience(shorter=0.5, delay=0.01, again=0.1, again_later=0.5)
    prices = agent.actor["params"][PRICES]
    changed = prices | {PATIENCE: jnp.log(jnp.array(hasty))}
    agent = agent.replace(actor={"params": agent.actor["params"] | {PRICES: changed}})
    decide = learner_for(PLANNER.replace(postpone=True)).policy(env)

    @jax.jit
    @jax.vmap
    def both(state):
        seen = env.observe(KEY, state, None, params)
        action = decide(agent, seen, known_world(state, params), KEY)
        return action.postpone, giving_way(seen, hasty)[action.host]

    postponed, expected = both(states)
    np.testing.assert_allclose(postponed, expected, rtol=1e-3, atol=1e-6)
    assert (np.asarray(postponed) > 0.0).any() and not (np.asarray(postponed) > 0.0).all()
