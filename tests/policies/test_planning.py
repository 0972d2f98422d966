"""Planning simulates the true mechanism: without unknowns, its predictions are exact."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, STEPS, random_actions

from jaxcec.env import expected_completions, known_world
from jaxcec.policies import (
    RANDOM_PLANS,
    TRAFFIC_PRICE,
    PlanConfig,
    as_now,
    at_full_rate,
    best_of_random,
    plan,
    prefer_priced_finish,
    priced_earliest_finish,
)
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
# All services arrive at once and there are no other tenants, so that the known world is the true one.
KNOWN = dataclasses.replace(SMALL, background="none")
EXACT = PlanConfig(SMALL.num_nodes, steps=STEPS, toll=1.0, link_breakpoints=64, host_breakpoints=48)
PRICED = {"config": EXACT, "prefer": prefer_priced_finish, "forecast": as_now}


@pytest.fixture(scope="module")
def setting():
    """Environment, params, and a state in the middle of an episode."""
    env, params = make_env(KNOWN, "train")
    params = params.replace(arrival_rate=jnp.float32(jnp.inf))
    actions = random_actions(env, KEY, (STEPS // 3,))

    def step(state, action):
        return env.step_env(KEY, state, action, params)[1], None

    return env, params, jax.jit(lambda s: jax.lax.scan(step, s, actions)[0])(env.reset_env(KEY, params)[1])


def test_the_predicted_cost_of_each_candidate_is_its_true_cost(setting):
    env, params, state = setting

    @jax.jit
    def true_cost(node):
        def follow(carry, first):
            state, traffic = carry
            observation = env.observe(KEY, state, None, params)
            action = priced_earliest_finish(observation, KEY)
            action = action.replace(host=jnp.where(first, node, action.host))
            traffic += observation.nodes.traffic[action.host]
            return (env.step_env(KEY, state, action, params)[1], traffic), None

        (after, traffic), _ = jax.lax.scan(follow, (state, jnp.float32(0)), jnp.arange(STEPS) == 0)
        return env.is_terminated(after), jnp.sum(after.episode.completion) + TRAFFIC_PRICE * traffic

    tried = jax.jit(partial(plan, env, **PRICED))(known_world(state, params), KEY)
    ended, costs = jax.vmap(true_cost)(tried.nodes)
    assert ended.all() and len(set(np.asarray(tried.nodes))) == SMALL.num_nodes
    assert np.ptp(costs) > 1.0
    np.testing.assert_allclose(tried.costs, costs, rtol=1e-5)


def test_the_plan_takes_the_cheapest_candidate(setting):
    env, params, state = setting
    world = known_world(state, params)
    tried = jax.jit(partial(plan, env, **PRICED))(world, KEY)
    assert int(tried.action.host) == int(tried.nodes[np.argmin(tried.costs)])


def test_a_plan_with_one_candidate_is_the_base_policy(setting):
    env, params, state = setting
    one = PlanConfig(candidates=1, steps=2)
    action = jax.jit(partial(plan, env, **PRICED | {"config": one}))(known_world(state, params), KEY).action
    assert action == priced_earliest_finish(env.observe(KEY, state, None, params), KEY)


def test_the_best_of_many_random_one_decision_plans_has_the_least_expected_completion(setting):
    env, params, state = setting
    many = dataclasses.replace(RANDOM_PLANS, candidates=64, steps=0)
    world = known_world(state, params)
    hosts = jax.jit(jax.vmap(partial(best_of_random, env, world, config=many)))(jax.random.split(KEY, 8)).host
    every_node = jax.vmap(at_full_rate)(jnp.arange(SMALL.num_nodes))
    after = jax.vmap(lambda action: env.step_env(KEY, state, action, params)[1])(every_node)
    expected = jax.vmap(expected_completions, in_axes=(0, None))(after, params).sum(axis=1)
    assert np.ptp(expected) > 1.0
    np.testing.assert_allclose(expected[hosts], np.full(8, expected.min()), rtol=1e-5)


def test_one_random_plan_is_a_random_node(setting):
    env, params, state = setting
    one = dataclasses.replace(RANDOM_PLANS, candidates=1, steps=1)
    world = known_world(state, params)
    hosts = jax.jit(jax.vmap(partial(best_of_random, env, world, config=one)))(jax.random.split(KEY, 32)).host
    assert set(np.asarray(hosts)) == set(range(SMALL.num_nodes))


def test_the_price_of_traffic_keeps_data_where_they_are(setting):
    env, params, state = setting
    seen = env.observe(KEY, state, None, params)
    finish, traffic = jnp.array([10.0, 8.0, 9.0, 20.0]), jnp.array([0.0, 3.0, 0.5, 0.0])
    seen = seen.replace(nodes=seen.nodes.replace(finish=finish, traffic=traffic))
    assert int(priced_earliest_finish(seen, KEY).host) == 2


def test_expected_completion_starts_as_the_longest_path_and_ends_as_the_completion(setting):
    env, params, _ = setting
    _, state = env.reset_env(KEY, params)
    row = params.arrivals.dag[state.episode.arrivals]
    speed = np.asarray(params.network.speed)[state.episode.topology][: SMALL.num_nodes].mean()
    longest = np.asarray(params.dags.rank)[row].max(axis=1) / speed
    np.testing.assert_allclose(expected_completions(state, params), longest, rtol=1e-3)

    def step(state, action):
        return env.step_env(KEY, state, action, params)[1], None

    after = jax.jit(lambda s: jax.lax.scan(step, s, random_actions(env, KEY, (STEPS,)))[0])(state)
    assert env.is_terminated(after)
    np.testing.assert_array_equal(expected_completions(after, params), after.episode.completion)


@pytest.mark.parametrize("field", ["candidates", "steps", "toll", "link_breakpoints"])
def test_the_error_names_an_invalid_setting(field):
    with pytest.raises(ValueError, match=f"plan.{field}: got -1"):
        PlanConfig(**{field: -1})


def test_a_decision_that_is_postponed_pays_no_toll(setting):
    """Every decision is put off beyond the horizon: whatever the weight of tolls, each candidate costs the same."""
    env, params, state = setting

    def patient(observation):
        return prefer_priced_finish(observation)._replace(postpone=jnp.full((env.config.num_nodes,), 1e4))

    @jax.jit
    def costs(state):
        world = known_world(state, params)
        weights = (dataclasses.replace(EXACT, steps=2, toll=toll) for toll in (0.0, 100.0))
        tried = [plan(env, world, KEY, config=x, prefer=patient, forecast=as_now) for x in weights]
        return [each.costs for each in tried], tried[0].preference.toll

    (free, dear), tolls = costs(state)
    np.testing.assert_array_equal(free, dear)
    assert np.asarray(tolls).any()


def test_the_twin_of_the_true_timing_is_the_mechanism(setting):
    """With the mechanism's own answers as the model of timing, states and plans are those of the mechanism."""
    env, params, state = setting

    def exact(observation, action):
        return observation.nodes.data_ready[action.host], observation.nodes.wait[action.host]

    @jax.jit
    def both(state):
        observation, action = env.observe(KEY, state, None, params), at_full_rate(jnp.int32(1))
        data_ready, wait = exact(observation, action)
        foreseen, info = env.step_as_foreseen(state, action, params, data_ready=data_ready, wait=wait)
        _, true, _, _, expected = env.step_env(KEY, state, action, params)
        world = known_world(state, params)
        plans = [plan(env, world, KEY, **PRICED, timing=timing).costs for timing in (None, exact)]
        return (foreseen, info), (true, expected), plans

    foreseen, true, plans = both(state)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-3), foreseen, true)
    np.testing.assert_allclose(*plans, rtol=1e-4)


def test_a_twin_books_when_its_model_foresees_and_may_overbook(setting):
    env, params, state = setting
    action = at_full_rate(jnp.int32(1))

    @jax.jit
    def later(seconds):
        return env.step_as_foreseen(state, action, params, data_ready=seconds, wait=2.0 * seconds)

    _, info = later(jnp.float32(40.0))
    now = float(info["time"])
    np.testing.assert_allclose([info["data_ready"] - now, info["start"] - now], [40.0, 120.0], rtol=1e-5)
    np.testing.assert_allclose(info["flow_end"], info["data_ready"], rtol=1e-5)
    true = env.step_env(KEY, state, action, params)[4]
    np.testing.assert_allclose(info["finish"] - info["start"], true["finish"] - true["start"], rtol=1e-3)
