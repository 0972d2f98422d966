"""DDPG whose trained policy plans in the known mechanism, with a learned forecast of other tenants' load."""

from __future__ import annotations

from functools import partial

import chex
import jax

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import DDPG
from jaxcec.agents.features import Features, encode
from jaxcec.agents.forecast import fit_forecast, init_forecast, predict_load
from jaxcec.agents.learner import Act
from jaxcec.agents.networks import actor_output, relax, traffic_price
from jaxcec.agents.types import AgentParams
from jaxcec.env import Action, CECEnv, EnvParams, Observation, World
from jaxcec.policies import Preference, plan


class DTDRLMOPlan(DDPG):
    """Trained as DDPG. Its policy simulates a few candidates of the actor ahead, and takes the best."""

    def init_params(self, config: AgentConfig, key: chex.PRNGKey, features: Features) -> AgentParams:
        """DDPG's networks and a forecast that predicts no change."""
        key_forecast = jax.random.split(key, 4)[3]
        return super().init_params(config, key, features).replace(forecast=init_forecast(key_forecast))

    def fit_to_banks(self, params: AgentParams, env_params: EnvParams, key: chex.PRNGKey) -> AgentParams:
        """With the forecast fitted to the background traces."""
        return params.replace(forecast=fit_forecast(key, env_params.background))

    def policy(self, config: AgentConfig, env: CECEnv) -> Act:
        """Plan in the known world, with the actor as the base policy."""

        def decide(params: AgentParams, _: Observation, world: World, key: chex.PRNGKey) -> Action:
            forecast = partial(predict_load, params.forecast, sampled=config.plan.samples > 1)
            preference = partial(actor_preference, config, params)
            return plan(env, world, key, config=config.plan, prefer=preference, forecast=forecast)

        return decide


def actor_preference(config: AgentConfig, params: AgentParams, observation: Observation) -> Preference:
    """The actor's scores as the base policy of a plan; the toll is its price of the traffic."""
    features = encode(observation)
    output = actor_output(config, params.actor, features)
    action = relax(config, output)
    toll = traffic_price(params.actor, features) * observation.nodes.traffic
    return Preference(output.nodes, action.bandwidth, action.hold * config.max_hold, toll)
