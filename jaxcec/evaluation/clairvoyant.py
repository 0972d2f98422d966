"""Episodes of whoever knows the future, for policies to be held against."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, CECEnv, EnvParams, EnvState, Observation
from jaxcec.evaluation.rollout import Episodes, play
from jaxcec.policies import SearchConfig, follow_placement, search


def clairvoyant(
    env: CECEnv,
    env_params: EnvParams,
    played: Sequence[Episodes],
    config: SearchConfig,
    keys: chex.PRNGKey,
    search_key: chex.PRNGKey,
    report: Callable[[float], None] = lambda act: None,
) -> Episodes:
    """The episodes of `rollout`, each under the best placement that `policies.search` finds for it.

    A heuristic bound: no policy that places microservices on nodes at eta = 1, without hold, is known to beat it; it
    proves nothing of what is possible.

    Args:
        env: the environment.
        env_params: its banks.
        played: the same episodes under policies whose placements the search starts from. It is never worse than those
            that send at full rate without hold; of others, only where they place is taken over.
        config: how wide and how long the search is.
        keys: (episodes,) as `rollout` takes them: equal keys draw equal episodes.
        search_key: draws the changes.
        report: is told the mean ACT so far in s, after each generation.
    """
    states = jax.vmap(env.reset_env, in_axes=(0, None))(keys, env_params)[1]
    placed = jnp.stack([jnp.asarray(episodes.host) for episodes in played], axis=1)
    best, _ = search(env, env_params, states, config=config, placements=placed, key=search_key, report=report)
    return _replayed(env, env_params, best, keys)


@functools.partial(jax.jit, static_argnums=0)
def _replayed(env: CECEnv, env_params: EnvParams, placements: chex.Array, keys: chex.PRNGKey) -> Episodes:
    def decide(observation: Observation, state: EnvState, keys: chex.PRNGKey) -> Action:
        return jax.vmap(follow_placement, in_axes=(0, 0, None))(placements, state, env_params)

    return play(env, env_params, decide, keys)
