"""Adapters of the views to gymnax 1.x, with gymnax's spaces and ids for `gymnax.make`.

register()
env, params = gymnax.make("CEC-calibrated-v0", view="continuous", num_services=5)
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxcec import registered_envs
from jaxcec.adapters.views import ContinuousView, DiscreteView, FlatView, make_view
from jaxcec.env.spaces import Box, Discrete
from jaxcec.env.types import EnvParams

try:
    import gymnax
    from gymnax.environments import spaces
except ImportError as error:
    raise ImportError(
        f"jaxcec.adapters.gymnax: {error}; pip install gymnax six (tested with gymnax 1.0.1, which needs six)"
    ) from error


class _GymnaxSpaces(FlatView):
    """A view whose spaces are gymnax's, which pass its `isinstance` tests."""

    def action_space(self, params: EnvParams | None = None) -> Any:
        """A gymnax Discrete or Box."""
        return _convert(super().action_space(params))

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """A gymnax Box."""
        return _convert(super().observation_space(params))


class GymnaxDiscrete(_GymnaxSpaces, DiscreteView):
    """DiscreteView with gymnax's spaces."""


class GymnaxContinuous(_GymnaxSpaces, ContinuousView):
    """ContinuousView with gymnax's spaces."""


def register() -> None:
    """Register every id of `jaxcec.registered_envs` with gymnax as `CEC-` and the id; idempotent.

    `gymnax.make` then accepts the further arguments of `jaxcec.adapters.make_view`.
    """
    for env_id in registered_envs:
        if f"CEC-{env_id}" not in gymnax.registered_envs:
            gymnax.register(f"CEC-{env_id}", partial(_make, env_id))


def _make(env_id: str, **settings: Any) -> FlatView:
    view = make_view(env_id, **settings)
    return {DiscreteView: GymnaxDiscrete, ContinuousView: GymnaxContinuous}[type(view)](**vars(view))


def _convert(space: Box | Discrete) -> Any:
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    return spaces.Box(space.low, space.high, space.shape, space.dtype)
