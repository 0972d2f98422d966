"""A trained policy: what `train` returns, what a policy file holds, and what evaluation plays."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.learner import Act
from jaxcec.agents.learners import PlanInTwin, PolicyFunction, RuleOnForeseen, learner_for
from jaxcec.env import CECEnv
from jaxcec.evaluation.rollout import Contender
from jaxcec.policies import Policy


@dataclasses.dataclass(frozen=True)
class TrainedPolicy:
    """Settings and parameters of an agent, ready to act."""

    config: AgentConfig
    params: Any
    origin: str = ""  # how it was trained, for people to read

    def apply(self, env: CECEnv) -> Act:
        """The policy as a function of parameters, observation, known world and key."""
        return PolicyFunction(self.config, env)

    def planning_ahead(self, steps: int) -> TrainedPolicy:
        """The policy with another number of decisions that it simulates ahead, where it plans."""
        plan = dataclasses.replace(self.config.plan, steps=steps)
        return dataclasses.replace(self, config=self.config.replace(plan=plan))

    def contender(self, env: CECEnv, name: str | None = None) -> Contender:
        """The policy under a name, by default its algorithm's, to be played by `jaxcec.evaluation.rollout`."""
        return Contender(name or self.config.algorithm, self.apply(env), self.params, self.information)

    def rule_on_foreseen(self, name: str, rule: Policy) -> Contender:
        """A rule that decides on what this agent foresees; only the agent's twin has a part in it."""
        return Contender(name, RuleOnForeseen(self.config, rule), self.params, self.information)

    def plan_in_twin(self, env: CECEnv, name: str) -> Contender:
        """The policy of dtdrlmo that tries a few nodes ahead in its own twin: see `DTDRLMO.plan_in_twin`."""
        return Contender(name, PlanInTwin(self.config, env), self.params, self.information)

    def on_exact_times(self, env: CECEnv, name: str) -> Contender:
        """The actor, which sees the mechanism's exact answers in place of what its twin foresees."""
        config = self.config.replace(algorithm="ddpg", information="lookahead")
        return dataclasses.replace(self, config=config, params=self.params.replace(twin=None)).contender(env, name)

    @property
    def information(self) -> str:
        """What the policy sees, in words."""
        return learner_for(self.config).level + (" and twin" if self.params.twin is not None else "")
