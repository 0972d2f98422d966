"""The adapters to gymnax 1.x, and to the five-value step of gymnax 0.0.x with rejax."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import equal

import jaxcec
from jaxcec.adapters import ContinuousView, DiscreteView

gymnax = pytest.importorskip("gymnax", reason="needs gymnax and six", exc_type=ImportError)
adapter = pytest.importorskip("jaxcec.adapters.gymnax")
legacy = pytest.importorskip("jaxcec.adapters.gymnax_legacy")

TINY = {"num_topologies": 2, "num_dags": 20, "num_patterns": 2, "num_traces": 2, "num_frames": 8}
KEY = jax.random.key(0)
pytestmark = pytest.mark.usefixtures("lenient")


@pytest.mark.parametrize("env_id", jaxcec.registered_envs)
def test_gymnax_makes_every_registered_environment(env_id):
    adapter.register()
    adapter.register()
    env, params = gymnax.make(f"CEC-{env_id}", **TINY)
    assert env == adapter.GymnaxDiscrete(jaxcec.make(env_id, **TINY)[0])
    seen, _ = env.reset(KEY, params)
    assert env.observation_space(params).contains(seen)


def test_gymnax_make_accepts_the_arguments_of_make_view():
    adapter.register()
    env, params = gymnax.make("CEC-paper-v0", view="continuous", split="test", reward_scale=0.5, num_services=3, **TINY)
    expected, expected_params = jaxcec.make("paper-v0", "test", num_services=3, **TINY)
    assert env == adapter.GymnaxContinuous(expected, reward_scale=0.5) and equal(params, expected_params)
    with pytest.raises(ValueError, match="view: got 'flat'; must be one of discrete, continuous"):
        gymnax.make("CEC-paper-v0", view="flat")


def test_spaces_are_gymnax_s(small):
    from gymnax.environments import spaces

    discrete, continuous = adapter.GymnaxDiscrete(small), adapter.GymnaxContinuous(small)
    assert isinstance(discrete.action_space(), spaces.Discrete) and discrete.action_space().n == 4
    assert isinstance(continuous.action_space(), spaces.Box) and continuous.action_space().shape == (6,)
    for env, view in [(discrete, DiscreteView(small)), (continuous, ContinuousView(small))]:
        seen, _ = env.reset(KEY)
        assert isinstance(env.observation_space(), spaces.Box) and env.observation_space().contains(seen)
        assert env.observation_space().shape == view.observation_space().shape == seen.shape
        assert env.action_space().contains(env.action_space().sample(KEY))


def run(env, step, steps: int = 60):
    """The values that `step` returns, without observation and state, at each of `steps` random steps."""
    _, state = env.reset(KEY, env.default_params)

    def one(state, key):
        _, state, *rest = step(key, state, env.action_space(env.default_params).sample(key), env.default_params)
        return state, rest

    return jax.lax.scan(one, state, jax.random.split(KEY, steps))[1]


def test_gymnax_s_log_wrapper_counts_the_episodes(small):
    from gymnax.wrappers import LogWrapper

    env = LogWrapper(adapter.GymnaxDiscrete(small))
    reward, terminated, truncated, info = run(env, env.step)
    assert terminated.any() and truncated.any() and not (terminated & truncated).any()
    ended = np.flatnonzero(terminated | truncated)
    assert (np.asarray(info["returned_episode"])[ended]).all()
    lengths = np.diff(ended, prepend=-1)
    assert (info["returned_episode_lengths"][ended] == lengths).all() and lengths.max() == 12
    returns = [r.sum() for r in np.split(np.asarray(reward), ended + 1)[:-1]]
    np.testing.assert_allclose(info["returned_episode_returns"][ended], returns, rtol=1e-5)


def test_the_five_values_are_the_six_with_done_joined(small):
    six, five = adapter.GymnaxDiscrete(small), legacy.LegacyDiscrete(small)
    reward, terminated, truncated, info = run(six, six.step)
    expected = reward, terminated | truncated, info
    assert equal(run(five, five.step), expected)
    assert copy.deepcopy(five) == five and five != six


def learner(algorithm: str, small, **changes):
    rejax = pytest.importorskip("rejax")
    settings = {
        "PPO": {"num_envs": 16, "num_steps": 64},
        "TD3": {"num_envs": 16, "fill_buffer": 256, "buffer_size": 4096, "batch_size": 64},
    }[algorithm]
    env = {"PPO": legacy.LegacyDiscrete, "TD3": legacy.LegacyContinuous}[algorithm](small)
    return getattr(rejax, algorithm).create(**({"env": env, "eval_freq": 4096} | settings | changes))


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "steps"), [("PPO", 16_384), ("TD3", 8_192)])
def test_rejax_trains(small, algorithm, steps):
    trained = learner(algorithm, small, total_timesteps=steps)
    _, (lengths, returns) = jax.jit(trained.train)(KEY)
    before, *_, after = returns.mean(axis=1)
    assert lengths.max() == 12 and lengths.min() == 11  # the limit, and the shortest episode
    assert jnp.isfinite(returns).all() and after > before


def test_rejax_does_not_accept_six_values(small):
    six = learner("PPO", small, env=adapter.GymnaxDiscrete(small), total_timesteps=64, num_envs=1)
    with pytest.raises(ValueError, match="too many values to unpack"):
        jax.eval_shape(six.train, KEY)


def test_gymnax_s_own_five_value_wrapper_cannot_be_copied(small):
    compat = pytest.importorskip("gymnax.wrappers.compat")
    with pytest.raises(RecursionError):
        copy.deepcopy(compat.LegacyStepAPIWrapper(adapter.GymnaxDiscrete(small)))
