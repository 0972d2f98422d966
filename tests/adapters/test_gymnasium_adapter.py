"""The Gymnasium adapters: checkers, modes of auto-reset, seeds, wrappers, errors."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, equal
from helpers.instances import ROUTED

import jaxcec
from jaxcec.adapters import ContinuousView, DiscreteView
from jaxcec.env import build_instance

gymnasium = pytest.importorskip("gymnasium")
adapter = pytest.importorskip("jaxcec.adapters.gymnasium")

TINY = {"num_topologies": 2, "num_dags": 20, "num_patterns": 2, "num_traces": 2, "num_frames": 8, "num_services": 3}
ENVS, STEPS, LIMIT = 5, 40, 12
AutoresetMode = gymnasium.vector.AutoresetMode


def test_gymnasium_s_checker_passes(view):
    from gymnasium.utils.env_checker import check_env

    check_env(adapter.GymnasiumEnv(view), skip_render_check=True)  # there is nothing to render


@pytest.mark.parametrize("env_id", jaxcec.registered_envs)
def test_gymnasium_makes_every_registered_environment(env_id):
    adapter.register()
    adapter.register()
    env = gymnasium.make(f"jaxcec/{env_id}", **TINY)
    expected = DiscreteView(jaxcec.make(env_id, **TINY)[0])
    more = env_id.endswith("-v1")  # where a decision may be postponed
    assert env.unwrapped.view == expected and env.action_space.n == 8 + more
    envs = gymnasium.make_vec(f"jaxcec/{env_id}", num_envs=2, view="continuous", split="test", **TINY)
    assert envs.unwrapped.view == ContinuousView(expected.env) and envs.action_space.shape == (2, 10 + more)


def play(envs, seed: int = 7):
    """First observation, actions, and the values returned by each of STEPS random steps."""
    first, info = envs.reset(seed=seed)
    assert set(info) == {"action_mask", "_action_mask"} and info["action_mask"].all()
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


def vector(small, mode=AutoresetMode.SAME_STEP, kind=DiscreteView):
    return adapter.GymnasiumVectorEnv(kind(small), ENVS, autoreset_mode=mode)


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_the_modes_differ_only_in_when_they_reset(small, mode):
    """Against same-step auto-reset, until the first episode of each copy ends; then its reset."""
    expected, envs = vector(small), vector(small, mode)
    assert envs.metadata["autoreset_mode"] is AutoresetMode(mode) is not expected.metadata["autoreset_mode"]
    seen = envs.reset(seed=7)[0]
    assert equal(seen, expected.reset(seed=7)[0])
    first = np.ones(ENVS, bool)  # copies in their first episode
    resting = np.zeros(ENVS, bool)
    for _ in range(LIMIT + 1):
        actions = envs.action_space.sample()
        if resting.any() and mode == "Disabled":
            before = envs.reset(options={"reset_mask": resting})[0]
            assert equal(before[~resting], seen[~resting]) and (before[resting] != seen[resting]).any(axis=1).all()
            resting = np.zeros(ENVS, bool)
        seen, reward, terminated, truncated, info = envs.step(actions)
        last, *others, expected_info = expected.step(actions)
        assert seen in envs.observation_space and reward.dtype == np.float32 and terminated.dtype == bool
        assert all(equal(x[first], y[first]) for x, y in zip((reward, terminated, truncated), others, strict=True))
        assert (info["_finish"] == ~resting).all() and (reward[resting] == 0).all() and "final_obs" not in info
        assert not (terminated | truncated)[resting].any()
        resting = terminated | truncated
        for i in np.flatnonzero(first):
            np.testing.assert_allclose(seen[i], expected_info["final_obs"][i] if resting[i] else last[i], rtol=1e-6)
            assert info["act"][i] == (expected_info["final_info"] if resting[i] else expected_info)["act"][i]
        first &= ~resting
    assert not first.any()


def test_a_masked_reset_keeps_the_other_copies(small):
    expected, envs = vector(small), vector(small)
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset_mask: there are no episodes to keep"):
        envs.reset(options={"reset_mask": np.arange(ENVS) < 2})
    mask = np.array([True, False, True, False, False])
    whole = vector(small).reset(seed=8)[0]
    assert equal(envs.reset(seed=8, options={"reset_mask": np.ones(ENVS, bool)})[0], whole)
    for each in (envs, expected):
        each.reset(seed=7)
        last = each.step(np.arange(ENVS))[0]
    options = {"reset_mask": mask}
    seen, info = envs.reset(seed=8, options=options)
    assert equal(seen, np.where(mask[:, None], whole, last)) and set(info) == {"action_mask", "_action_mask"}
    assert list(options) == ["reset_mask"]
    for x, y in zip(envs.step(np.arange(ENVS))[:4], expected.step(np.arange(ENVS))[:4], strict=True):
        assert equal(x[~mask], y[~mask])


@pytest.mark.parametrize("mask", [np.zeros(ENVS, bool), np.ones(ENVS), np.ones(ENVS + 1, bool), None])
def test_an_invalid_mask_is_refused(small, mask):
    with pytest.raises(
        ValueError, match=rf"reset_mask: got .*must be bool of shape \({ENVS},\) with at least one true"
    ):
        vector(small).reset(options={"reset_mask": mask})


def test_unknown_settings_are_refused(small):
    with pytest.raises(ValueError, match="options: got 'split'; must be reset_mask"):
        vector(small).reset(options={"split": "test"})
    with pytest.raises(ValueError, match="options: got 'split'; there are none"):
        adapter.GymnasiumEnv(DiscreteView(small)).reset(options={"split": "test"})
    with pytest.raises(ValueError, match="autoreset_mode: got 'later'; must be one of NextStep, SameStep, Disabled"):
        vector(small, "later")


def test_the_action_mask_is_in_the_usual_place():
    """A router is at node 0, and only node 2 has the gpu that the second microservice needs."""
    env, params = build_instance(**ROUTED)
    one, envs = (
        adapter.GymnasiumEnv(DiscreteView(env), params),
        adapter.GymnasiumVectorEnv(DiscreteView(env), 2, params),
    )
    assert one.reset(seed=0)[1]["action_mask"].tolist() == [0, 1, 1]
    assert envs.reset(seed=0)[1]["action_mask"].tolist() == [[0, 1, 1]] * 2
    for _ in range(2):
        mask = one.step(np.int64(1))[-1]["action_mask"]
        masks = envs.step(np.array([1, 1]))[-1]["action_mask"]
    assert mask.dtype == np.int8 and mask.tolist() == [0, 0, 1]
    assert masks.tolist() == [[0, 0, 1]] * 2 and envs.action_masks().dtype == bool
    assert one.action_space.sample(mask=mask) == 2


def test_a_step_without_an_episode_is_refused(small):
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset first"):
        vector(small).step(np.zeros(ENVS, int))
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset first"):
        adapter.GymnasiumEnv(DiscreteView(small)).step(0)
    envs = vector(small, AutoresetMode.DISABLED)
    envs.reset(seed=7)
    with pytest.raises(gymnasium.error.ResetNeeded, match=f"of {ENVS} episodes have ended; reset them with options="):
        for _ in range(LIMIT + 1):
            envs.step(np.zeros(ENVS, int))


def test_gymnasium_limits_the_length_of_an_episode():
    adapter.register()
    settings = dataclasses.asdict(SMALL)
    env = gymnasium.make("jaxcec/calibrated-v0", max_episode_steps=2, **settings)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(2)] == [False, True]
    envs = gymnasium.make_vec("jaxcec/calibrated-v0", ENVS, max_episode_steps=2, autoreset_mode="NextStep", **settings)
    assert envs.params.max_steps_in_episode.dtype == jnp.int32
    envs.reset(seed=0)
    assert [envs.step(np.zeros(ENVS, int))[3].tolist() for _ in range(4)] == [[x] * ENVS for x in (0, 1, 0, 0)]
    for wrong in (0, -1, 2**31, 1.5):
        with pytest.raises(
            ValueError, match=f"max_episode_steps: got {wrong}; must be an integer from 1 to 2147483647"
        ):
            gymnasium.make_vec("jaxcec/calibrated-v0", ENVS, max_episode_steps=wrong, **settings)


def test_gymnasium_s_wrappers_accept_the_modes_that_the_documentation_says(small):
    wrappers = gymnasium.wrappers.vector
    observation = [
        wrappers.FlattenObservation,
        lambda envs: wrappers.TransformObservation(envs, lambda x: x),
        lambda envs: wrappers.RescaleObservation(envs, np.float32(0), np.float32(1)),
        lambda envs: wrappers.ReshapeObservation(envs, (*envs.single_observation_space.shape, 1)),
        lambda envs: wrappers.DtypeObservation(envs, np.float32),
    ]
    other = [
        wrappers.RecordEpisodeStatistics,
        wrappers.NormalizeReward,
        wrappers.DictInfoToList,
        lambda envs: wrappers.ClipReward(envs, -1, 1),
        lambda envs: wrappers.TransformReward(envs, lambda x: x),
        lambda envs: wrappers.RescaleAction(envs, np.float32(0), np.float32(1)),
        wrappers.ClipAction,
        lambda envs: wrappers.TransformAction(envs, lambda x: x),
    ]
    accepted = {
        AutoresetMode.SAME_STEP: other,
        AutoresetMode.NEXT_STEP: [*other, *observation, wrappers.NormalizeObservation],
        AutoresetMode.DISABLED: other + observation,
    }
    for wrap in (*observation, wrappers.NormalizeObservation):
        with pytest.raises(AssertionError):
            wrap(vector(small, AutoresetMode.SAME_STEP, ContinuousView))
    for mode, kinds in accepted.items():
        for wrap in kinds:
            envs = wrap(vector(small, mode, ContinuousView))
            envs.reset(seed=0)
            for _ in range(10 if mode is AutoresetMode.DISABLED else 2 * LIMIT):  # no episode is as short as 10
                envs.step(np.zeros((ENVS, SMALL.num_nodes + 2), np.float32))


def test_next_step_mode_s_episode_statistics_are_right(small):
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(vector(small, AutoresetMode.NEXT_STEP))
    envs.reset(seed=7)
    total, length, ends = np.zeros(ENVS), np.zeros(ENVS, int), 0
    for _ in range(STEPS):
        _, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
        total, length, ended = total + reward, length + info["_finish"], terminated | truncated
        if ended.any():
            np.testing.assert_allclose(info["episode"]["r"][ended], total[ended], rtol=1e-5)
            assert (info["episode"]["l"][ended] == length[ended]).all()
        total[ended], length[ended], ends = 0, 0, ends + ended.sum()
    assert ends > 2 * ENVS


FORKED = """
import gymnasium, warnings
from jaxcec.adapters import make_view
from jaxcec.adapters.gymnasium import GymnasiumEnv, register

warnings.simplefilter("ignore")  # JAX's, of the fork
register()
settings = {"num_dags": 16, "num_services": 3, "num_topologies": 2, "num_patterns": 2, "num_traces": 2}
view = make_view("calibrated-v0", **settings)
for make in (lambda: GymnasiumEnv(view), lambda: gymnasium.make("jaxcec/calibrated-v0", **settings)):
    try:
        gymnasium.vector.AsyncVectorEnv([make], context="fork").reset()
    except (RuntimeError, OSError, EOFError) as error:
        print("ended with", type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_forked_environment_ends_with_an_error():
    """In place of a deadlock. Gymnasium passes on errors of `reset`; those of `make` go to stderr of the worker."""
    run = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120)
    message = "JAX cannot run in a process forked after it had started; use GymnasiumVectorEnv"
    assert f"ended with RuntimeError jaxcec: {message}" in run.stdout and run.stdout.count("ended with") == 2
    assert f"RuntimeError: jaxcec: {message}" in run.stderr


@pytest.mark.slow
def test_a_spawned_environment_works(small):
    view = DiscreteView(small)
    env = adapter.GymnasiumEnv(view)
    envs = gymnasium.vector.AsyncVectorEnv([lambda: adapter.GymnasiumEnv(view)] * 2, context="spawn")
    try:
        assert equal(envs.reset(seed=7)[0][0], env.reset(seed=7)[0])
        np.testing.assert_allclose(envs.step([1, 1])[0][0], env.step(1)[0], rtol=1e-6)
    finally:
        envs.close()
