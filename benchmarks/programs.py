"""The compiled programs whose speed is measured: environment alone, with an agent, full training."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcec.agents import AgentConfig, EvolutionConfig, Report, TrainedPolicy, encode, learner_for, train
from jaxcec.agents.sharding import ENV_AXIS, replicated
from jaxcec.env import Action, CECEnv, EnvParams, known_world
from jaxcec.evaluation import Contender
from jaxcec.policies import BASELINES
from jaxcec.scenarios import Scenario, make_env

AGENTS = {
    "actor": AgentConfig(algorithm="ddpg", information="lookahead"),
    "twin": AgentConfig(),
    "plan": AgentConfig(algorithm="dtdrlmo-plan"),
}
TRAINED = AgentConfig(evolution=EvolutionConfig(generations=0), warmup_steps=2)


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement: a rule, an agent or training, at a size."""

    what: str  # a rule of BASELINES, one of AGENTS, or `train`
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
    env, params, key = world(case, mesh)
    laid_out = NamedSharding(mesh, PartitionSpec(ENV_AXIS)) if mesh is not None else None
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


def world(case: Case, mesh: Mesh | None) -> tuple[CECEnv, EnvParams, jax.Array]:
    """The environment, its banks and a key; with a mesh, both of the latter on every device."""
    env, params = make_env(case.scenario(), "train")
    key = jax.random.key(0)
    return (env, params, key) if mesh is None else (env, *replicated(mesh, (params, key)))


def _contender(what: str, env: CECEnv, params: EnvParams) -> Contender:
    if what in BASELINES:
        return Contender.of_rule(what, BASELINES[what])
    observation, _ = env.reset_env(jax.random.key(1), params)
    untrained = learner_for(AGENTS[what]).init_params(jax.random.key(2), encode(observation))
    return TrainedPolicy(AGENTS[what], untrained).contender(env, what)


def training_speed(case: Case, steps: int, mesh: Mesh | None, *, seconds: float) -> dict[str, float]:
    """Decisions/s of full training in chunks of `steps` decisions per environment, not counting compilation."""
    env, params, key = world(case, mesh)
    times: list[float] = []  # s, of each chunk
    sizes: list[int] = []  # bytes of the environments' states

    def callback(report: Report) -> bool:
        if "decisions_per_s" in report.metrics:
            times.append(steps * case.num_envs / float(report.metrics["decisions_per_s"] or 0.0))
        states = jax.tree.leaves(report.state.runner.env_state)
        sizes[:] = [sum(x.nbytes for x in states)]
        return sum(times[1:]) > seconds

    train(
        env,
        params,
        TRAINED,
        num_envs=case.num_envs,
        total_decisions=2**62,
        key=key,
        callback=callback,
        validation_episodes=0,
        report_every=steps,
        mesh=mesh,
    )
    per_chunk = sum(times[1:]) / len(times[1:])
    return {
        "decisions_per_s": steps * case.num_envs / per_chunk,
        "compile_s": times[0] - per_chunk,
        "bytes_per_env": sizes[0] / case.num_envs,
    }
