"""The views for Stable-Baselines3: a VecEnv of its own kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxcec.adapters.gymnasium import GymnasiumVectorEnv
from jaxcec.adapters.views import FlatView
from jaxcec.env.types import EnvParams

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise ImportError(
        f"jaxcec.adapters.stable_baselines3: {error}; pip install stable-baselines3 (tested with 2.9.2)"
    ) from error


class StableBaselinesVecEnv(VecEnv):
    """So many environments of a view, compiled as one; each that ends begins a new episode in the same step.

    The `info` of one that ends has `terminal_observation`, `TimeLimit.truncated` and the episode's `act` in s (0 if it
    was cut short); that of the others is empty.

    Args:
        view: DiscreteView for DQN and PPO, ContinuousView for SAC, TD3, DDPG and PPO.
        num_envs: how many.
        params: the banks; by default the view's.
    """

    render_mode = None

    def __init__(self, view: FlatView, num_envs: int, params: EnvParams | None = None):
        self.envs = GymnasiumVectorEnv(view, num_envs, params)
        super().__init__(num_envs, self.envs.single_observation_space, self.envs.single_action_space)

    def reset(self) -> np.ndarray:
        """New episodes everywhere, those of the seed that `seed` gave since the last reset, if it did."""
        seen, _ = self.envs.reset(seed=self._seeds[0])
        self._reset_seeds()
        return seen

    def step_async(self, actions: np.ndarray) -> None:
        """Take these actions at the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, rewards, dones (terminated or truncated) and infos."""
        seen, reward, terminated, truncated, info = self.envs.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = terminated | truncated
        for i in np.flatnonzero(ended):
            infos[i] = {
                "terminal_observation": info["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i]),
                "act": float(info["final_info"]["act"][i]),
            }
        return seen, reward, ended, infos

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """This object's attribute, once for each environment."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible: the environments are one compiled program."""
        raise NotImplementedError("set_attr: the environments are compiled as one; make a new StableBaselinesVecEnv")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Not possible: the environments are one compiled program."""
        raise NotImplementedError("env_method: the environments are compiled as one and have no methods")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No: a VecEnv wrapper such as VecMonitor wraps all of them from outside."""
        return [False] * len(list(self._get_indices(indices)))
