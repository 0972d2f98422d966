"""The mirror against the simulator: of what has happened so far it makes the same observation and the same decision."""

import random
from functools import cache, partial

import jax
import numpy as np
import pytest
from helpers.episodes import random_actions
from helpers.instances import random_wide_instance
from helpers.mirrored import SINCE, ledger_of, played, site_of
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcec.agents import PRETRAINED, load_policy
from jaxcec.env import build_instance, known_world
from jaxcec.env.types import Background
from jaxcec.evaluation import baseline_contenders
from jaxcec.live.mirror import mirror
from jaxcec.policies import BASELINES

FRAME = 10.0  # s
SERVICES, STEPS = 4, 20


def episode(seed):
    """An instance of services in the order of their releases, with load of other tenants, and random actions."""
    rng = random.Random(seed)
    instance = random_wide_instance(rng, SERVICES)
    instance["services"].sort(key=lambda service: service["release"])
    # One link is half duplex and the others full, so that all episodes have arrays of one size.
    rates = [5.0, (3.0, 6.0), (rng.uniform(1, 10), rng.uniform(1, 10))]
    instance["links"] = [
        (a, b, rate, latency) for (a, b, _, latency), rate in zip(instance["links"], rates, strict=True)
    ]
    site = site_of(instance | {"services": [{"load": [0] * 5}] * SERVICES}, FRAME)
    env, params = build_instance(**instance, config=site.config)
    load = jax.random.uniform(jax.random.key(seed), (2, 64), maxval=0.9)
    params = params.replace(background=Background(load=load, frame=np.float32(FRAME)))
    _, state = env.reset_env(jax.random.key(seed), params)
    actions = random_actions(env, jax.random.key(seed + 1), (STEPS,))
    return instance, site, env, params, state, actions


@partial(jax.jit, static_argnums=0)
def seen(env, world):
    return env.observe(jax.random.key(0), world.state, None, world.params)


known = jax.jit(known_world)


def both_worlds(seed, stop):
    """The simulator's known world before the decision number `stop` of an episode, and the mirrored one."""
    instance, site, env, params, state, actions = episode(seed)
    state, records = played(env, params, state, actions, stop)
    now = float(np.min(state.episode.next_ready))
    if not np.isfinite(now):
        return None
    ledger = ledger_of(site, instance, params=params, state=state, records=records, now=now)
    due = ledger.next_due()
    assert due.time == SINCE + now
    facts = ledger.facts(SINCE + now, (due.slot, due.microservice))
    params = params.replace(time_unit=facts.time_unit)  # a live system knows only what has arrived
    return env, known(state, params), mirror(env.config, facts, site.network)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), stop=st.integers(0, STEPS))
def test_the_mirrored_observation_is_the_simulators(seed, stop):
    worlds = both_worlds(seed, stop)
    if worlds is None:
        return
    env, expected, world = worlds
    for (path, want), got in zip(
        jax.tree_util.tree_leaves_with_path(seen(env, expected)), jax.tree.leaves(seen(env, world)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-3, err_msg=jax.tree_util.keystr(path))
    np.testing.assert_allclose(world.history, expected.history, rtol=1e-6)


@partial(jax.jit, static_argnames=("env", "applies"))
def actions(env, world, applies, params):
    key = jax.random.key(5)
    observation = env.observe(key, world.state, None, world.params)
    return [apply(one, observation, world, key) for apply, one in zip(applies, params, strict=True)]


@cache
def contenders(env, which):
    observation = jax.eval_shape(env.reset_env, jax.random.key(0), env.default_params)[0]
    learned = [load_policy(PRETRAINED / f"{name}.msgpack", observation) for name in ("dtdrlmo", "dtdrlmo-plan")]
    every = [*baseline_contenders(env), *(policy.contender(env) for policy in learned)]
    return [contender for contender in every if contender.name in which]


def assert_same_actions(seed, stop, which):
    worlds = both_worlds(seed, stop)
    if worlds is None:
        return
    env, expected, world = worlds
    chosen = contenders(env, which)
    functions, params = tuple(one.apply for one in chosen), [one.params for one in chosen]
    wanted, got = (actions(env, world, functions, params) for world in (expected, world))
    for contender, want, have in zip(chosen, wanted, got, strict=True):
        assert want.host == have.host, contender.name
        for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(have), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3, err_msg=contender.name)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), stop=st.integers(0, STEPS))
def test_every_rule_and_dtdrlmo_decide_the_same(seed, stop):
    assert_same_actions(seed, stop, frozenset({*BASELINES, "dtdrlmo"}))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), stop=st.integers(0, STEPS))
@pytest.mark.slow
def test_every_planner_decides_the_same(seed, stop):
    assert_same_actions(seed, stop, frozenset({"eft-rollout", "peft-rollout", "best-of-random", "dtdrlmo-plan"}))
