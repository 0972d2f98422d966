"""Adapters of the views to Gymnasium 1.x, vectorised and single: compiled code with a NumPy interface.

register()
envs = gymnasium.make_vec("jaxcec/calibrated-v0", num_envs=64, view="continuous")
"""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial
from numbers import Integral
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax._src.xla_bridge import backends_are_initialized  # there is no public equivalent

from jaxcec import registered_envs
from jaxcec.adapters.views import FlatView, make_view
from jaxcec.env.spaces import Box, Discrete
from jaxcec.env.types import EnvParams, EnvState, Info

try:
    import gymnasium
    from gymnasium.error import ResetNeeded
    from gymnasium.vector import AutoresetMode
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise ImportError(
        f"jaxcec.adapters.gymnasium: {error}; pip install jaxcec[gym] (tested with gymnasium 1.3.0)"
    ) from error

Options = dict[str, Any] | None
Stepped = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` vectorised copies of a view, with any of Gymnasium's three modes of auto-reset.

    - `SAME_STEP`: a copy whose episode ends begins the next one in the same step. `info["final_obs"]` is the last
      observation of the episode and `info["final_info"]` the record of its last decision, with Gymnasium's masks
      `_final_obs` and `_final_info`. The records of all other decisions are in `info` itself.
    - `NEXT_STEP`: it begins the next one in the next step, which ignores its action and has reward 0 and no record.
      Gymnasium's wrappers of observations need this mode or the next.
    - `DISABLED`: it must be reset with `options={"reset_mask": mask}` before the next step.

    `info["action_mask"]` has 1 for each edge node that can run the microservice to be decided next, otherwise 0.

    The mode is one of the above, or its value such as `NextStep`. The params are by default the view's.

    Raises:
        ValueError: an unknown mode.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(
        self,
        view: FlatView,
        num_envs: int,
        params: EnvParams | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        self.view, self.num_envs = view, num_envs
        self.params = view.checked(params)
        self.metadata = self.metadata | {"autoreset_mode": _mode(autoreset_mode)}
        self.single_observation_space = _convert(view.observation_space())
        self.single_action_space = _convert(view.action_space())
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._copies: tuple[chex.Array, EnvState, chex.PRNGKey] | None = None  # last observation, state and key of each
        self._ended = np.zeros(num_envs, bool)  # those not yet reset after the end of their episode

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode in every copy; equal seeds give equal episodes.

        Without a seed, the episodes follow those of the previous seed. With the option `reset_mask`, (num_envs,) bool,
        only these copies are reset. The others keep their state, and their last observation is returned.

        Raises:
            ValueError: an unknown option or an invalid mask.
            gymnasium.error.ResetNeeded: the first reset is not of all copies.
        """
        _check_process()
        mask = self._reset_mask(options)
        super().reset(seed=seed)
        return self._begin(mask), self._mask_of_copies()

    def step(self, actions: np.ndarray) -> Stepped:
        """Take one decision in each copy: observations, rewards, terminations, truncations (never both), info."""
        _check_process()
        if self._copies is None:
            raise ResetNeeded("step: there is no episode; call reset first")
        same_step = self.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        step = self._step_with_reset if same_step else self._step_without_reset
        observation, reward, terminated, truncated, info = step(*self._copies[1:], actions)
        return observation, reward, terminated, truncated, info | self._mask_of_copies()

    def action_masks(self) -> np.ndarray:
        """(num_envs, A) bool, the edge nodes that can run the current microservice of each copy, as sb3-contrib asks.

        Raises:
            gymnasium.error.ResetNeeded: there is no episode yet.
        """
        if self._copies is None:
            raise ResetNeeded("action_masks: there is no episode; call reset first")
        return np.array(_action_masks(self.view, self._copies[1], self.params))

    def _mask_of_copies(self) -> dict[str, np.ndarray]:
        """The entries of `info` with the mask for the next action."""
        return {"action_mask": self.action_masks().astype(np.int8), "_action_mask": np.ones(self.num_envs, bool)}

    def _reset_mask(self, options: Options) -> np.ndarray:
        """(num_envs,) bool: the copies to be reset."""
        check_options(options, ["reset_mask"])
        if not options:
            return np.ones(self.num_envs, bool)
        mask = np.asarray(options["reset_mask"])
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"reset_mask: got {mask.dtype} of shape {mask.shape} with {np.count_nonzero(mask)} true; must be bool "
                f"of shape ({self.num_envs},) with at least one true"
            )
        if self._copies is None and not mask.all():
            raise ResetNeeded("reset_mask: there are no episodes to keep; call reset without reset_mask first")
        return mask

    def _begin(self, mask: np.ndarray) -> np.ndarray:
        """Begin a new episode where the mask is true; the observations of all copies."""
        seeds = self.np_random.integers(2**32, size=self.num_envs, dtype=np.uint32)
        new = _reset(self.view, seeds, self.params)
        self._copies = new if self._copies is None or mask.all() else _select(mask, new, self._copies)
        self._ended = self._ended & ~mask
        return np.array(self._copies[0])

    def _step_with_reset(self, state: EnvState, keys: chex.PRNGKey, actions: np.ndarray) -> Stepped:
        returned, state, keys = _step(self.view, keys, state, actions, self.params)
        self._copies = returned[0], state, keys
        observation, reward, terminated, truncated, record = jax.tree.map(np.array, returned)
        last = record.pop("final_observation")
        ended = terminated | truncated
        info = _masked(record, ~ended)
        if ended.any():
            final = np.full(self.num_envs, None)
            for i in np.flatnonzero(ended):
                final[i] = last[i]
            info |= {"final_obs": final, "_final_obs": ended}
            info |= {"final_info": _masked(record, ended), "_final_info": ended}
        return observation, reward, terminated, truncated, info

    def _step_without_reset(self, state: EnvState, keys: chex.PRNGKey, actions: np.ndarray) -> Stepped:
        resting = self._ended
        if resting.any() and self.metadata["autoreset_mode"] is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"step: {np.count_nonzero(resting)} of {self.num_envs} episodes have ended; reset them with "
                "options={'reset_mask': terminated | truncated}"
            )
        returned, state = _step_each(self.view, state, actions, self.params)
        self._copies = returned[0], state, keys
        observation, reward, terminated, truncated, record = jax.tree.map(np.array, returned)
        terminated, truncated = terminated & ~resting, truncated & ~resting
        self._ended = terminated | truncated
        if resting.any():
            observation = self._begin(resting)
        return observation, np.where(resting, np.float32(0), reward), terminated, truncated, _masked(record, ~resting)


class GymnasiumEnv(gymnasium.Env):
    """A view as a single Gymnasium environment. For more than one, GymnasiumVectorEnv is much faster.

    `info["action_mask"]` has 1 for each edge node that can run the microservice to be decided next, otherwise 0. The
    params are by default the view's.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(self, view: FlatView, params: EnvParams | None = None) -> None:
        self.view = view
        self.params = view.checked(params)
        self.observation_space = _convert(view.observation_space())
        self.action_space = _convert(view.action_space())
        self._state: EnvState | None = None

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode; equal seeds give equal episodes. There are no options."""
        _check_process()
        check_options(options, [])
        super().reset(seed=seed)
        key = jax.random.key(self.np_random.integers(2**32, dtype=np.uint32))
        observation, self._state = self.view.reset_env(key, self.params)
        return np.array(observation), self._mask()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one decision: observation, reward, terminated, truncated (never both), record of the decision."""
        _check_process()
        if self._state is None:
            raise ResetNeeded("step: there is no episode; call reset first")
        returned, self._state = _step_once(self.view, self._state, action, self.params)
        observation, reward, terminated, truncated, record = jax.tree.map(np.array, returned)
        return observation, float(reward), bool(terminated), bool(truncated), record | self._mask()

    def _mask(self) -> dict[str, np.ndarray]:
        """The entry of `info` with the mask for the next action, as `action_space.sample` takes it."""
        return {"action_mask": np.array(self.view.action_mask(self._state, self.params)).astype(np.int8)}


def register() -> None:
    """Register every id of `jaxcec.registered_envs` with Gymnasium as `jaxcec/` and the id; idempotent.

    `gymnasium.make` and `make_vec` then accept the further arguments of `jaxcec.adapters.make_view`, and `make_vec`
    also `max_episode_steps` and `autoreset_mode`.
    """
    for env_id in registered_envs:
        if f"jaxcec/{env_id}" not in gymnasium.registry:
            gymnasium.register(
                f"jaxcec/{env_id}", entry_point=partial(_make, env_id), vector_entry_point=partial(_make_vec, env_id)
            )


def check_options(options: Options, allowed: Collection[str]) -> None:
    """Check the names of the options of a reset.

    Raises:
        ValueError: an option is not allowed.
    """
    for name in options or {}:
        if name not in allowed:
            raise ValueError(
                f"options: got {name!r}; {'must be ' + ', '.join(allowed) if allowed else 'there are none'}"
            )


def _make(env_id: str, **settings: Any) -> GymnasiumEnv:
    _check_process()
    return GymnasiumEnv(make_view(env_id, **settings))


def _make_vec(
    env_id: str,
    num_envs: int,
    max_episode_steps: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    **settings: Any,
) -> GymnasiumVectorEnv:
    _check_process()
    view = make_view(env_id, **settings)
    params = view.default_params
    if max_episode_steps is not None:
        most = np.iinfo(np.int32).max
        if not isinstance(max_episode_steps, Integral) or not 1 <= max_episode_steps <= most:
            raise ValueError(f"max_episode_steps: got {max_episode_steps!r}; must be an integer from 1 to {most}")
        params = params.replace(max_steps_in_episode=jnp.int32(max_episode_steps))
    return GymnasiumVectorEnv(view, num_envs, params, autoreset_mode)


def _mode(autoreset_mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(autoreset_mode)
    except ValueError:
        allowed = ", ".join(mode.value for mode in AutoresetMode)
        raise ValueError(f"autoreset_mode: got {autoreset_mode!r}; must be one of {allowed}") from None


_jax_process: int | None = None  # the process that was forked first after JAX had started


def _before_fork() -> None:
    global _jax_process
    if _jax_process is None and backends_are_initialized():
        _jax_process = os.getpid()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(before=_before_fork)


def _check_process() -> None:
    """Raise an error where JAX would wait for ever for the threads that a fork did not copy."""
    if _jax_process not in (None, os.getpid()):
        raise RuntimeError(
            "jaxcec: JAX cannot run in a process forked after it had started; use GymnasiumVectorEnv, or "
            'AsyncVectorEnv(..., context="spawn")'
        )


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
def _action_masks(view: FlatView, state: EnvState, params: EnvParams) -> chex.Array:
    return jax.vmap(view.action_mask, in_axes=(0, None))(state, params)


@jax.jit
def _select(mask: chex.Array, new: Any, old: Any) -> Any:
    """For each copy, `new` where the mask is true and `old` elsewhere."""
    return jax.vmap(lambda one, *both: jax.tree.map(partial(jnp.where, one), *both))(mask, new, old)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step_each(
    view: FlatView, state: EnvState, actions: chex.Array, params: EnvParams
) -> tuple[tuple[Any, ...], EnvState]:
    return jax.vmap(partial(_step_once, view), in_axes=(0, 0, None))(state, actions, params)


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
