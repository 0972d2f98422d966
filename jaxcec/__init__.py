"""jaxcec: a vectorised simulator of collaborative edge computing, and the trainer of DTDRLMO.

`make` gives a registered environment; `jaxcec.env` is the simulator alone, and imports nothing else of the package.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxcec.env import CECEnv, EnvParams

__version__ = importlib.metadata.version("jaxcec")

# A version is raised whenever the same seed would give other episodes.
registered_envs = ("calibrated-v0", "paper-v0", "alibaba-calibrated-v0", "alibaba-paper-v0")


def make(env_id: str, split: str = "train", **changes: Any) -> tuple[CECEnv, EnvParams]:
    """A registered environment and its banks.

    Args:
        env_id: one of `registered_envs`.
        split: `train` or `test`.
        changes: fields of `jaxcec.scenarios.Scenario` to set otherwise.

    Raises:
        ValueError: an unknown id, split or value.
    """
    from jaxcec.scenarios import PAPER_SETTINGS, Scenario, make_env

    if env_id not in registered_envs:
        raise ValueError(f"env_id: got {env_id!r}; must be one of {', '.join(registered_envs)}")
    settings: dict[str, Any] = {"dataset": "alibaba"} if env_id.startswith("alibaba") else {}
    if env_id.endswith("paper-v0"):
        settings |= PAPER_SETTINGS
    return make_env(Scenario(**(settings | changes)), split)
