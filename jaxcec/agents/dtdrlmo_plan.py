"""DDPG whose trained policy plans in the known mechanism, with a learned forecast of other tenants' load."""

from __future__ import annotations

from functools import partial

import chex
import jax

from jaxcec.agents.ddpg import DDPG
from jaxcec.agents.features import Features
from jaxcec.agents.forecast import fit_forecast, init_forecast, predict_load
from jaxcec.agents.learner import Act
from jaxcec.agents.types import AgentParams
from jaxcec.env import Action, CECEnv, EnvParams, Observation, World
from jaxcec.policies import plan


class DTDRLMOPlan(DDPG):
    """Trained as DDPG. Its policy simulates a few candidates of the actor ahead, and takes the best.

    It simulates the mechanism, and so knows its answers.
    """

    levels = ("lookahead",)

    def init_params(self, key: chex.PRNGKey, features: Features) -> AgentParams:
        """DDPG's networks and a forecast that predicts no change."""
        return super().init_params(key, features).replace(forecast=init_forecast(jax.random.split(key, 4)[3]))

    def fit_to_banks(self, params: AgentParams, env_params: EnvParams, key: chex.PRNGKey) -> AgentParams:
        """Fit the forecast to the background traces."""
        return params.replace(forecast=fit_forecast(key, env_params.background))

    def policy(self, env: CECEnv) -> Act:
        """Plan in the known world, with the actor as the base policy."""
        config = self.config.plan

        def decide(params: AgentParams, _: Observation, world: World, key: chex.PRNGKey) -> Action:
            forecast = partial(predict_load, params.forecast, sampled=config.samples > 1)
            prefer = partial(self.preference, params)
            return plan(env, world, key, config=config, prefer=prefer, forecast=forecast).action

        return decide
