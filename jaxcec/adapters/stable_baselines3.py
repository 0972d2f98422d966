"""Adapter of the views to Stable-Baselines3's VecEnv."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxcec.adapters.gymnasium import GymnasiumVectorEnv, check_options
from jaxcec.adapters.views import FlatView
from jaxcec.env.types import EnvParams

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise ImportError(
        f"jaxcec.adapters.stable_baselines3: {error}; pip install stable-baselines3 (tested with 2.9.2)"
    ) from error


class StableBaselinesVecEnv(VecEnv):
    """`num_envs` vectorised copies of a view with same-step auto-reset, in one compiled program.

    At the end of an episode, its `info` has `terminal_observation`, `TimeLimit.truncated` and the episode's `act` in s
    (0 if it was truncated); otherwise `info` is empty.

    DQN and PPO take a DiscreteView; SAC, TD3, DDPG and PPO a ContinuousView. The params are by default the view's.
    """

    render_mode = None

    def __init__(self, view: FlatView, num_envs: int, params: EnvParams | None = None) -> None:
        self.envs = GymnasiumVectorEnv(view, num_envs, params)
        super().__init__(num_envs, self.envs.single_observation_space, self.envs.single_action_space)

    def reset(self) -> np.ndarray:
        """Begin a new episode in every copy, with the seed if `seed` was called since the last reset."""
        observations, _ = self.envs.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observations

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Raise a ValueError if there are any: a reset has no options."""
        for each in options if isinstance(options, list) else [options]:
            check_options(each, [])

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions for the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Take the stored actions: observations, rewards, dones (terminated or truncated) and infos."""
        observations, reward, terminated, truncated, info = self.envs.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = terminated | truncated
        for i in np.flatnonzero(ended):
            infos[i] = {
                "terminal_observation": info["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i]),
                "act": float(info["final_info"]["act"][i]),
            }
        return observations, reward, ended, infos

    def close(self) -> None:
        """Do nothing: there are no resources to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """This object's attribute, once for each copy."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not supported: the copies are one compiled program."""
        raise NotImplementedError("set_attr: the environments are compiled as one; make a new StableBaselinesVecEnv")

    def action_masks(self) -> np.ndarray:
        """(num_envs, A) bool: the actions that each copy allows, for sb3-contrib's MaskablePPO."""
        return self.envs.action_masks()

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """`action_masks` of each copy; nothing else is supported, for the copies are one compiled program."""
        if method_name == "action_masks":
            masks = self.action_masks()
            return [masks[i] for i in self._get_indices(indices)]
        raise NotImplementedError(
            "env_method: the environments are compiled as one and have no methods but action_masks"
        )

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """False for each copy: wrappers such as VecMonitor wrap the whole VecEnv."""
        return [False] * len(list(self._get_indices(indices)))
