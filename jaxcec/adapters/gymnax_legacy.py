"""Adapters of the views to the five-value step of gymnax 0.0.x, which rejax, PureJaxRL and Stoa expect.

Five values do not distinguish termination from truncation: `done` is either, and only `info` says which.
"""

from __future__ import annotations

import chex

from jaxcec.adapters.gymnax import GymnaxContinuous, GymnaxDiscrete
from jaxcec.adapters.views import FlatView
from jaxcec.env.types import EnvParams, EnvState, Info


class _FiveValues(FlatView):
    def step(  # type: ignore[override]  # deliberately one value less
        self, key: chex.PRNGKey, state: EnvState, action: chex.Array, params: EnvParams | None = None
    ) -> tuple[chex.Array, EnvState, chex.Array, chex.Array, Info]:
        """Take one decision, with auto-reset: observation, state, reward, () bool terminated or truncated, info."""
        observation, state, reward, terminated, truncated, info = super().step(key, state, action, params)
        return observation, state, reward, terminated | truncated, info


class LegacyDiscrete(_FiveValues, GymnaxDiscrete):
    """GymnaxDiscrete whose step returns five values."""


class LegacyContinuous(_FiveValues, GymnaxContinuous):
    """GymnaxContinuous whose step returns five values."""
