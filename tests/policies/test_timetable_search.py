"""The search over whole timetables: never worse than its start, with the true ACT, optimal on tiny instances."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL
from helpers.oracle import Oracle

from jaxcec.env import any_undecided, build_instance
from jaxcec.policies import (
    SearchConfig,
    Timetable,
    earliest_finish,
    follow_timetable,
    local_node,
    random_node,
    search,
    srpt,
)
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
EPISODES = 4
RULES = (random_node, local_node, earliest_finish, srpt)
# A fork and a chain that compete for three nodes and two links.
TINY = {
    "links": [(0, 1, 10), (1, 2, 20)],
    "node_speed": [10, 40, 30],
    "device_speed": [1, 1, 1],
    "capacity": [[1, 1]] * 3,
    "services": [
        {
            "release": 0,
            "source": 0,
            "preds": [[], [0], [0]],
            "load": [200, 900, 600],
            "data": [30, 80, 60],
            "demand": [[1, 1]] * 3,
        },
        {"release": 4, "source": 1, "preds": [[], [0]], "load": [400, 300], "data": [50, 40], "demand": [[1, 1]] * 2},
    ],
}


@partial(jax.jit, static_argnums=(0, 2))
def play(env, params, decide, states, given):
    """ACT (B,), hosts and times of decision (B, M, N) of whole episodes under `decide(given, state)`."""

    def step(states):
        actions = jax.vmap(decide)(given, states)
        return jax.vmap(env.step_env, in_axes=(None, 0, 0, None))(KEY, states, actions, params)[1]

    after = jax.lax.while_loop(any_undecided, step, states)
    return after.episode.completion.mean(axis=1), after.host, after.ready


@pytest.fixture(scope="module")
def small():
    """Environment, params, initial states (B,), and ACT (B, P0) and timetables (B, P0, M, N) of each rule."""
    env, params = make_env(SMALL, "train")
    keys = jax.random.split(KEY, EPISODES)
    states = jax.vmap(env.reset_env, in_axes=(0, None))(keys, params)[1]

    def decide(given, state):
        index, key = given
        observation, key = env.observe(key, state, None, params), jax.random.fold_in(key, state.episode.step)
        *actions, later = (rule(observation, key) for rule in RULES)
        actions = [action.replace(postpone=jnp.float32(0.0)) for action in actions]
        return jax.tree.map(lambda *each: jnp.stack(each)[index], *actions, later)

    episode, rule = (x.ravel() for x in jnp.mgrid[:EPISODES, : len(RULES)])  # one program plays every rule
    played = play(env, params, decide, jax.tree.map(lambda x: x[episode], states), (rule, keys[episode]))
    act, host, decided = (x.reshape(EPISODES, len(RULES), *x.shape[1:]) for x in played)
    return env, params, states, act, Timetable(host, due=decided, hold=jnp.zeros_like(decided))


@pytest.fixture(scope="module")
def found(small):
    env, params, states, _, timetables = small
    return search(
        env, params, states, config=SearchConfig(population=8, generations=50), timetables=timetables, key=KEY
    )


def test_the_result_is_never_worse_than_the_start_and_mostly_better(small, found):
    _, _, _, act, _ = small
    ratio = np.asarray(found[1] / act.min(axis=1))
    assert (ratio <= 1 + 1e-4).all()  # a decision may be made a little earlier
    assert np.median(ratio) < 0.99, ratio


def test_without_generations_the_result_is_the_best_of_the_start(small):
    env, params, states, act, timetables = small
    best, best_act = search(
        env, params, states, config=SearchConfig(population=2, generations=0), timetables=timetables, key=KEY
    )
    np.testing.assert_allclose(best_act, act.min(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(best.host, timetables.host[jnp.arange(EPISODES), act.argmin(axis=1)])


def test_replaying_the_schedules_gives_the_reported_act(small, found):
    env, params, states, _, _ = small
    timetables, act = found
    replayed, hosts, _ = play(
        env, params, lambda timetable, state: follow_timetable(timetable, state, params), states, timetables
    )
    np.testing.assert_allclose(act, replayed, rtol=1e-4)
    decided = params.dags.in_degree[params.arrivals.dag[states.episode.arrivals]] >= 0
    np.testing.assert_array_equal(jnp.where(decided, hosts, 0), jnp.where(decided, timetables.host, 0))


def test_the_reported_act_never_rises(small):
    env, params, states, act, timetables = small
    reported = []
    config = SearchConfig(population=8, generations=5)
    search(env, params, states, config=config, timetables=timetables, key=KEY, report=reported.append)
    assert len(reported) == 5
    assert (np.diff([float(act.min(axis=1).mean()), *reported]) <= 1e-3).all()


def found_from_hosts(instance, hosts):
    """The least ACT found for an instance from hosts, (M, N), that are all decided at once."""
    env, params = build_instance(**instance)
    states = jax.vmap(env.reset_env, in_axes=(0, None))(KEY[None], params)[1]
    start = jnp.array(hosts, jnp.int16)[None, None]
    at_once = Timetable(start, due=jnp.zeros(start.shape), hold=jnp.zeros(start.shape))
    config = SearchConfig(population=16, generations=60)
    return float(search(env, params, states, config=config, timetables=at_once, key=KEY)[1][0])


def test_the_search_finds_a_schedule_as_good_as_the_optimal_placement_of_a_tiny_instance():
    def oracle_act(nodes):
        oracle = Oracle(TINY)
        while (current := oracle.current()) is not None:
            oracle.decide(nodes[3 * current[0] + current[1]], 1.0, 0.0)
        return oracle.act()

    acts = sorted(map(oracle_act, itertools.product(range(3), repeat=5)))
    assert acts[0] < 0.9 * oracle_act((0, 0, 0, 1, 1)), "keeping microservices at their inputs is not optimal"
    assert found_from_hosts(TINY, [[0, 0, 0], [1, 1, 0]]) <= acts[0] * (1 + 1e-5)


def test_the_search_puts_off_a_long_service_that_comes_just_before_a_short_one():
    def service(release, load):
        return {"release": release, "source": 0, "preds": [[]], "load": [load], "data": [0], "demand": [[1, 1]]}

    node = {"links": [], "node_speed": [10], "device_speed": [1], "capacity": [[1, 1]]}
    instance = node | {"services": [service(0, 1000), service(1, 100)]}
    # In order of release 100 s and 109 s; in the other order 10 s and 111 s.
    np.testing.assert_allclose(found_from_hosts(instance, [[0], [0]]), 60.5, rtol=0.01)


@pytest.mark.parametrize(("field", "value"), [("population", 1), ("generations", -1)])
def test_the_error_names_an_invalid_setting(field, value):
    with pytest.raises(ValueError, match=f"search.{field}: got {value}"):
        SearchConfig(**{field: value})
