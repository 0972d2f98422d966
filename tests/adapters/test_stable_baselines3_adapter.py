"""The Stable-Baselines3 adapter: checker, infos, and learners."""

import numpy as np
import pytest
from helpers.episodes import equal
from helpers.instances import ROUTED

from jaxcec.adapters import ContinuousView, DiscreteView
from jaxcec.env import build_instance

sb3 = pytest.importorskip("stable_baselines3")
adapter = pytest.importorskip("jaxcec.adapters.stable_baselines3")
gymnasium_adapter = pytest.importorskip("jaxcec.adapters.gymnasium")

ENVS = 8


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small run slower on several threads."""
    import torch

    torch.set_num_threads(1)


def test_stable_baselines3_s_checker_passes(view):
    from stable_baselines3.common.env_checker import check_env

    check_env(gymnasium_adapter.GymnasiumEnv(view))


def test_a_step_equals_the_gymnasium_vector_s_with_ends_in_the_infos(small):
    view = DiscreteView(small)
    envs, expected = adapter.StableBaselinesVecEnv(view, ENVS), gymnasium_adapter.GymnasiumVectorEnv(view, ENVS)
    envs.seed(3)
    assert equal(envs.reset(), expected.reset(seed=3)[0])
    truncations = []
    for _ in range(30):
        actions = np.array([envs.action_space.sample() for _ in range(ENVS)])
        seen, reward, done, infos = envs.step(actions)
        expected_seen, expected_reward, terminated, truncated, info = expected.step(actions)
        assert equal((seen, reward, done), (expected_seen, expected_reward, terminated | truncated))
        for i, end in enumerate(done):
            assert bool(infos[i]) == end
            if end:
                assert equal(infos[i]["terminal_observation"], info["final_obs"][i])
                assert infos[i]["TimeLimit.truncated"] == truncated[i]
                assert (infos[i]["act"] > 0) == terminated[i]
                truncations.append(bool(truncated[i]))
    assert {True, False} == set(truncations)


def test_unsupported_methods_raise_an_error(small):
    envs = adapter.StableBaselinesVecEnv(DiscreteView(small), ENVS)
    assert envs.get_attr("render_mode", [0, 1]) == [None, None] and not any(envs.env_is_wrapped(object))
    with pytest.raises(NotImplementedError, match="compiled as one"):
        envs.set_attr("params", None)
    with pytest.raises(NotImplementedError, match="compiled as one"):
        envs.env_method("step")
    envs.set_options([{}] * ENVS)
    with pytest.raises(ValueError, match="options: got 'split'; there are none"):
        envs.set_options({"split": "test"})


def test_a_step_before_the_first_reset_is_refused(small):
    from gymnasium.error import ResetNeeded

    with pytest.raises(ResetNeeded, match="call reset first"):
        adapter.StableBaselinesVecEnv(DiscreteView(small), ENVS).step(np.zeros(ENVS, int))


def test_maskable_ppo_chooses_only_what_the_mask_allows():
    contrib = pytest.importorskip("sb3_contrib")
    env, params = build_instance(**ROUTED)
    envs = adapter.StableBaselinesVecEnv(DiscreteView(type(env)(env.config, params)), ENVS)
    forbidden = []

    def step_async(actions):
        allowed = envs.action_masks()
        forbidden.append((~allowed).sum())
        assert allowed[np.arange(ENVS), actions].all()
        adapter.StableBaselinesVecEnv.step_async(envs, actions)

    envs.step_async = step_async
    contrib.MaskablePPO("MlpPolicy", envs, n_steps=16, batch_size=64, seed=0, device="cpu").learn(32 * ENVS)
    assert len(forbidden) == 32 and min(forbidden) > 0, "node 0 is a router"


OFF_POLICY = {"learning_starts": 500, "train_freq": 4, "batch_size": 64}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "view", "settings"),
    [
        ("PPO", DiscreteView, {"n_steps": 64}),
        ("PPO", ContinuousView, {"n_steps": 64}),
        ("DQN", DiscreteView, OFF_POLICY),
        ("SAC", ContinuousView, OFF_POLICY),
        ("TD3", ContinuousView, OFF_POLICY),
        ("DDPG", ContinuousView, OFF_POLICY),
    ],
)
def test_stable_baselines3_s_learners_train(small, algorithm, view, settings):
    from stable_baselines3.common.vec_env import VecMonitor

    envs = VecMonitor(adapter.StableBaselinesVecEnv(view(small), ENVS))
    learner = getattr(sb3, algorithm)("MlpPolicy", envs, seed=0, device="cpu", **settings)
    before = {name: x.clone() for name, x in learner.policy.state_dict().items()}
    learner.learn(4096)
    assert any((before[name] != x).any() for name, x in learner.policy.state_dict().items())
    assert {episode["l"] for episode in learner.ep_info_buffer} == {11, 12}  # the shortest episode, and the limit
    assert all(np.isfinite(episode["r"]) for episode in learner.ep_info_buffer)


@pytest.mark.slow
def test_ppo_learns(small):
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecMonitor

    envs = VecMonitor(adapter.StableBaselinesVecEnv(DiscreteView(small), ENVS))
    learner = sb3.PPO("MlpPolicy", envs, n_steps=64, seed=0, device="cpu")
    before, _ = evaluate_policy(learner, envs, n_eval_episodes=64)
    learner.learn(16_384)
    after, _ = evaluate_policy(learner, envs, n_eval_episodes=64)
    assert after > before / 2  # both are negative
