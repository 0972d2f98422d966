"""Observations computed by hand: remaining paths, expected completion times, other services."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, STEPS, random_actions, rollout

from jaxcec.env import Action, EnvConfig, build_instance, expected_completions
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
# Nodes 0 - 1 - 2 in a line. The first service has two entries that join, with an exit after the join, and a light exit
# after the first entry.
INSTANCE = {
    "links": [(0, 1, 10), (1, 2, 5)],
    "node_speed": [10, 20, 30],
    "device_speed": [10, 2, 3],
    "capacity": [[1, 1]] * 3,
    "services": [
        {
            "release": 0,
            "source": 0,
            "preds": [[], [], [0, 1], [2], [0]],
            "load": [100, 200, 300, 600, 60],
            "data": [0, 0, 40, 80, 900],
            "demand": [[1, 1]] * 5,
        },
        {"release": 15, "source": 1, "preds": [[]], "load": [100], "data": [0], "demand": [[1, 1]]},
        {"release": 400, "source": 2, "preds": [[]], "load": [10], "data": [0], "demand": [[1, 1]]},
    ],
}
HOSTS = (3, 1, 4, 1, 2, 0, 2, 0)  # of the decisions in turn, and of one after termination; 3 and 4 are end devices
# Service, microservice and time of each decision.
DECISIONS = [(0, 0, 0), (0, 1, 0), (0, 2, 10), (0, 4, 10), (1, 0, 15), (0, 3, 162), (2, 0, 400)]
# The remaining 300 + 600 Mcycles take 90, 45 and 30 s on the nodes; each entry provides half of the 40 Mbit.
JOIN_FIRST = [
    min(90, 2 + 45, 4 + 30),  # 20 Mbit to node 1 in 2 s, to node 2 over the slower link in 4 s
    min(2 + 90, 45, 4 + 30),
    min(4 + 90, 4 + 45, 30),
]
# For the second entry, the half of the first entry is at node 0 and must move as well.
JOIN_SECOND = [min(90, 2 + 45, 4 + 30), min(2 + 90, 2 + 45, 4 + 30), min(4 + 90, 4 + 45, 4 + 30)]
# 600 Mcycles take 60, 30 and 20 s; their 80 Mbit take 8 s from 0 to 1, and 16 s from 1 to 2 and from 0 to 2.
EXIT = [min(60, 8 + 30, 16 + 20), min(8 + 60, 30, 16 + 20), min(16 + 60, 16 + 30, 20)]
AHEAD = [JOIN_FIRST, JOIN_SECOND, EXIT, *[[0, 0, 0]] * 5]
# At the mean speed of 20, the path of the second entry takes (200 + 900) / 20 = 55 s, and that of the join, ready at
# 10 s, 45 s. The join ends at 162 s, and 30 s remain.
EXPECTED_AT = [55, 55, 10 + 45, 162 + 30, 5, 162 + 30, 0.5]  # since the release; the light exit never matters
EXPECTED = [55, 55, 55 - 10, 192 - 10, 5, 192 - 162, 0.5, 0]  # since now
OTHERS = [0, 0, 0, 0, 1, 0, 0, 0]


@pytest.fixture(scope="module")
def episode():
    """Observation before each decision, and its record."""
    config = EnvConfig(num_nodes=3, max_links=3, num_services=3, max_microservices=6, reward="expected-act")
    env, params = build_instance(**INSTANCE, config=config)
    _, state = env.reset(KEY, params)
    hosts = jnp.array(HOSTS, jnp.int32)
    seen, info, _ = rollout(env, params, state, Action(hosts, jnp.ones(len(HOSTS)), jnp.zeros(len(HOSTS))))
    decided = zip(*(np.asarray(info[name])[:-1] for name in ("service", "microservice", "time")), strict=True)
    assert list(decided) == DECISIONS
    return seen, info


def test_path_ahead_is_the_best_way_to_run_the_remaining_path(episode):
    seen, _ = episode
    np.testing.assert_allclose(seen.nodes.ahead, np.array(AHEAD), rtol=1e-6)


def test_expected_completion_is_the_longest_remaining_path_at_the_mean_speed(episode):
    seen, _ = episode
    np.testing.assert_allclose(seen.service.expected, EXPECTED, rtol=1e-6)


def test_others_counts_the_undecided_services_in_the_system(episode):
    seen, _ = episode
    np.testing.assert_array_equal(seen.service.others, OTHERS)


def test_the_reward_is_minus_the_increase_of_the_expected_completion_time(episode):
    _, info = episode
    # The join changes 55 s to 192 s; the exit starts 8 s later, after 80 Mbit at 10 Mbit/s, and runs 30 s longer.
    rewards = [0, 0, 55 - 192, 0, 5 - 100 / 30, 192 - 230, 0.5 - 10 / 30, 0]
    np.testing.assert_allclose(info["reward"], rewards, rtol=1e-5, atol=1e-4)


def test_rewards_sum_to_the_act_and_others_are_counted_in_random_episodes():
    env, params = make_env(dataclasses.replace(SMALL, reward="expected-act"), "train")
    keys = jax.random.split(KEY, 4)
    _, states = jax.vmap(env.reset_env, in_axes=(0, None))(keys, params)
    actions = random_actions(env, KEY, (4, STEPS))
    seen, info, after = jax.vmap(rollout, in_axes=(None, None, 0, 0))(env, params, states, actions)

    at_first = jax.vmap(expected_completions, in_axes=(0, None))(states, params).sum(axis=1)
    act = info["act"].sum(axis=1)
    np.testing.assert_allclose(info["reward"].sum(axis=1), at_first - SMALL.num_services * act, rtol=1e-4)

    release = np.asarray(states.episode.next_ready)[:, None]
    undecided = np.concatenate([release, after.next_ready[:, :-1]], axis=1) < np.inf
    present = (release <= np.asarray(info["time"])[..., None]) & undecided
    np.testing.assert_array_equal(seen.service.others, np.maximum(present.sum(axis=-1) - 1, 0))
    assert seen.service.others.max() > 1


def test_a_link_below_one_mbit_per_second_is_not_padding():
    service = {"release": 0.0, "source": 0, "preds": [[], []], "load": [1.0, 1.0], "data": [3.0, 3.0]}
    env, params = build_instance(
        links=[(0, 1, 0.5)],
        node_speed=[1.0, 1.0],
        device_speed=[1.0, 1.0],
        capacity=[[1.0], [1.0]],
        services=[service | {"demand": [[1.0], [1.0]]}],
    )
    params = params.replace(background=params.background.replace(load=jnp.full((1, 1), 0.25)))
    _, state = env.reset(KEY, params)
    seen, *_ = env.step_env(KEY, state, Action(jnp.int32(1), jnp.float32(1.0), jnp.float32(0.0)), params)
    # 3 Mbit at the offered 0.375 Mbit/s take 8 s and three quarters of the link.
    assert (seen.links.bandwidth, seen.links.load) == (0.5, 0.25)
    np.testing.assert_allclose(seen.links.backlog, [6.0], rtol=1e-6)
    np.testing.assert_allclose(seen.links.free, [0.125], rtol=1e-6)
    np.testing.assert_allclose(seen.nodes.traffic, [0.0, 8.0], rtol=1e-6)  # s of the link, for the second entry


def test_others_excludes_the_current_service_for_any_rounding_of_its_release():
    """If release times are computed in the program that reads them, two readers may round them differently."""
    env, params = make_env(SMALL, "train")

    @jax.jit
    @jax.vmap
    def service_at_first(gaps):
        release = jnp.broadcast_to(jnp.cumsum(200.0 * gaps) - 200.0 * gaps[0], params.arrivals.release.shape)
        params_then = params.replace(arrivals=params.arrivals.replace(release=release), arrival_rate=jnp.float32(1.0))
        return env.reset_env(KEY, params_then)[0].service

    gaps = jax.random.uniform(KEY, (64, SMALL.num_services), minval=0.1)
    seen = service_at_first(gaps)
    np.testing.assert_array_equal(seen.others, 0)
    assert np.all(seen.age >= 0.0)


def test_what_is_committed_to_nodes_and_paths():
    """At 1 s the link carries an input of 10 s until 10 s, and node 1 then runs it for 4 s; both are fully used."""
    service = {"release": 0, "source": 0, "preds": [[]], "load": [80], "data": [50], "demand": [[1]]}
    env, params = build_instance(
        links=[(0, 1, 5)],
        node_speed=[10, 20],
        device_speed=[1, 1],
        capacity=[[2], [1]],
        services=[service, service | {"release": 1}],
    )
    _, state = env.reset_env(KEY, params)
    there = Action(host=jnp.int32(1), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))
    seen, *_ = env.step_env(KEY, state, there, params)
    expected = {
        "share": [[0.5], [1.0]],
        "backlog": [0.0, 13.0],
        "committed": [0.0, 4.0],
        "at_offered": [0.0, 10.0],
        "at_free": [0.0, 1000.0],  # a link that is not free at all counts as free to 1 %
        "path_links": [0.0, 1.0],
        "path_load": [0.0, 0.0],
        "path_busy": [0.0, 9.0],
        "path_committed": [0.0, 9.0],
        "path_committed_total": [0.0, 9.0],
        "path_contended": [0.0, 19.0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(seen.nodes, name), values, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(seen.links.busy[0], 9.0, rtol=1e-5)
