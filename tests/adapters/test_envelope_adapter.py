"""The envelope adapter: registry, wrappers, and termination distinguished from truncation."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import equal

import jaxcec
from jaxcec.adapters import ContinuousView, DiscreteView

envelope = pytest.importorskip("envelope", reason="needs jax-envelope, from Python 3.12 on")
adapter = pytest.importorskip("jaxcec.adapters.envelope")

TINY = {"num_topologies": 2, "num_dags": 20, "num_patterns": 2, "num_traces": 2, "num_frames": 8, "num_services": 3}
ENVS, STEPS, LIMIT = 8, 512, 12
KEY = jax.random.key(0)
pytestmark = pytest.mark.usefixtures("lenient")


def wrap(view):
    return adapter.JaxcecEnvelope(view=view, params=view.default_params)


def test_envelope_finds_every_registered_environment():
    assert importlib.metadata.entry_points(group="envelope.environments")["jaxcec"].load()
    assert "jaxcec" in envelope.registered_suites()
    assert set(envelope.registered_environments("jaxcec")) == {f"jaxcec::{name}" for name in jaxcec.registered_envs}
    env = envelope.create("jaxcec::paper-v0", env_kwargs={"view": "continuous", "split": "test", **TINY})
    assert env.view == ContinuousView(jaxcec.make("paper-v0", "test", **TINY)[0])
    assert equal(env.params, env.view.default_params) and env.default_max_steps is None


def test_a_step_equals_the_view_s(view):
    env = wrap(view)
    state, info = env.init(KEY)
    seen, expected = view.reset(KEY)
    assert equal((state, info.obs), (expected, seen)) and info.reward == 0.0 and not info.terminated
    step = jax.jit(env.step)
    for key in jax.random.split(KEY, 20):
        action = env.action_space.sample(key)
        assert env.action_space.contains(action) and env.observation_space.contains(info.obs)
        before, (state, info) = info, step(state, action)
        assert jax.tree.structure(before) == jax.tree.structure(info)  # as scan requires from the first step on
        seen, expected, reward, terminated, record = view.step_env(key, expected, action, view.default_params)
        for x, y in [(info.obs, seen), (info.reward, reward), (info.backend.finish, record["finish"])]:
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
        assert info.terminated == terminated and not info.truncated
    assert info.terminated


def test_envelope_s_wrappers_add_time_limit_and_auto_reset(small):
    env = wrap(DiscreteView(small))
    assert env.default_max_steps == LIMIT
    env = envelope.AutoResetWrapper(env=envelope.TruncationWrapper(env=env, max_steps=env.default_max_steps))
    env = envelope.VmapWrapper(env=envelope.EpisodeStatisticsWrapper(env=env), batch_size=ENVS)
    state, _ = env.init(KEY)
    actions = jax.vmap(env.action_space.sample)(jax.random.split(KEY, STEPS))
    _, info = jax.lax.scan(env.step, state, actions)
    terminated, truncated = np.asarray(info.terminated), np.asarray(info.truncated)
    # envelope's TruncationWrapper sets both for an episode that terminates at the limit.
    assert terminated.any() and (truncated & ~terminated).any()
    ended = terminated | truncated
    assert ((info.final.obs != info.obs).any(axis=-1))[ended].all()
    assert ((info.final.backend.act > 0)[ended] == terminated[ended]).all()
    assert jnp.isfinite(info.reward).all()
