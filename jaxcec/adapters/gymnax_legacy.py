"""The views with gymnax 0.0.x's five-value step, for trainers that expect it: rejax, PureJaxRL, Stoa.

Five values cannot tell a time limit from an end: `done` is either, and only `info` knows which.
"""

from __future__ import annotations

import chex

from jaxcec.adapters.gymnax import GymnaxContinuous, GymnaxDiscrete
from jaxcec.adapters.views import FlatView
from jaxcec.env.types import EnvParams, EnvState, Info


class _FiveValues(FlatView):
    def step(  # type: ignore[override]  # one value less is the point
        self, key: chex.PRNGKey, state: EnvState, action: chex.Array, params: EnvParams | None = None
    ) -> tuple[chex.Array, EnvState, chex.Array, chex.Array, Info]:
        """Observation, state, reward, () bool done (terminated or truncated), info. Resets by itself."""
        seen, state, reward, terminated, truncated, info = super().step(key, state, action, params)
        return seen, state, reward, terminated | truncated, info


class LegacyDiscrete(_FiveValues, GymnaxDiscrete):
    """GymnaxDiscrete whose step returns five values."""


class LegacyContinuous(_FiveValues, GymnaxContinuous):
    """GymnaxContinuous whose step returns five values."""
