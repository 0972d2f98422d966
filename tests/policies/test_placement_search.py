"""The search over whole placements: never worse than its start, with the true ACT, optimal on a tiny instance."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL
from helpers.oracle import Oracle

from jaxcec.env import any_undecided, build_instance
from jaxcec.policies import SearchConfig, earliest_finish, follow_placement, local_node, random_node, search
from jaxcec.scenarios.scenario import make_env

KEY = jax.random.key(0)
EPISODES = 4
RULES = (random_node, local_node, earliest_finish)
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
    """ACT (B,) and placements (B, M, N) of whole episodes under `decide(given, state)`."""

    def step(states):
        actions = jax.vmap(decide)(given, states)
        return jax.vmap(env.step_env, in_axes=(None, 0, 0, None))(KEY, states, actions, params)[1]

    after = jax.lax.while_loop(any_undecided, step, states)
    return after.episode.completion.mean(axis=1), after.host


@pytest.fixture(scope="module")
def small():
    """Environment, params, initial states (B,), and ACT (B, P0) and placements (B, P0, M, N) of each rule."""
    env, params = make_env(SMALL, "train")
    keys = jax.random.split(KEY, EPISODES)
    states = jax.vmap(env.reset_env, in_axes=(0, None))(keys, params)[1]

    def decide(rule, key, state):
        return rule(env.observe(key, state, None, params), jax.random.fold_in(key, state.episode.step))

    played = [play(env, params, partial(decide, rule), states, keys) for rule in RULES]
    act, placements = (jnp.stack(parts, axis=1) for parts in zip(*played, strict=True))
    return env, params, states, act, placements


@pytest.fixture(scope="module")
def found(small):
    env, params, states, _, placements = small
    return search(
        env, params, states, config=SearchConfig(population=8, generations=50), placements=placements, key=KEY
    )


def test_the_result_is_never_worse_than_the_start_and_mostly_better(small, found):
    _, _, _, act, _ = small
    ratio = np.asarray(found[1] / act.min(axis=1))
    assert (ratio <= 1 + 1e-6).all()  # the compiler may round the two programs differently
    assert np.median(ratio) < 0.99, ratio


def test_without_generations_the_result_is_the_best_of_the_start(small):
    env, params, states, act, placements = small
    best, best_act = search(
        env, params, states, config=SearchConfig(population=2, generations=0), placements=placements, key=KEY
    )
    np.testing.assert_allclose(best_act, act.min(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(best, placements[jnp.arange(EPISODES), act.argmin(axis=1)])


def test_replaying_the_placements_gives_the_reported_act(small, found):
    env, params, states, _, _ = small
    placements, act = found
    replayed, hosts = play(
        env, params, lambda placement, state: follow_placement(placement, state, params), *(states, placements)
    )
    np.testing.assert_allclose(act, replayed, rtol=1e-6)
    decided = params.dags.in_degree[params.arrivals.dag[states.episode.arrivals]] >= 0
    np.testing.assert_array_equal(jnp.where(decided, hosts, 0), jnp.where(decided, placements, 0))


def test_the_reported_act_never_rises(small):
    env, params, states, act, placements = small
    reported = []
    config = SearchConfig(population=8, generations=5)
    search(env, params, states, config=config, placements=placements, key=KEY, report=reported.append)
    assert len(reported) == 5
    assert (np.diff([float(act.min(axis=1).mean()), *reported]) <= 1e-3).all()


def test_the_search_finds_the_optimal_placement_of_a_tiny_instance():
    def oracle_act(nodes):
        oracle = Oracle(TINY)
        while (current := oracle.current()) is not None:
            oracle.decide(nodes[3 * current[0] + current[1]], 1.0, 0.0)
        return oracle.act()

    acts = sorted(map(oracle_act, itertools.product(range(3), repeat=5)))
    assert acts[0] < 0.9 * oracle_act((0, 0, 0, 1, 1)), "keeping microservices at their inputs is not optimal"
    env, params = build_instance(**TINY)
    states = jax.vmap(env.reset_env, in_axes=(0, None))(KEY[None], params)[1]
    start = jnp.array([[0, 0, 0], [1, 1, 0]], jnp.int16)[None, None]
    config = SearchConfig(population=16, generations=40)
    _, act = search(env, params, states, config=config, placements=start, key=KEY)
    np.testing.assert_allclose(act, acts[:1], rtol=1e-5)


@pytest.mark.parametrize(("field", "value"), [("population", 1), ("generations", -1)])
def test_the_error_names_an_invalid_setting(field, value):
    with pytest.raises(ValueError, match=f"search.{field}: got {value}"):
        SearchConfig(**{field: value})
