"""Adapters of the views to Gymnasium 1.x, vectorised and single: compiled code with a NumPy interface.

register()
envs = gymnasium.make_vec("jaxcec/calibrated-v0", num_envs=64, view="continuous")
"""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import numpy as np

from jaxcec import registered_envs
from jaxcec.adapters.views import FlatView, make_view
from jaxcec.env.spaces import Box, Discrete
from jaxcec.env.types import EnvParams, EnvState, Info

try:
    import gymnasium
    from gymnasium.vector import AutoresetMode
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise ImportError(
        f"jaxcec.adapters.gymnasium: {error}; pip install jaxcec[gym] (tested with gymnasium 1.3.0)"
    ) from error


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` vectorised copies of a view with same-step auto-reset.

    At the end of an episode, `info["final_obs"]` is its last observation and `info["final_info"]` the record of its
    last decision, with Gymnasium's masks `_final_obs` and `_final_info`. The records of all other decisions are in
    `info` itself.

    Args:
        view: the view.
        num_envs: number of copies.
        params: the banks; by default the view's.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(self, view: FlatView, num_envs: int, params: EnvParams | None = None) -> None:
        self.view, self.num_envs = view, num_envs
        self.params = view.default_params if params is None else params
        self.single_observation_space = _convert(view.observation_space())
        self.single_action_space = _convert(view.action_space())
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode in every copy; equal seeds give equal episodes. There are no options."""
        super().reset(seed=seed)
        seeds = self.np_random.integers(2**32, size=self.num_envs, dtype=np.uint32)
        observation, self._state, self._keys = _reset(self.view, seeds, self.params)
        return np.array(observation), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one decision in each copy: observations, rewards, terminations, truncations (never both), info."""
        returned, self._state, self._keys = _step(self.view, self._keys, self._state, actions, self.params)
        observation, reward, terminated, truncated, record = jax.tree.map(np.array, returned)
        last = record.pop("final_observation")
        ended = terminated | truncated
        info = _masked(record, ~ended)
        if ended.any():
            final = np.full(self.num_envs, None)
            for i in np.flatnonzero(ended):
                final[i] = last[i]
            info |= {
                "final_obs": final,
                "_final_obs": ended,
                "final_info": _masked(record, ended),
                "_final_info": ended,
            }
        return observation, reward, terminated, truncated, info


class GymnasiumEnv(gymnasium.Env):
    """A view as a single Gymnasium environment. For more than one, GymnasiumVectorEnv is much faster.

    Args:
        view: the view.
        params: the banks; by default the view's.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(self, view: FlatView, params: EnvParams | None = None) -> None:
        self.view = view
        self.params = view.default_params if params is None else params
        self.observation_space = _convert(view.observation_space())
        self.action_space = _convert(view.action_space())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode; equal seeds give equal episodes. There are no options."""
        super().reset(seed=seed)
        key = jax.random.key(self.np_random.integers(2**32, dtype=np.uint32))
        observation, self._state = self.view.reset_env(key, self.params)
        return np.array(observation), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one decision: observation, reward, terminated, truncated (never both), record of the decision."""
        returned, self._state = _step_once(self.view, self._state, action, self.params)
        observation, reward, terminated, truncated, record = jax.tree.map(np.array, returned)
        return observation, float(reward), bool(terminated), bool(truncated), record


def register() -> None:
    """Register every id of `jaxcec.registered_envs` with Gymnasium as `jaxcec/` and the id; idempotent.

    `gymnasium.make` and `make_vec` then accept the further arguments of `jaxcec.adapters.make_view`.
    """
    for env_id in registered_envs:
        if f"jaxcec/{env_id}" not in gymnasium.registry:
            gymnasium.register(
                f"jaxcec/{env_id}", entry_point=partial(_make, env_id), vector_entry_point=partial(_make_vec, env_id)
            )


def _make(env_id: str, **settings: Any) -> GymnasiumEnv:
    return GymnasiumEnv(make_view(env_id, **settings))


def _make_vec(env_id: str, num_envs: int, **settings: Any) -> GymnasiumVectorEnv:
    return GymnasiumVectorEnv(make_view(env_id, **settings), num_envs)


@partial(jax.jit, static_argnums=0)
def _reset(view: FlatView, seeds: chex.Array, params: EnvParams) -> tuple[chex.Array, EnvState, chex.PRNGKey]:
    keys = jax.vmap(jax.random.split)(jax.vmap(jax.random.key)(seeds))
    return *jax.vmap(view.reset_env, in_axes=(0, None))(keys[:, 0], params), keys[:, 1]


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _step(
    view: FlatView, keys: chex.PRNGKey, state: EnvState, actions: chex.Array, params: EnvParams
) -> tuple[tuple[Any, ...], EnvState, chex.PRNGKey]:
    keys = jax.vmap(jax.random.split)(keys)
    observation, state, *rest = jax.vmap(view.step, in_axes=(0, 0, 0, None))(keys[:, 0], state, actions, params)
    return (observation, *rest), state, keys[:, 1]


@partial(jax.jit, static_argnums=0)
def _step_once(
    view: FlatView, state: EnvState, action: chex.Array, params: EnvParams
) -> tuple[tuple[Any, ...], EnvState]:
    observation, state, reward, terminated, record = view.step_env(jax.random.key(0), state, action, params)
    return (observation, reward, terminated, view.is_truncated(state, params) & ~terminated, record), state


def _masked(record: Info, mask: np.ndarray) -> dict[str, Any]:
    """Each value where the mask is true and 0 elsewhere, followed by the mask under Gymnasium's name for it."""
    return {name: np.where(mask, value, 0) for name, value in record.items()} | {f"_{name}": mask for name in record}


def _convert(space: Box | Discrete) -> gymnasium.Space:
    if isinstance(space, Discrete):
        return gymnasium.spaces.Discrete(space.n)
    return gymnasium.spaces.Box(space.low, space.high, space.shape, np.float32)
