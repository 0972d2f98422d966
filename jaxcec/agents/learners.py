"""The table of learning algorithms."""

from __future__ import annotations

import dataclasses
from typing import Any

import chex

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import DDPG
from jaxcec.agents.dqn import DQN
from jaxcec.agents.dtdrlmo import DTDRLMO
from jaxcec.agents.dtdrlmo_plan import DTDRLMOPlan
from jaxcec.agents.learner import Learner
from jaxcec.agents.ppo import PPO
from jaxcec.env import Action, CECEnv, Observation, World
from jaxcec.policies import Policy

LEARNERS: dict[str, type[Learner]] = {  # by the name that `AgentConfig.algorithm` gives; others may be added
    "dtdrlmo-plan": DTDRLMOPlan,
    "dtdrlmo": DTDRLMO,
    "ddpg": DDPG,
    "ppo": PPO,
    "dqn": DQN,
}


def learner_for(config: AgentConfig) -> Learner:
    """The algorithm that the settings name.

    Raises:
        ValueError: there is no such algorithm, or the settings do not suit it.
    """
    if config.algorithm not in LEARNERS:
        raise ValueError(f"agent.algorithm: got {config.algorithm!r}; must be one of {', '.join(LEARNERS)}")
    return LEARNERS[config.algorithm](config)


@dataclasses.dataclass(frozen=True)
class RuleOnForeseen:
    """A rule that decides on what a trained agent foresees, such as the earliest finish according to its twin."""

    config: AgentConfig
    rule: Policy

    def __call__(self, params: Any, observation: Observation, world: World, key: chex.PRNGKey) -> Action:
        return self.rule(learner_for(self.config).foresee(params, observation)[0], key)


@dataclasses.dataclass(frozen=True)
class PlanInTwin:
    """The plan of a trained dtdrlmo in its own twin."""

    config: AgentConfig
    env: CECEnv

    def __call__(self, params: Any, observation: Observation, world: World, key: chex.PRNGKey) -> Action:
        return DTDRLMO(self.config).plan_in_twin(self.env)(params, observation, world, key)


@dataclasses.dataclass(frozen=True)
class PolicyFunction:
    """A trained policy as a function of its parameters, for plain (hashable) settings.

    Equal settings and environments make equal functions, so that compiled programs are found again.
    """

    config: AgentConfig
    env: CECEnv

    def __call__(self, params: Any, observation: Observation, world: World, key: chex.PRNGKey) -> Action:
        return learner_for(self.config).policy(self.env)(params, observation, world, key)
