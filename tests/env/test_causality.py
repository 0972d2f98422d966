"""Causality: a change of the future must not change any bit of an earlier observation or decision.

Background traces are cyclic and shared between environments. Here every link and host has a separate trace, read from
its first frame, and no episode is as long as a trace, so that 'later' is one region of the bank.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, STEPS, equal, rollout

from jaxcec.env import Action
from jaxcec.scenarios import make_env

SETTING = dataclasses.replace(SMALL, num_traces=14, num_frames=512)  # one trace per resource: 6 links, 8 hosts
EPISODES = 3
WORLDS = STEPS + 1  # simulated in one batch; world 0 is as drawn, the others are changed


@pytest.fixture(scope="module")
def setting():
    """Environment, params, and random actions: any host, a large share of the bandwidth, short holds, some put off."""
    env, params = make_env(SETTING, "train")
    assert params.background.load.shape[0] == env.config.max_links + env.config.num_hosts
    rng = np.random.default_rng(0)
    shape = (EPISODES, STEPS)
    actions = Action(
        host=jnp.asarray(rng.integers(0, env.num_actions, shape), jnp.int32),
        bandwidth=jnp.asarray(rng.uniform(0.3, 1.0, shape), jnp.float32),
        hold=jnp.asarray(rng.uniform(0.0, 5.0, shape), jnp.float32),
        postpone=jnp.asarray(np.where(rng.random(shape) < 0.2, rng.uniform(0.0, 20.0, shape), 0.0), jnp.float32),
    )
    return env, params, actions


@partial(jax.jit, static_argnums=0)
def simulate(env, params, load, arrivals, actions, episode):
    """Roll out one episode in several worlds that differ in background load or in arrivals.

    Args:
        load: (worlds, B, F).
        arrivals: leaves (worlds, A, M).
        episode: () i32, index of the episode.

    Returns:
        Observations and records of the decisions, (worlds, steps) each.
    """

    def one(load, arrivals):
        world = params.replace(background=params.background.replace(load=load), arrivals=arrivals)
        _, state = env.reset(jax.random.key(episode), world)
        offset = jnp.arange(load.shape[0], dtype=jnp.int32) * load.shape[1]
        state = state.replace(episode=state.episode.replace(offset=offset))
        return rollout(env, world, state, jax.tree.map(lambda x: x[episode], actions))[:2]

    return jax.vmap(one)(load, arrivals)


def simulate_worlds(setting, episode, load=None, arrivals=None):
    """`simulate` in WORLDS worlds; load or arrivals that are not given are equal in all of them."""
    env, params, actions = setting

    def same(x):
        return np.broadcast_to(x, (WORLDS, *x.shape))

    load = same(params.background.load) if load is None else load
    arrivals = jax.tree.map(same, params.arrivals) if arrivals is None else arrivals
    seen, records = simulate(env, params, load, arrivals, actions, jnp.int32(episode))
    makespan = float(records["finish"].max(initial=0.0, where=records["decided"]))
    assert makespan < SETTING.num_frames * SETTING.frame, "a trace would wrap around"
    return jax.tree.map(np.asarray, (seen, records))


def steps_that_differ(tree, world):
    """(steps,) bool: the steps of a world that are not bit for bit those of world 0."""
    return ~equal(*(jax.tree.map(lambda x: x[w], tree) for w in (0, world)), axes=1)  # noqa: B023 (called at once)


@pytest.mark.parametrize("episode", range(EPISODES))
def test_background_load_after_a_decision_is_not_observed(setting, episode):
    """World d > 0 differs from world 0 in every frame after that of decision d - 1."""
    _, params, _ = setting
    _, records = simulate_worlds(setting, episode)
    frame_of = np.floor(records["time"][0] / SETTING.frame).astype(int)
    decisions = int((records["decided"] | records["postponed"])[0].sum())
    load = np.repeat(np.asarray(params.background.load)[None], WORLDS, axis=0)
    for d in range(STEPS):
        load[d + 1, :, frame_of[d] + 1 :] = 0.9 - load[d + 1, :, frame_of[d] + 1 :]
    seen, records = simulate_worlds(setting, episode, load=load)
    later_differs = 0
    for d in range(decisions):
        assert not steps_that_differ((seen, records), d + 1)[: d + 1].any(), d
        later_differs += steps_that_differ((seen, records), d + 1)[d + 1 :].any()
    assert later_differs > decisions / 2, "the change is observed later"


@pytest.mark.parametrize("episode", range(EPISODES))
def test_background_load_at_a_decision_is_observed(setting, episode):
    """World d > 0 differs from world 0 only in the frame of decision d - 1."""
    _, params, _ = setting
    _, records = simulate_worlds(setting, episode)
    frame_of = np.floor(records["time"][0] / SETTING.frame).astype(int)
    load = np.repeat(np.asarray(params.background.load)[None], WORLDS, axis=0)
    for d in range(STEPS):
        load[d + 1, :, frame_of[d]] = 0.9 - load[d + 1, :, frame_of[d]]
    seen, records = simulate_worlds(setting, episode, load=load)
    decided, put_off = records["decided"][0], records["postponed"][0]
    for d in np.flatnonzero(decided | put_off):
        assert steps_that_differ(seen, d + 1)[d], d
        assert steps_that_differ(records, d + 1)[d] or put_off[d], d
    assert put_off.any()


def changed_from(arrivals, first):
    """Arrivals with a different DAG (load, data, demand, predecessors) and source for all services from `first` on."""
    later = np.arange(SETTING.num_services) >= first
    return arrivals.replace(
        dag=np.where(later, (arrivals.dag + SETTING.num_dags // 2) % SETTING.num_dags, arrivals.dag),
        source=np.where(later, (arrivals.source + 1) % SETTING.num_nodes, arrivals.source),
    )


@pytest.mark.parametrize("episode", range(EPISODES))
def test_services_are_not_observed_before_their_release(setting, episode):
    """World w > 0 differs from world 0 in all services except the first w."""
    _, params, _ = setting
    count = SETTING.num_services
    worlds = [changed_from(params.arrivals, w if 0 < w < count else count) for w in range(WORLDS)]
    arrivals = jax.tree.map(lambda *x: np.stack(x), *worlds)
    seen, records = simulate_worlds(setting, episode, arrivals=arrivals)
    time, service = records["time"][0], records["service"][0]
    for world in range(1, count):
        release = time[service == world][0]  # release of the first service that differs
        differ = steps_that_differ((seen, records), world)
        assert (time < release).any()
        assert not differ[time < release].any(), world
        assert differ[np.argmax(service == world)], "it is observed at its release"
