"""Adapter of the views to jax-envelope: `envelope.create("jaxcec::calibrated-v0")` finds it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec import registered_envs
from jaxcec.adapters.views import FlatView, make_view
from jaxcec.env.spaces import Box, Discrete
from jaxcec.env.types import EnvParams, EnvState

try:
    import envelope
except ImportError as error:
    raise ImportError(
        f"jaxcec.adapters.envelope: {error}; pip install jax-envelope (tested with 0.6.1), from Python 3.12 on"
    ) from error


class JaxcecEnvelope(envelope.Environment):
    """A view as an envelope environment, without time limit or auto-reset, which envelope's wrappers add.

    In addition to envelope's fields, `info` has the record of the decision as `backend`, all zeros after `init`.
    """

    view: FlatView = envelope.static_field()
    params: EnvParams = envelope.field()

    @classmethod
    def registered_names(cls) -> tuple[str, ...]:
        """The names that `envelope.registered_environments("jaxcec")` lists."""
        return registered_envs

    @classmethod
    def from_name(cls, env_name: str, env_kwargs: dict[str, Any] | None = None) -> JaxcecEnvelope:
        """Constructor for `envelope.create`; `env_kwargs` are further arguments of `jaxcec.adapters.make_view`."""
        view = make_view(env_name, **(env_kwargs or {}))
        return cls(view=view, params=view.default_params)

    @property
    def default_max_steps(self) -> int | None:
        """The time limit that `envelope.create` adds, or None if the params set no limit."""
        limit = int(self.params.max_steps_in_episode)
        return None if limit == np.iinfo(np.int32).max else limit

    def init(self, key: chex.PRNGKey) -> tuple[EnvState, envelope.InfoContainer]:
        """Begin a new episode."""
        observation, state = self.view.reset_env(key, self.params)
        action = jax.eval_shape(self.action_space.sample, key)
        record = jax.eval_shape(self.view.step_env, key, state, action, self.params)[-1]
        record = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), record)
        return state, _info(observation, jnp.float32(0.0), self.view.is_terminated(state), record)

    def step(self, state: EnvState, action: chex.Array) -> tuple[EnvState, envelope.InfoContainer]:
        """Take one decision."""
        key = jax.random.key(0)  # The dynamics draw nothing.
        observation, state, reward, terminated, record = self.view.step_env(key, state, action, self.params)
        return state, _info(observation, reward, terminated, record)

    @cached_property
    def observation_space(self) -> envelope.Space:
        """A Continuous space."""
        return _convert(self.view.observation_space())

    @cached_property
    def action_space(self) -> envelope.Space:
        """A Discrete or Continuous space."""
        return _convert(self.view.action_space())


def _info(
    observation: chex.Array, reward: chex.Array, terminated: chex.Array, record: dict[str, chex.Array]
) -> envelope.InfoContainer:
    truncated = jnp.zeros_like(terminated)
    info = envelope.InfoContainer(obs=observation, reward=reward, terminated=terminated, truncated=truncated)
    return info.update(backend=envelope.Container().update(**record))


def _convert(space: Box | Discrete) -> envelope.Space:
    if isinstance(space, Discrete):
        return envelope.Discrete(n=jnp.int32(space.n))
    return envelope.Continuous.from_shape(space.low, space.high, space.shape)
