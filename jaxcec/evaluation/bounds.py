"""What policies are compared with: a lower bound of ACT, and episodes under a search that knows the future."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, CECEnv, EnvParams, EnvState, Observation, check_params
from jaxcec.evaluation.measures import STANDARD, MeasureConfig, service_bounds
from jaxcec.evaluation.rollout import Episodes, play
from jaxcec.policies import SearchConfig, Timetable, follow_timetable, search


@functools.partial(jax.jit, static_argnames="env")
def lower_bounds(env: CECEnv, env_params: EnvParams, keys: chex.PRNGKey) -> chex.Array:
    """(episodes,) s that no policy's ACT is below in the episodes of `rollout`: the mean of `service_bounds`."""
    states = jax.vmap(env.reset_env, in_axes=(0, None))(keys, env_params)[1]
    return jnp.mean(jax.vmap(service_bounds, in_axes=(0, None))(states, env_params), axis=-1)


def clairvoyant(
    env: CECEnv,
    env_params: EnvParams,
    keys: chex.PRNGKey,
    *,
    played: Sequence[Episodes],
    config: SearchConfig,
    search_key: chex.PRNGKey,
    report: Callable[[float], None] = lambda act: None,
    measuring: MeasureConfig = STANDARD,
) -> Episodes:
    """The episodes of `rollout`, each under the best timetable that `policies.search` finds for it.

    The bound is heuristic: no policy that runs microservices on edge nodes at full rate (eta = 1) is known to beat it,
    but it is no proof of what is possible.

    Args:
        env: the environment, with `env_params`, its banks.
        keys: (episodes,) as `rollout` takes them: equal keys draw equal episodes.
        played: the same episodes under other policies; the search starts from their hosts and times of decision. The
            result is, up to rounding, never worse than a policy that sends at full rate without hold.
        config: size of the population and number of generations.
        search_key: draws the changes.
        report: receives the mean ACT so far in s after each generation.
        measuring: numbers that the measures depend on.

    Raises:
        ValueError: see `env.check_params`.
    """
    check_params(env.config, env_params)
    states = jax.vmap(env.reset_env, in_axes=(0, None))(keys, env_params)[1]
    host, due = (jnp.stack([getattr(x, name) for x in played], axis=1) for name in ("host", "decided_at"))
    # Also each placement at once: what a policy decided late because its flows were slow is decided earlier here.
    host, due = jnp.concatenate([host, host], axis=1), jnp.concatenate([due, jnp.zeros_like(due)], axis=1)
    start = Timetable(host, due, hold=jnp.zeros_like(due))
    best, _ = search(env, env_params, states, config=config, timetables=start, key=search_key, report=report)
    return _replayed(env, env_params, best, keys=keys, measuring=measuring)


@functools.partial(jax.jit, static_argnames="env")
def _replayed(
    env: CECEnv, env_params: EnvParams, timetables: Timetable, *, keys: chex.PRNGKey, measuring: MeasureConfig
) -> Episodes:
    def decide(observation: Observation, state: EnvState, keys: chex.PRNGKey) -> Action:
        return jax.vmap(follow_timetable, in_axes=(0, 0, None))(timetables, state, env_params)

    return play(env, env_params, decide=decide, keys=keys, measuring=measuring)
