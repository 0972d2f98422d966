"""The Gymnasium adapters: checkers, same-step auto-reset, seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import equal

import jaxcec
from jaxcec.adapters import ContinuousView, DiscreteView

gymnasium = pytest.importorskip("gymnasium")
adapter = pytest.importorskip("jaxcec.adapters.gymnasium")

TINY = {"num_topologies": 2, "num_dags": 20, "num_patterns": 2, "num_traces": 2, "num_frames": 8, "num_services": 3}
ENVS, STEPS, LIMIT = 5, 40, 12


def test_gymnasium_s_checker_passes(view):
    from gymnasium.utils.env_checker import check_env

    check_env(adapter.GymnasiumEnv(view), skip_render_check=True)  # there is nothing to render


@pytest.mark.parametrize("env_id", jaxcec.registered_envs)
def test_gymnasium_makes_every_registered_environment(env_id):
    adapter.register()
    adapter.register()
    env = gymnasium.make(f"jaxcec/{env_id}", **TINY)
    expected = DiscreteView(jaxcec.make(env_id, **TINY)[0])
    assert env.unwrapped.view == expected and env.action_space.n == 8
    envs = gymnasium.make_vec(f"jaxcec/{env_id}", num_envs=2, view="continuous", split="test", **TINY)
    assert envs.unwrapped.view == ContinuousView(expected.env) and envs.action_space.shape == (2, 10)


def play(envs, seed: int = 7):
    """First observation, actions, and the values returned by each of STEPS random steps."""
    first, info = envs.reset(seed=seed)
    assert info == {}
    envs.action_space.seed(seed)
    actions = [envs.action_space.sample() for _ in range(STEPS)]
    return first, actions, [envs.step(action) for action in actions]


@pytest.fixture(scope="module")
def played(view):
    return play(adapter.GymnasiumVectorEnv(view, ENVS))


def test_all_values_are_numpy_arrays_of_gymnasium_s_shapes(view, played):
    envs = adapter.GymnasiumVectorEnv(view, ENVS)
    assert envs.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    first, actions, steps = played
    assert first in envs.observation_space and actions[0] in envs.action_space
    for seen, reward, terminated, truncated, info in steps:
        assert seen in envs.observation_space and seen.flags.writeable
        assert all(type(x) is np.ndarray and x.shape == (ENVS,) for x in (reward, terminated, truncated))
        assert reward.dtype == np.float32 and terminated.dtype == truncated.dtype == bool
        assert all(isinstance(x, np.ndarray | dict) for x in info.values())


def test_a_vector_step_equals_the_view_s(view, played):
    """Against each environment alone, from the state of its seed to the end of its first episode."""
    first, actions, steps = played
    seeds = gymnasium.utils.seeding.np_random(7)[0].integers(2**32, size=ENVS, dtype=np.uint32)
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed))[0])(jnp.asarray(seeds))
    expected_first, state = jax.vmap(view.reset)(keys)
    assert equal(first, expected_first)
    raw = jax.jit(jax.vmap(view.step_env, in_axes=(0, 0, 0, None)))
    alive = np.ones(ENVS, bool)
    for action, (seen, reward, terminated, truncated, info) in zip(actions, steps, strict=True):
        last, state, expected, end, record = raw(keys, state, jnp.asarray(action), view.default_params)
        assert equal(reward[alive], expected[alive], rtol=1e-6)
        limit = np.asarray(state.episode.step == LIMIT) & ~end
        assert (terminated[alive] == end[alive]).all() and (truncated[alive] == limit[alive]).all()
        ended = alive & (terminated | truncated)
        for i in np.flatnonzero(ended):
            np.testing.assert_allclose(info["final_obs"][i], last[i], rtol=1e-6)  # before the reset
            assert (seen[i] != last[i]).any() and seen[i] in view_space(view)
            assert info["final_info"]["act"][i] == record["act"][i]
        alive &= ~ended
        np.testing.assert_allclose(seen[alive], last[alive], rtol=1e-6)
        assert (info["finish"][alive] == record["finish"][alive]).all()
    assert not alive.any()


def view_space(view):
    return adapter.GymnasiumEnv(view).observation_space


def test_terminations_and_truncations_are_distinguished_and_masked(played):
    ends = np.array([(terminated, truncated) for _, _, terminated, truncated, _ in played[2]])
    assert ends.any(axis=(0, 2)).all() and not ends.all(axis=1).any()
    for _, _, terminated, truncated, info in played[2]:
        ended = terminated | truncated
        assert ("final_obs" in info) == ("final_info" in info) == ended.any()
        assert (info["_finish"] == ~ended).all() and (info["finish"][ended] == 0).all()
        if ended.any():
            final = info["final_info"]
            assert (info["_final_obs"] == ended).all() and (info["_final_info"] == ended).all()
            assert [x is not None for x in info["final_obs"]] == ended.tolist()
            assert (final["terminated"] == terminated).all() and (final["truncated"] == truncated).all()
            assert ((final["act"] > 0) == terminated).all()


def test_a_seed_gives_the_same_episodes(view, played):
    envs = adapter.GymnasiumVectorEnv(view, ENVS)
    first, _, steps = play(envs)
    assert equal(first, played[0]) and all(equal(a[:4], b[:4]) for a, b in zip(steps, played[2], strict=True))
    again, _ = envs.reset()
    assert not equal(again, first)
    envs.reset(seed=7)
    assert equal(envs.reset()[0], again)
    assert not equal(envs.reset(seed=8)[0], first)


def test_one_environment_goes_on_until_it_ends(view):
    env = adapter.GymnasiumEnv(view)
    env.reset(seed=0)
    env.action_space.seed(0)
    ended = 0
    while not ended:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        ended = terminated or truncated
        assert type(reward) is float and type(terminated) is type(truncated) is bool
        assert not (terminated and truncated)
        assert truncated == (env._state.episode.step == LIMIT and not terminated)
    assert (info["act"] > 0) == terminated
