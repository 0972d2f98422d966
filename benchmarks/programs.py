"""The compiled programs whose speed is measured: environment alone, with an agent, full training."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxcec.agents.act import act

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import init_params
from jaxcec.agents.features import encode
from jaxcec.agents.sharding import replicated
from jaxcec.agents.training import init_runner, train_chunk, warm_up
from jaxcec.env import Action, CECEnv, EnvParams, known_world
from jaxcec.evaluation import Contender
from jaxcec.policies import BASELINES
from jaxcec.scenarios import Scenario, make_env

AGENTS = {
    "actor": AgentConfig(algorithm="ddpg"),
    "lookahead": AgentConfig(),
    "plan": AgentConfig(algorithm="dtdrlmo-plan"),
    "train": AgentConfig(),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement: a rule, an agent or training, at a size."""

    what: str  # a rule of BASELINES, or one of AGENTS
    num_envs: int = 4096
    num_services: int = 20  # M
    max_microservices: int = 50  # N
    num_nodes: int = 8  # V
    link_breakpoints: int = 126
    host_breakpoints: int = 94
    devices: str = "1"  # as train.py's

    def scenario(self) -> Scenario:
        """The calibrated scenario at this size."""
        sizes = {name: x for name, x in dataclasses.asdict(self).items() if name in Scenario.__dataclass_fields__}
        return Scenario(**sizes)


Chunk = jax.stages.Wrapped  # (state, key) -> state


def make_program(case: Case, steps: int, mesh: Mesh | None) -> tuple[Chunk, Any]:
    """A donated function (state, key) -> state that takes `steps` decisions in every environment, and a first state."""
    env, params = make_env(case.scenario(), "train")
    key = jax.random.key(0)
    if mesh is not None:
        params, key = replicated(mesh, (params, key))
    if case.what == "train":
        config = AGENTS["train"]
        runner, _ = warm_up(env, params, config, init_runner(env, params, config, case.num_envs, key, mesh), 2, mesh)
        return jax.jit(
            lambda runner, _: train_chunk(env, params, config, runner, steps, mesh)[0], donate_argnums=0
        ), runner

    laid_out = NamedSharding(mesh, PartitionSpec("env")) if mesh is not None else None
    state = jax.jit(jax.vmap(env.reset_env, in_axes=(0, None)), out_shardings=laid_out)(
        jax.random.split(key, case.num_envs), params
    )[1]
    contender = _contender(case.what, env, params)

    def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        def decide(state: Any, key: jax.Array) -> Action:
            observation = env.observe(key, state, None, params)
            return contender.apply(contender.params, observation, known_world(state, params), key)

        keys = jax.random.split(key, case.num_envs)
        action = jax.vmap(decide)(state, keys)
        _, state, reward, *_ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)
        return state, jnp.mean(reward)

    @partial(jax.jit, donate_argnums=0, out_shardings=laid_out)
    def chunk(state: Any, key: jax.Array) -> Any:
        return jax.lax.scan(step, state, jax.random.split(key, steps))[0]

    return chunk, state


def _contender(what: str, env: CECEnv, params: EnvParams) -> Contender:
    if what in BASELINES:
        return Contender.of_rule(what, BASELINES[what])
    observation, _ = env.reset_env(jax.random.key(1), params)
    return Contender(what, act(AGENTS[what], env), init_params(AGENTS[what], jax.random.key(2), encode(observation)))
