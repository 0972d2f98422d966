"""Whole episodes under a policy, in one compiled loop; every policy is scored by the same simulator."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import Action, CECEnv, EnvParams, EnvState, Observation, World, known_world
from jaxcec.policies import PlanConfig, Policy, Prefer, as_now, best_of_random, plan

Apply = Callable[[Any, Observation, World, chex.PRNGKey], Action]
Decide = Callable[[Observation, EnvState, chex.PRNGKey], Action]  # in all environments at once; it may read the future


class Contender(NamedTuple):
    """A policy with its parameters apart, so that new parameters need no new compilation."""

    name: str
    apply: Apply  # (params, observation, world, key) -> Action; the world is what is known, for whoever plans
    params: Any = None

    @classmethod
    def of_rule(cls, name: str, policy: Policy) -> Contender:
        """A policy without parameters."""
        return cls(name, _of_rule(policy))  # type: ignore[arg-type]  # a function is hashable

    @classmethod
    def of_agent(cls, name: str, act: Apply, params: Any) -> Contender:
        """A learned policy."""
        return cls(name, act, params)

    @classmethod
    def of_planner(cls, name: str, env: CECEnv, config: PlanConfig, prefer: Prefer) -> Contender:
        """Whoever plans in the known world, from a base policy."""
        return cls(name, _of_planner(env, config, prefer))

    @classmethod
    def of_random_plans(cls, name: str, env: CECEnv, config: PlanConfig) -> Contender:
        """Whoever begins the best of random plans in the known world."""
        return cls(name, _of_random_plans(env, config))


# Cached: one function for one policy, so that what is compiled for it is found again.
@functools.cache
def _of_rule(policy: Callable[[Observation, chex.PRNGKey], Action]) -> Apply:
    return lambda _params, observation, _world, key: policy(observation, key)


@functools.cache
def _of_planner(env: CECEnv, config: PlanConfig, prefer: Prefer) -> Apply:
    return lambda _params, _observation, world, key: plan(
        env, world, key, config=config, prefer=prefer, forecast=as_now
    )


@functools.cache
def _of_random_plans(env: CECEnv, config: PlanConfig) -> Apply:
    return lambda _params, _observation, world, key: best_of_random(env, world, key, config=config)


class Episodes(NamedTuple):
    """What was measured of each episode; (episodes,) each, and where everything ran."""

    act: chex.Array  # s
    decisions: chex.Array
    moved: chex.Array  # decisions for another host than the source's edge node
    merges: chex.Array  # timeline segments merged
    host: chex.Array | None  # (episodes, M, N) i16; None while they are played


MEASURES = Episodes._fields[:-1]  # one number of each episode


def episode_keys(seed: int, count: int) -> chex.PRNGKey:
    """(count,) keys: equal keys draw equal episodes, whatever the policy. This is what pairs comparisons."""
    return jax.random.split(jax.random.key(seed), count)


@functools.partial(jax.jit, static_argnames=("env", "apply"))
def rollout(env: CECEnv, env_params: EnvParams, *, apply: Apply, params: Any, keys: chex.PRNGKey) -> Episodes:
    """Play one episode per key to its end.

    Args:
        env: the environment.
        env_params: its banks.
        apply: the policy.
        params: its parameters.
        keys: (episodes,) each draws its episode, and the policy's own random numbers.
    """

    def decide(observation: Observation, state: EnvState, key: chex.PRNGKey) -> Action:
        return apply(params, observation, known_world(state, env_params), key)

    return play(env, env_params, jax.vmap(decide), keys)


def play(env: CECEnv, env_params: EnvParams, decide: Decide, keys: chex.PRNGKey) -> Episodes:
    """What `rollout` compiles."""
    observation, state = jax.vmap(env.reset_env, in_axes=(0, None))(keys, env_params)
    count = keys.shape[0]
    nothing = jnp.zeros(count, jnp.int32)
    start = Episodes(jnp.zeros(count), nothing, nothing, nothing, None)

    def running(carry: tuple) -> chex.Array:
        return ~jnp.all(jax.vmap(env.is_terminated)(carry[1]))

    def step(carry: tuple) -> tuple:
        observation, state, done, index = carry
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
        action = decide(observation, state, step_keys)
        source = jnp.argmax(observation.service.source, axis=-1)
        observation, state, _, _, info = jax.vmap(env.step_env, in_axes=(0, 0, 0, None))(
            step_keys, state, action, env_params
        )
        decided = info["decided"]
        done = Episodes(
            act=done.act + info["act"],
            decisions=done.decisions + decided.astype(jnp.int32),
            moved=done.moved + (decided & (info["host"] != source)).astype(jnp.int32),
            merges=info["merges"],
            host=None,
        )
        return observation, state, done, index + 1

    _, state, done, _ = jax.lax.while_loop(running, step, (observation, state, start, jnp.int32(0)))
    return done._replace(host=state.host)


def timed_rollout(
    env: CECEnv, env_params: EnvParams, contender: Contender, keys: chex.PRNGKey
) -> tuple[Episodes, float, float]:
    """`rollout` as numpy arrays, with its decisions/s once compiled, and the seconds compilation took."""
    begin = time.perf_counter()
    compiled = rollout.lower(env, env_params, apply=contender.apply, params=contender.params, keys=keys).compile()
    compile_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    episodes = jax.tree.map(np.asarray, compiled(env_params, params=contender.params, keys=keys))
    return episodes, float(episodes.decisions.sum()) / (time.perf_counter() - begin), compile_seconds
