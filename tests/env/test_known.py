"""The known world: exact in everything that is known, and without anything that is not."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, STEPS, changed_later, equal, random_actions

from jaxcec.env import HISTORY, background, known_world, with_forecast
from jaxcec.env.dag import current_decision
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
EPISODES = 4


@pytest.fixture(scope="module")
def setting():
    """Environment, params, and all states of some random episodes with the actions taken, (EPISODES * STEPS,)."""
    env, params = make_env(dataclasses.replace(SMALL, num_frames=256), "train")
    actions = random_actions(env, KEY, (EPISODES, STEPS))

    @jax.jit
    @jax.vmap
    def play(key, actions):
        def step(state, action):
            return env.step_env(key, state, action, params)[1], state

        return jax.lax.scan(step, env.reset_env(key, params)[1], actions)[1]

    states = play(jax.random.split(KEY, EPISODES), actions)
    states, actions = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (states, actions))
    decided = ~np.asarray(jax.vmap(env.is_terminated)(states))
    return env, params, *jax.tree.map(lambda x: x[decided], (states, actions))


def test_the_current_decision_is_that_of_the_true_environment(setting):
    env, params, states, actions = setting

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None))
    def both(state, action, params):  # as an argument: XLA would round divisions by a constant in another way
        world = known_world(state, params)
        true, known = (
            (env.observe(KEY, s, None, p), env.step_env(KEY, s, action, p)[4])
            for s, p in ((state, params), (world.state, world.params))
        )
        # An episode may end in the known world while further services will arrive in the true one.
        return tuple((seen, info | {"act": jnp.float32(0)}) for seen, info in (true, known))

    true, known = both(states, actions, params)
    assert equal(true, known)


def test_the_current_decision_does_not_depend_on_the_rounding_of_release_times():
    """Two programs may round a release time differently; here only the last service is left."""
    env, params = make_env(dataclasses.replace(SMALL, num_patterns=64), "train")
    reset = jax.jit(jax.vmap(env.reset_env, in_axes=(0, None)))

    @jax.jit
    def kept(states, params):
        def same_decision(state):
            alone = state.episode.next_ready.at[:-1].set(jnp.inf)
            state = state.replace(episode=state.episode.replace(next_ready=alone))
            world = known_world(state, params)
            true, known = current_decision(state, params), current_decision(world.state, world.params)
            return true.active & known.active & (true.service == known.service)

        return jax.vmap(same_decision)(states)

    for rate in np.geomspace(0.01, 1.0, 12, dtype=np.float32):
        scaled = params.replace(arrival_rate=jnp.asarray(rate))
        assert kept(reset(jax.random.split(KEY, 64), scaled)[1], scaled).all(), rate


def test_the_world_has_all_work_of_the_released_services_and_no_other(setting):
    env, params, states, _ = setting

    @jax.jit
    @jax.vmap
    def play(state):
        world = known_world(state, params)
        action = jax.tree.map(jnp.asarray, random_actions(env, KEY))
        after = jax.lax.fori_loop(0, STEPS, lambda _, s: env.step_env(KEY, s, action, world.params)[1], world.state)
        row = params.arrivals.dag[state.episode.arrivals]
        released = params.arrivals.release[state.episode.arrivals] / params.arrival_rate
        undecided = jnp.where(after.episode.begun, jnp.sum(after.pending >= 0, axis=1), params.dags.size[row])
        size = params.dags.size[row]
        return size - undecided, size, released <= jnp.min(state.episode.next_ready)

    decided, size, released = play(states)
    assert (~released).any() and released.any(axis=1).all()
    np.testing.assert_array_equal(decided, np.where(released, size, 0))


def test_the_history_is_the_load_of_the_frames_up_to_now(setting):
    _, params, states, _ = setting

    @jax.jit
    @jax.vmap
    def both(state):
        now = current_decision(state, params).time
        times = now - params.background.frame * jnp.arange(HISTORY - 1, -1, -1, dtype=jnp.float32)
        loads = jax.vmap(lambda time: background.load_at(params.background, state.episode.offset, time))(times)
        return known_world(state, params).history, loads.T

    history, loads = both(states)
    np.testing.assert_array_equal(history, loads)


def test_the_world_does_not_depend_on_the_future(setting):
    _, params, states, _ = setting

    @jax.jit
    @jax.vmap
    def worlds(state):
        changed, other, later = changed_later(state, params)
        return known_world(state, params), known_world(changed, other), later

    true, other, later = worlds(states)
    assert np.asarray(later).any()
    assert equal(true, other)


@partial(jax.jit, static_argnums=2)
def loads(world, times, frames):
    load = jnp.linspace(0.0, 0.9, world.state.episode.offset.size * frames).reshape(-1, frames)
    now = jnp.min(world.state.episode.next_ready)
    forecast = with_forecast(world, load)
    instants = jnp.floor(now / SMALL.frame) * SMALL.frame + times
    read = jax.vmap(lambda t: background.load_at(forecast.params.background, forecast.state.episode.offset, t))
    return load, read(instants)


def test_a_forecast_is_read_from_the_current_frame_on(setting):
    _, params, states, _ = setting
    frames = 5
    for index in (0, 7, 20):
        world = known_world(jax.tree.map(lambda x: x[index], states), params)  # noqa: B023 (called at once)
        load, read = loads(world, SMALL.frame * (0.5 + jnp.arange(frames + 1, dtype=jnp.float32)), frames)
        np.testing.assert_array_equal(read, load.T[np.arange(frames + 1) % frames])
