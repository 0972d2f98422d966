"""Nobody sees the future: what lies after an instant is changed, and what was seen up to it must not change at all.

Background traces are read cyclically, and environments share them. Here every link and host has a trace of its own,
read from its first frame, and no episode is as long as a trace: so 'later' is one region of the bank.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, STEPS, equal, rollout

from jaxcec.env import Action
from jaxcec.scenarios.scenario import make_env

SETTING = dataclasses.replace(SMALL, num_traces=14, num_frames=512)  # a trace per resource: 6 links, 8 hosts
EPISODES = 3
WORLDS = STEPS + 1  # simulated side by side; world 0 is as drawn, the others are changed


@pytest.fixture(scope="module")
def setting():
    """The environment, its params, and actions: any host, a large share of the bandwidth, a short hold."""
    env, params = make_env(SETTING, "train")
    assert params.background.load.shape[0] == env.config.max_links + env.config.num_hosts
    rng = np.random.default_rng(0)
    shape = (EPISODES, STEPS)
    actions = Action(
        host=jnp.asarray(rng.integers(0, env.num_actions, shape), jnp.int32),
        bandwidth=jnp.asarray(rng.uniform(0.3, 1.0, shape), jnp.float32),
        hold=jnp.asarray(rng.uniform(0.0, 5.0, shape), jnp.float32),
    )
    return env, params, actions


@partial(jax.jit, static_argnums=0)
def simulate(env, params, load, arrivals, actions, episode):
    """Rollouts of one episode in several worlds, which differ in background load or in arrivals.

    Args:
        load: (worlds, B, F).
        arrivals: leaves (worlds, A, M).
        episode: () i32, which one.

    Returns:
        Observations, and records of decisions, (worlds, steps) each.
    """

    def one(load, arrivals):
        world = params.replace(background=params.background.replace(load=load), arrivals=arrivals)
        _, state = env.reset(jax.random.key(episode), world)
        offset = jnp.arange(load.shape[0], dtype=jnp.int32) * load.shape[1]
        state = state.replace(episode=state.episode.replace(offset=offset))
        return rollout(env, world, state, jax.tree.map(lambda x: x[episode], actions))[:2]

    return jax.vmap(one)(load, arrivals)


def simulate_worlds(setting, episode, load=None, arrivals=None):
    """`simulate` in WORLDS worlds; what is not given is the same in all of them."""
    env, params, actions = setting

    def same(x):
        return np.broadcast_to(x, (WORLDS, *x.shape))

    load = same(params.background.load) if load is None else load
    arrivals = jax.tree.map(same, params.arrivals) if arrivals is None else arrivals
    seen, records = simulate(env, params, load, arrivals, actions, jnp.int32(episode))
    makespan = float(records["finish"].max(initial=0.0, where=records["decided"]))
    assert makespan < SETTING.num_frames * SETTING.frame, "a trace would begin again"
    return jax.tree.map(np.asarray, (seen, records))


def steps_that_differ(tree, world):
    """(steps,) bool: which steps of a world are not, bit by bit, those of world 0."""
    return ~equal(*(jax.tree.map(lambda x: x[w], tree) for w in (0, world)), axes=1)  # noqa: B023 (called at once)


@pytest.mark.parametrize("episode", range(EPISODES))
def test_background_after_a_decision_is_not_seen(setting, episode):
    """World d > 0 differs from world 0 in every frame after the one in which decision d - 1 is taken."""
    _, params, _ = setting
    _, records = simulate_worlds(setting, episode)
    frame_of = np.floor(records["time"][0] / SETTING.frame).astype(int)
    decisions = int(records["decided"][0].sum())
    load = np.repeat(np.asarray(params.background.load)[None], WORLDS, axis=0)
    for d in range(STEPS):
        load[d + 1, :, frame_of[d] + 1 :] = 0.9 - load[d + 1, :, frame_of[d] + 1 :]
    seen, records = simulate_worlds(setting, episode, load=load)
    later_differs = 0
    for d in range(decisions):
        assert not steps_that_differ((seen, records), d + 1)[: d + 1].any(), d
        later_differs += steps_that_differ((seen, records), d + 1)[d + 1 :].any()
    assert later_differs > decisions / 2, "the change is seen once it has come"


@pytest.mark.parametrize("episode", range(EPISODES))
def test_background_at_a_decision_is_seen(setting, episode):
    """World d > 0 differs from world 0 in the frame in which decision d - 1 is taken, and in no other."""
    _, params, _ = setting
    _, records = simulate_worlds(setting, episode)
    frame_of = np.floor(records["time"][0] / SETTING.frame).astype(int)
    load = np.repeat(np.asarray(params.background.load)[None], WORLDS, axis=0)
    for d in range(STEPS):
        load[d + 1, :, frame_of[d]] = 0.9 - load[d + 1, :, frame_of[d]]
    seen, records = simulate_worlds(setting, episode, load=load)
    for d in range(int(records["decided"][0].sum())):
        assert steps_that_differ(seen, d + 1)[d], d
        assert steps_that_differ(records, d + 1)[d], d


def changed_from(arrivals, first):
    """Arrivals whose services from `first` on have another DAG, so other load, data, demand and preds, and source."""
    later = np.arange(SETTING.num_services) >= first
    return arrivals.replace(
        dag=np.where(later, (arrivals.dag + SETTING.num_dags // 2) % SETTING.num_dags, arrivals.dag),
        source=np.where(later, (arrivals.source + 1) % SETTING.num_nodes, arrivals.source),
    )


@pytest.mark.parametrize("episode", range(EPISODES))
def test_services_are_not_seen_before_their_release(setting, episode):
    """World w > 0 differs from world 0 in all services but the first w."""
    _, params, _ = setting
    count = SETTING.num_services
    worlds = [changed_from(params.arrivals, w if 0 < w < count else count) for w in range(WORLDS)]
    arrivals = jax.tree.map(lambda *x: np.stack(x), *worlds)
    seen, records = simulate_worlds(setting, episode, arrivals=arrivals)
    time, service = records["time"][0], records["service"][0]
    for world in range(1, count):
        release = time[service == world][0]  # of the first service that differs
        differ = steps_that_differ((seen, records), world)
        assert (time < release).any()
        assert not differ[time < release].any(), world
        assert differ[np.argmax(service == world)], "it is seen when it has come"
