"""jaxcec: a vectorised simulator of collaborative edge computing, and the trainer of DTDRLMO.

`make` creates a registered environment. `jaxcec.env` is the simulator alone and imports nothing else of the package.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxcec.env import CECEnv, EnvParams

__version__ = importlib.metadata.version("jaxcec")

# Settings of `jaxcec.scenarios.Scenario`. An id gets the next version when the same seed would give other episodes.
_PAPER = {"name": "paper", "load": 0.5, "reward": "ready-to-finish"}
_SETTINGS: dict[str, dict[str, Any]] = {
    "calibrated-v0": {},
    "paper-v0": _PAPER,
    "alibaba-calibrated-v0": {"dataset": "alibaba"},
    "alibaba-paper-v0": {"dataset": "alibaba", **_PAPER},
}
# The same episodes, in which ties go to the microservice of the largest upward rank and a decision may be postponed.
_SETTINGS |= {
    env_id.replace("-v0", "-v1"): settings | {"ties": "rank", "postpone": True}
    for env_id, settings in _SETTINGS.items()
}
registered_envs = tuple(_SETTINGS)


def make(env_id: str, split: str = "train", **changes: Any) -> tuple[CECEnv, EnvParams]:
    """Create a registered environment and its banks.

    Args:
        env_id: one of `registered_envs`.
        split: `train` or `test`.
        changes: fields of `jaxcec.scenarios.Scenario` that replace those of the id.

    Returns:
        The environment, and its params, which are also `env.default_params`.

    Raises:
        ValueError: an unknown id, split or value.
    """
    from jaxcec.scenarios import Scenario, make_env  # not at the top, so that `jaxcec.env` can be imported alone

    if env_id not in _SETTINGS:
        raise ValueError(f"env_id: got {env_id!r}; must be one of {', '.join(registered_envs)}")
    return make_env(Scenario(**_SETTINGS[env_id] | changes), split)
