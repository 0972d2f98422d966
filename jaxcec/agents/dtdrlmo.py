"""DTDRLMO: DDPG assisted by a digital twin that learns timing (Algorithms 1 and 2)."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import DDPG
from jaxcec.agents.features import NODE_COLUMNS, Features
from jaxcec.agents.information import restricted
from jaxcec.agents.learner import Act
from jaxcec.agents.twin import Outcome, TimingModel, candidates, foreseen, input_size, timing_loss
from jaxcec.agents.types import AgentParams, AgentState, Learned, Transition
from jaxcec.env import Action, CECEnv, Observation, World
from jaxcec.policies import as_now, plan


class DTDRLMO(DDPG):
    """DDPG that executes every candidate in its twin before it chooses (Algorithm 2, lines 9 and 10).

    The twin is fitted in turn with critic and actor (lines 13 and 14).
    """

    learned = ("actor", "critic", "twin")
    levels = ("mirror", "state")

    def __init__(self, config: AgentConfig):
        super().__init__(config)
        self.reward_share = config.twin.reward
        self.model = TimingModel(config.twin.hidden)

    def init_params(self, key: chex.PRNGKey, features: Features) -> AgentParams:
        """DDPG's networks, and a twin that foresees hardly any waits."""
        key_twin = jax.random.split(key, 4)[2]
        inputs = jnp.zeros(input_size(features.nodes.shape[-1] - len(NODE_COLUMNS)))
        return super().init_params(key, features).replace(twin=self.model.init(key_twin, inputs))

    def foresee(
        self, params: AgentParams, observation: Observation, key: chex.PRNGKey | None = None
    ) -> tuple[Observation, chex.Array]:
        """What the twin foresees; with a key, a sample of what it deems possible."""
        seen = restricted(observation, self.level)
        shape = (seen.nodes.wait.shape[0], 2)
        noise = jnp.zeros(shape) if key is None else jax.random.normal(key, shape)
        inputs = candidates(seen)
        return foreseen(seen, self.model.apply(params.twin, inputs), noise), inputs

    def plan_in_twin(self, env: CECEnv) -> Act:
        """Try the actor's best nodes in the twin, which takes the following decisions too, and choose the best.

        The twin is the mirror, in which decisions are booked when the timing model foresees them to begin.
        """
        config = self.config.plan

        def decide(params: AgentParams, _: Observation, world: World, key: chex.PRNGKey) -> Action:
            def timing(observation: Observation, action: Action) -> tuple[chex.Array, chex.Array]:
                nodes = self.foresee(params, observation)[0].nodes
                return nodes.data_ready[action.host], nodes.wait[action.host]

            prefer = partial(self.preference, params)
            return plan(env, world, key, config=config, prefer=prefer, forecast=as_now, timing=timing).action

        return decide

    def learn(self, agent: AgentState, batch: Transition, single: Transition) -> Learned:
        """One step of the twin, then of DDPG's networks."""
        agent, of_twin = self.learn_outcomes(agent, single.outcome)
        agent, of_ddpg = super().learn(agent, batch, single)
        return agent, of_twin | of_ddpg

    def learn_outcomes(self, agent: AgentState, outcomes: Outcome) -> Learned:
        """One step of the twin."""
        return self.gradient_step(agent, "twin", lambda p: timing_loss(self.model, p, outcomes))
