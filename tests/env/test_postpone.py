"""Decisions that are put off, and holds with nothing to move."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, rollout

from jaxcec.env import Action, build_instance, known_world
from jaxcec.env.dag import current_decision
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
STEPS = 80

# A long service, and a short one a second later, at the one node of a network.
ONE_NODE = {
    "links": [],
    "node_speed": [1],
    "device_speed": [0.125],
    "capacity": [[1, 1]],
    "services": [
        {"release": 0, "source": 0, "preds": [[]], "load": [8], "data": [64], "demand": [[1, 1]]},
        {"release": 1, "source": 0, "preds": [[]], "load": [1], "data": [64], "demand": [[1, 1]]},
    ],
}


def action(host=0, *, hold=0.0, postpone=None):
    return Action(
        jnp.int32(host), jnp.float32(1.0), jnp.float32(hold), None if postpone is None else jnp.float32(postpone)
    )


def play(actions, instance=ONE_NODE, **changes):
    """Reward and info of each step."""
    env, params = build_instance(**instance)
    env = type(env)(dataclasses.replace(env.config, **changes))
    _, state = env.reset(KEY, params)
    taken = []
    for each in actions:
        _, state, reward, terminated, info = env.step_env(KEY, state, each, params)
        taken.append((float(reward), {name: value.item() for name, value in info.items()}))
    assert terminated
    return taken


def test_a_postponed_decision_comes_after_those_that_are_due_before():
    (_, first), (_, second), (_, third) = play([action(postpone=1.5), action(), action()])
    assert (first["postponed"], first["decided"], first["finish"]) == (True, False, 1.5)
    assert (second["service"], second["time"], second["finish"]) == (1, 1, 2)
    assert (third["service"], third["time"], third["start"], third["act"]) == (0, 1.5, 2, (10 + 1) / 2)


def test_a_hold_is_honoured_with_nothing_to_move():
    (_, first), (_, second) = play([action(hold=2.0), action()])
    assert (first["data_ready"], first["start"], first["finish"]) == (2, 2, 10)
    assert (second["start"], second["finish"], second["act"]) == (1, 2, (10 + 1) / 2)


@pytest.mark.parametrize("postpone, due", [(1e-9, 1e-3), (0.5, 0.5)])
def test_there_is_a_least_postponement(postpone, due):
    (_, first), *_ = play([action(postpone=postpone), action(), action()])
    assert first["finish"] == pytest.approx(due, rel=1e-6)


def test_a_postponement_moves_the_clock_however_late_it_is():
    late = [service | {"release": 3e6} for service in ONE_NODE["services"]]
    taken = play([action(postpone=1e-3)] * 3 + [action(), action()], ONE_NODE | {"services": late})
    times = [info["time"] for _, info in taken]
    assert times[0] == times[1] < times[2], "both services are put off, each to a later time"


@pytest.mark.parametrize("reward", ["act", "expected-act", "ready-to-finish"])
def test_the_rewards_of_postponing_and_booking_add_up(reward):
    """With the same schedule, the sum is that of a hold, which books at once."""
    put_off = play([action(postpone=1.5), action(), action()], reward=reward)
    held = play([action(hold=2.0), action()], reward=reward)
    assert put_off[-1][1]["act"] == held[-1][1]["act"]
    assert sum(r for r, _ in put_off) == pytest.approx(sum(r for r, _ in held), rel=1e-6)
    if reward == "act":
        assert put_off[0][0] == 0.0


def test_ties_of_a_service_go_to_the_largest_upward_rank():
    service = {
        "release": 0,
        "source": 0,
        "preds": [[], [], [1]],
        "load": [1, 1, 5],
        "data": [0] * 3,
        "demand": [[0, 0]] * 3,
    }
    order = {}
    for ties in ("index", "rank"):
        taken = play([action()] * 3, ONE_NODE | {"services": [service], "ties": ties})
        order[ties] = [info["microservice"] for _, info in taken]
    assert order == {"index": [0, 1, 2], "rank": [1, 0, 2]}


@pytest.fixture(scope="module")
def episode():
    """Env, params, states before each step and its info, in an episode where every other decision is put off."""
    env, params = make_env(SMALL, "train")
    rng = np.random.default_rng(0)
    postpone = np.where(np.arange(STEPS) % 2, 0.0, rng.uniform(0.0, 20.0, STEPS))
    actions = Action(
        host=jnp.asarray(rng.integers(0, env.num_actions, STEPS), jnp.int32),
        bandwidth=jnp.ones(STEPS),
        hold=jnp.zeros(STEPS),
        postpone=jnp.asarray(postpone, jnp.float32),
    )
    _, state = env.reset(KEY, params)
    seen, info, _ = rollout(env, params, state, actions)
    return env, params, state, actions, jax.tree.map(np.asarray, (seen, info))


def test_time_never_goes_back_and_nothing_is_booked_by_a_postponement(episode):
    *_, (seen, info) = episode
    active = info["decided"] | info["postponed"]
    assert info["postponed"].sum() > 10 and info["terminated"][-1]
    assert not (info["decided"] & info["postponed"]).any()
    assert (np.diff(info["time"][active]) >= 0).all()
    for before in np.flatnonzero(info["postponed"][:-1]):
        backlog = seen.nodes.backlog[before : before + 2] + info["time"][before : before + 2, None]
        later = backlog[1] > info["time"][before + 1]
        assert (backlog[1][later] <= backlog[0][later] * (1 + 1e-6)).all()


def test_a_step_that_postpones_counts_for_the_time_limit(episode):
    env, params, *_ = episode
    limited = params.replace(max_steps_in_episode=jnp.int32(5))
    _, state = env.reset(KEY, limited)
    for count in range(5):
        _, state, _, terminated, truncated, _ = env.step(KEY, state, action(postpone=1.0), limited)
        assert not terminated and truncated == (count == 4)


def test_a_service_whose_first_decision_was_postponed_is_known():
    env, params = build_instance(**ONE_NODE)
    _, state = env.reset(KEY, params)
    state = env.step_env(KEY, state, action(postpone=5.0), params)[1]
    world = known_world(state, params)
    assert np.isfinite(world.state.episode.next_ready).all(), "both services are released by now"
    decision = current_decision(world.state, world.params)
    assert (int(decision.service), float(decision.time), float(decision.work)) == (1, 1.0, 1.0)
    seen = env.observe(KEY, world.state, None, world.params)
    assert (float(seen.service.others), float(seen.service.shorter)) == (1, 0)
    for _ in range(2):
        _, world_state, _, terminated, info = env.step_env(KEY, world.state, action(), world.params)
        world = world.replace(state=world_state)
    assert terminated and float(info["act"]) == (13 + 1) / 2
