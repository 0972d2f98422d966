"""The Brax adapter: State, auto-reset, and SAC."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import equal

from jaxcec.adapters import ContinuousView

pytest.importorskip("brax")
adapter = pytest.importorskip("jaxcec.adapters.brax")

ENVS, STEPS, LIMIT = 6, 40, 12
KEYS = jax.random.split(jax.random.PRNGKey(0), ENVS)  # Brax requires raw keys
pytestmark = pytest.mark.usefixtures("lenient")


@pytest.fixture(scope="module")
def env(small):
    return adapter.BraxEnv(ContinuousView(small))


def test_a_step_equals_the_view_s(env):
    view, params = env.view, env.params
    state = jax.jit(env.reset)(KEYS[0])
    seen, expected = view.reset(KEYS[0])
    # Not bitwise: the banks are constants of Brax's compiled program, which turns a division by one into a product.
    assert equal((state.pipeline_state, state.obs), (expected, seen), rtol=1e-6)
    assert state.obs.shape == (env.observation_size,)
    assert state.reward == 0.0 and state.done == 0.0 and env.action_size == 6 and env.backend == "jaxcec"
    step = jax.jit(env.step)
    for key in jax.random.split(KEYS[1], 20):  # longer than any episode: this environment has no time limit
        action = view.action_space().sample(key)
        seen, expected, reward, terminated, info = view.step_env(key, expected, action, params)
        state = step(state, action)
        for x, y in [(state.obs, seen), (state.reward, reward), (state.metrics["act"], info["act"])]:
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
        assert state.done == terminated
    assert terminated


def play(env, episode_length=1000, action_repeat=1):
    """First state, all later states (STEPS, ENVS) and actions of ENVS environments under random actions."""
    wrapped = adapter.wrap(env, episode_length, action_repeat)
    sample = jax.vmap(env.view.action_space().sample)
    actions = jax.vmap(sample)(jax.random.split(KEYS[0], (STEPS, ENVS)))

    @jax.jit
    def run(keys, actions):
        def step(state, action):
            state = wrapped.step(state, action)
            return state, state

        state = wrapped.reset(keys)
        return state, jax.lax.scan(step, state, actions)[1]

    return *run(KEYS, actions), actions


def test_an_episode_is_followed_by_a_new_one(env):
    first, states, _ = play(env)
    ended = np.asarray(states.done > 0)
    truncated = np.asarray(states.info["truncation"] > 0)
    steps = np.asarray(states.info["steps"])
    assert truncated.any() and (ended & ~truncated).any() and not (truncated & ~ended).any()
    assert (steps[truncated] == LIMIT).all() and (steps <= LIMIT).all()
    assert ((states.metrics["act"] > 0) == (ended & ~truncated)).all()  # the ACT is defined after termination only
    episode = states.pipeline_state.episode
    assert ((episode.step == 0) == ended).all() and (steps[1:][ended[:-1]] == 1).all()
    assert (first.obs[None] != states.obs)[ended].any(axis=-1).all()
    drawn = {tuple(offset) for offset in np.asarray(episode.offset)[ended]}
    assert len(drawn) == ended.sum()  # all episodes differ


def test_brax_s_limit_applies_if_it_is_shorter(env):
    _, states, _ = play(env, episode_length=5)
    assert (states.info["truncation"] == states.done).all() and (states.done == (states.info["steps"] == 5)).all()


def test_brax_s_own_wrapper_repeats_one_episode(env):
    """The reason for `wrap`."""
    from brax.envs.wrappers.training import wrap

    wrapped = wrap(env, LIMIT)
    step = jax.jit(wrapped.step)
    first = state = jax.jit(wrapped.reset)(KEYS)
    for _ in range(LIMIT):
        state = step(state, jnp.zeros((ENVS, 6)))
    assert state.done.all() or (state.info["steps"] < LIMIT).any()
    assert equal(state.obs[state.done > 0], first.obs[state.done > 0])


def test_a_randomization_fn_is_rejected(env):
    with pytest.raises(ValueError, match=r"randomization_fn: got .*; must be None"):
        adapter.wrap(env, randomization_fn=lambda system: system)


@pytest.fixture
def replicated(monkeypatch):
    """Provide `jax.device_put_replicated`, which Brax 0.14.2 calls and jax 0.10 no longer has."""

    def put(tree, devices):
        sharding = jax.NamedSharding(jax.make_mesh((len(devices),), ("i",), devices=devices), jax.P("i"))
        return jax.tree.map(lambda x: jax.device_put(jnp.stack([x] * len(devices)), sharding), tree)

    if not hasattr(jax, "device_put_replicated"):
        monkeypatch.setattr(jax, "device_put_replicated", put, raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("replicated")
def test_sac_trains(env):
    from brax.training.agents.sac import train as sac

    rewards, lengths = [], []

    def record(_, metrics):
        rewards.append(metrics["eval/episode_reward"])
        lengths.append(metrics["eval/avg_episode_length"])

    train = partial(sac.train, wrap_env_fn=adapter.wrap, progress_fn=record, max_devices_per_host=1)
    settings = {"num_envs": 16, "num_eval_envs": 64, "batch_size": 64, "min_replay_size": 256, "discounting": 0.99}
    train(env, num_timesteps=4096, episode_length=LIMIT, num_evals=3, **settings)
    assert rewards[-1] > rewards[0] and np.isfinite(rewards).all()
    assert all(11 <= length <= 12 for length in lengths)
