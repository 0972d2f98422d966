"""A trained policy: what `train` returns, what a policy file holds, and what evaluation plays."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.learner import Act
from jaxcec.agents.learners import PolicyFunction
from jaxcec.env import CECEnv
from jaxcec.evaluation.rollout import Contender


@dataclasses.dataclass(frozen=True)
class TrainedPolicy:
    """Settings and parameters of an agent, ready to act."""

    config: AgentConfig
    params: Any
    origin: str = ""  # how it was trained, for people to read

    def apply(self, env: CECEnv) -> Act:
        """The policy as a function of parameters, observation, known world and key."""
        return PolicyFunction(self.config, env)

    def contender(self, env: CECEnv, name: str | None = None) -> Contender:
        """The policy under a name, by default its algorithm's, to be played by `jaxcec.evaluation.rollout`."""
        return Contender(name or self.config.algorithm, self.apply(env), self.params)
