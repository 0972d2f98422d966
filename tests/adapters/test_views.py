"""Flat views: CECEnv's steps with another observation, reward scale and action."""

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import equal

import jaxcec
from jaxcec.adapters import ContinuousView, DiscreteView
from jaxcec.env import Action, CECEnv, flatten

ENVS, STEPS = 6, 40
LONG = jax.random.key(3)  # draws an episode of 14 decisions
THIRD_PARTY = ["gymnax", "rejax", "brax", "gymnasium", "stable_baselines3", "torch", "envelope"]


def play(env, decide):
    """Random steps of ENVS environments: first observation, and all values that `step` returned, (STEPS, ENVS)."""
    keys = jax.random.split(jax.random.key(0), (STEPS, ENVS))
    seen, state = jax.vmap(env.reset)(keys[0])

    def step(state, keys):
        returned = jax.vmap(lambda key, state: env.step(key, state, decide(key)))(keys, state)
        return returned[1], returned

    return seen, jax.lax.scan(step, state, keys)[1]


@pytest.fixture(scope="module")
def played(view):
    """Episodes of the view under random actions, some of them truncated."""
    return play(view, view.action_space().sample)


def test_a_step_of_a_view_equals_the_environment_s(view, played):
    first, (seen, state, reward, terminated, truncated, info) = played
    expected_first, expected = play(view.env, lambda key: view.decision(view.action_space().sample(key)))
    assert equal((state, terminated, truncated), (expected[1], *expected[3:5]))
    encode = jax.jit(jax.vmap(lambda observation: jnp.log1p(flatten(observation))))
    assert equal(first, encode(expected_first), rtol=1e-6)
    assert equal(seen, jax.vmap(encode)(expected[0]), rtol=1e-6)
    assert equal(reward, 0.01 * expected[2])
    assert equal(info["final_observation"], jax.vmap(encode)(expected[5]["final_observation"]), rtol=1e-6)
    assert all(equal(info[name], expected[5][name]) for name in expected[5] if name != "final_observation")


def test_episodes_terminate_or_truncate_and_never_both(played):
    _, (seen, state, _, terminated, truncated, info) = played
    ended = terminated | truncated
    assert terminated.any() and truncated.any() and not (terminated & truncated).any()
    assert ((state.episode.step == 0) == ended).all()
    # The final observation belongs to the old episode, the current one to the new episode.
    assert ((info["final_observation"] != seen).any(axis=-1) == ended).all()


def test_raw_steps_have_neither_time_limit_nor_auto_reset(small):
    view, params = DiscreteView(small), small.default_params
    limit = params.max_steps_in_episode
    keys = jax.random.split(LONG, int(limit) + 1)
    seen, state = view.reset_env(LONG, params)
    for key in keys:
        before, action = state, view.action_space().sample(key)
        seen, state, reward, terminated, info = view.step_env(key, state, action, params)
        _, *expected = small.step_env(key, before, view.decision(action), params)
        assert equal((state, terminated, info), (expected[0], *expected[2:]))
        assert equal(reward, 0.01 * expected[1], rtol=1e-6) and equal(seen, view.observe(key, state), rtol=1e-6)
    assert state.episode.step == limit + 1 and view.is_truncated(state, params)
    assert not terminated and not view.is_terminated(state)


def test_spaces_fit(view):
    seen, _ = view.reset(jax.random.key(0))
    space = view.observation_space()
    assert seen.shape == space.shape and seen.dtype == space.dtype and space.contains(seen)
    assert space.contains(jnp.log1p(jnp.full(space.shape, jnp.finfo(jnp.float32).max)))
    actions = jax.vmap(view.action_space().sample)(jax.random.split(jax.random.key(0), 64))
    decisions = jax.vmap(view.decision)(actions)
    assert set(np.asarray(decisions.host)) == set(range(view.env.config.num_nodes))
    assert jax.vmap(view.env.action_space().contains)(decisions).all()


def test_a_discrete_action_is_an_edge_node(small):
    view = DiscreteView(small, bandwidth=0.5, hold=2.0)
    assert view.num_actions == 4 and view.action_space().n == 4
    for action, node in [(0, 0), (3, 3), (7, 3), (-1, 0)]:
        assert equal(view.decision(jnp.int32(action)), Action(jnp.int32(node), jnp.float32(0.5), jnp.float32(2.0)))


def test_a_continuous_action_reaches_the_bounds_of_every_entry(small):
    view = ContinuousView(small, max_hold=7.0)
    assert view.num_actions == 6

    def decided(*action):
        return [float(x) for x in jax.tree.leaves(view.decision(jnp.array(action, jnp.float32)))]

    least = float(np.float32(1e-3))
    assert decided(1, 0, 0, 0, -1, -1) == [0, least, 0]
    assert decided(0, 0, 0, 1, 1, 1) == [3, 1, 7]
    assert decided(-1, -1, -0.5, -1, -9, 9) == [2, least, 7]
    assert decided(0, 0, 0, 0, 0, 0) == [0, float(np.float32(0.5005)), 3.5]


def test_a_view_postpones_if_the_environment_s_actions_do(small):
    env = CECEnv(dataclasses.replace(small.config, postpone=True))
    discrete, continuous = DiscreteView(env, postpone=3.0), ContinuousView(env, max_postpone=20.0)
    assert (discrete.num_actions, continuous.num_actions) == (5, 7)
    assert [float(discrete.decision(jnp.int32(action)).postpone) for action in (3, 4, 9)] == [0, 3, 3]

    def postponed(share):
        return float(continuous.decision(jnp.array([0, 0, 1, 0, 1, -1, share], jnp.float32)).postpone)

    assert [max(postponed(share), 0.0) for share in (-1.0, 0.0, 0.5, 1.0)] == [0, 0, 10, 20]
    assert env.action_space().contains(env.action_space().sample(jax.random.key(0)))


def test_equal_views_share_one_compilation(small):
    traces = []

    class Counted(CECEnv):
        def _decide(self, *args):
            traces.append(None)
            return super()._decide(*args)

    for _ in range(2):
        view = DiscreteView(Counted(small.config, small.default_params), hold=1.0)
        _, state = view.reset(jax.random.key(0))
        view.step(jax.random.key(0), state, jnp.int32(0))
    assert len(traces) == 1
    view, same = DiscreteView(small, hold=1.0), DiscreteView(CECEnv(small.config), hold=1.0)
    assert view == same and hash(view) == hash(same)
    assert view != DiscreteView(small) and view != ContinuousView(small)
    assert copy.deepcopy(view) == view


@pytest.mark.parametrize(
    ("view", "setting", "message"),
    [
        (DiscreteView, {"bandwidth": 0.0}, r"bandwidth: got 0.0; must be in \[0.001, 1\]"),
        (DiscreteView, {"hold": -1.0}, "hold: got -1.0; must be at least 0 s and finite"),
        (ContinuousView, {"max_hold": float("inf")}, "max_hold: got inf; must be at least 0 s and finite"),
        (ContinuousView, {"reward_scale": 0.0}, "reward_scale: got 0.0; must be positive and finite"),
    ],
)
def test_an_invalid_setting_is_rejected(small, view, setting, message):
    with pytest.raises(ValueError, match=message):
        view(small, **setting)


def test_a_view_has_the_whole_interface_of_the_environment(view):
    offered = {name for name in dir(CECEnv) if not name.startswith("_")}
    assert not offered - set(dir(view)) - {"config", "step_as_foreseen"}, "the last is of planners, which use no view"


def test_neither_simulator_nor_views_import_another_library():
    code = f"import sys, jaxcec.adapters; print(*[name for name in {THIRD_PARTY} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(jaxcec.__file__).parents[1]
    )
    assert loaded.stdout.split() == []
