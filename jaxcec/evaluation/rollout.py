"""Whole episodes under a policy, in one compiled loop; the same simulator scores every policy."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import Action, CECEnv, EnvParams, EnvState, Observation, World, any_undecided, known_world
from jaxcec.policies import (
    BASELINES,
    EFT_PLAN,
    RANDOM_PLANS,
    PlanConfig,
    Policy,
    Prefer,
    as_now,
    best_of_random,
    plan,
    prefer_priced_finish,
)

Apply = Callable[[Any, Observation, World, chex.PRNGKey], Action]  # (params, observation, known world, key) -> Action
Decide = Callable[[Observation, EnvState, chex.PRNGKey], Action]  # for a batch of environments; may read the future
Carry = tuple[Observation, EnvState, dict[str, chex.Array], chex.Array]  # with the measures and the decision's index


class Contender(NamedTuple):
    """A named policy; its parameters are apart from its function, so new parameters need no new compilation.

    A learned policy is `Contender(name, apply, params)`; the class methods make the others.
    """

    name: str
    apply: Apply
    params: Any = None

    def play(self, env: CECEnv, env_params: EnvParams, keys: chex.PRNGKey) -> Episodes:
        """One episode per key to its end: see `rollout`."""
        return rollout(env, env_params, apply=self.apply, params=self.params, keys=keys)

    @classmethod
    def of_rule(cls, name: str, policy: Policy) -> Contender:
        """A policy without parameters."""
        return cls(name, _of_rule(policy))  # type: ignore[arg-type]  # a function is hashable

    @classmethod
    def of_planner(cls, name: str, env: CECEnv, *, config: PlanConfig, prefer: Prefer) -> Contender:
        """A policy that plans in the known world from a base policy: see `policies.plan`."""
        return cls(name, _of_planner(env, config, prefer))

    @classmethod
    def of_random_plans(cls, name: str, env: CECEnv, *, config: PlanConfig) -> Contender:
        """A policy that executes the first action of the best random plan: see `policies.best_of_random`."""
        return cls(name, _of_random_plans(env, config))


# Cached: equal arguments give the same function, for which JAX finds the compiled program again.
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


def baseline_contenders(env: CECEnv) -> list[Contender]:
    """Every policy that is not learned: the rules of `policies.BASELINES` and two planners.

    The planners are `eft-rollout`, a rollout of the rule `eft-priced`, and `best-of-random`.
    """
    rules = [Contender.of_rule(name, policy) for name, policy in BASELINES.items()]
    return [
        *rules,
        Contender.of_planner("eft-rollout", env, config=EFT_PLAN, prefer=prefer_priced_finish),
        Contender.of_random_plans("best-of-random", env, config=RANDOM_PLANS),
    ]


class Episodes(NamedTuple):
    """Measures of each episode, (episodes,) each, and the hosts that its microservices ran on."""

    act: chex.Array  # s
    decisions: chex.Array
    moved: chex.Array  # decisions for another host than the source's edge node
    merges: chex.Array  # timeline segments merged
    host: chex.Array  # (episodes, M, N) i16


MEASURES = Episodes._fields[:-1]  # one number of each episode


class Result(NamedTuple):
    """Episodes under one policy, as numpy arrays, and how long it took to play them."""

    episodes: Episodes
    seconds: float

    @classmethod
    def joined(cls, parts: Sequence[Result]) -> Result:
        """The result of several batches of episodes."""
        columns = zip(*(part.episodes for part in parts), strict=True)
        return cls(Episodes(*map(np.concatenate, columns)), sum(part.seconds for part in parts))

    @property
    def decisions_per_s(self) -> float:
        """Decisions of all episodes per second."""
        return float(self.episodes.decisions.sum()) / self.seconds

    @property
    def moved(self) -> float:
        """Share of decisions for another host than the source's edge node."""
        return float(self.episodes.moved.sum() / self.episodes.decisions.sum())


def episode_keys(seed: int, count: int) -> chex.PRNGKey:
    """(count,) keys, each of which draws one episode.

    Equal keys draw equal episodes under every policy, so comparisons of policies are paired.
    """
    return jax.random.split(jax.random.key(seed), count)


@functools.partial(jax.jit, static_argnames=("env", "apply"))
def rollout(env: CECEnv, env_params: EnvParams, *, apply: Apply, params: Any, keys: chex.PRNGKey) -> Episodes:
    """Play one episode per key to its end.

    Args:
        env: the environment.
        env_params: its banks.
        apply: the policy.
        params: its parameters.
        keys: (episodes,) each draws an episode and the policy's random numbers in it.
    """

    def decide(observation: Observation, state: EnvState, key: chex.PRNGKey) -> Action:
        return apply(params, observation, known_world(state, env_params), key)

    return play(env, env_params, decide=jax.vmap(decide), keys=keys)


def play(env: CECEnv, env_params: EnvParams, *, decide: Decide, keys: chex.PRNGKey) -> Episodes:
    """Play one episode per key to its end, with actions that may depend on the whole state.

    `rollout` calls this with a policy that sees the known world only. It is meant to be called within `jax.jit`.

    Args:
        env: the environment.
        env_params: its banks.
        decide: one action for each environment, from observations, states and keys, (episodes, ...) each.
        keys: (episodes,) as `rollout` takes them.
    """
    observation, state = jax.vmap(env.reset_env, in_axes=(0, None))(keys, env_params)
    count = keys.shape[0]
    start = {name: jnp.zeros(count, jnp.int32) for name in MEASURES} | {"act": jnp.zeros(count)}

    def step(carry: Carry) -> Carry:
        observation, state, measured, index = carry
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
        action = decide(observation, state, step_keys)
        source = jnp.argmax(observation.service.source, axis=-1)
        observation, state, _, _, info = jax.vmap(env.step_env, in_axes=(0, 0, 0, None))(
            step_keys, state, action, env_params
        )
        decided = info["decided"]
        measured = {
            "act": measured["act"] + info["act"],
            "decisions": measured["decisions"] + decided.astype(jnp.int32),
            "moved": measured["moved"] + (decided & (info["host"] != source)).astype(jnp.int32),
            "merges": info["merges"],
        }
        return observation, state, measured, index + 1

    _, state, measured, _ = jax.lax.while_loop(
        lambda carry: any_undecided(carry[1]), step, (observation, state, start, jnp.int32(0))
    )
    return Episodes(**measured, host=state.host)


def timed_rollout(env: CECEnv, env_params: EnvParams, contender: Contender, keys: chex.PRNGKey) -> Result:
    """`rollout` of a contender, with the time it took once compiled."""
    policy = {"params": contender.params, "keys": keys}
    compiled = rollout.lower(env, env_params, apply=contender.apply, **policy).compile()
    begin = time.perf_counter()
    episodes = jax.tree.map(np.asarray, compiled(env_params, **policy))
    return Result(episodes, time.perf_counter() - begin)
