"""First prices of the scorer, found by an evolution strategy over whole episodes.

The cost that a decision causes for later services appears over hundreds of decisions, and a critic sees it only through
the noise of everything else that happens until then. Changing the prices for a whole episode makes the cost visible at
once: each pair of episodes is the same episode under opposite perturbations (Salimans et al., Evolution strategies as a
scalable alternative to reinforcement learning, 2017; antithetic pairs and common random numbers). Gradient-based
learning starts from the prices found.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import encode, only_feasible
from jaxcec.agents.networks import PRICES, Prices, priced
from jaxcec.agents.sharding import constrain_leading_axis
from jaxcec.agents.types import AgentState
from jaxcec.env import CECEnv, EnvParams, EnvState, any_undecided
from jaxcec.policies import at_full_rate

_DEVIATION = 0.1  # of the perturbations of every price
_LEARNING_RATE = 0.05
_AVERAGED = 0.9  # share of the old average in the new one


class Evolution(struct.PyTreeNode):
    """A distribution of prices, and the state of the optimiser that moves it."""

    mean: chex.Array  # (D,)
    average: chex.Array  # (D,) moving average of the means: the result
    optimiser: optax.OptState
    generation: chex.Array  # () i32


def init_evolution(agent: AgentState) -> Evolution | None:
    """A distribution around the prices of an agent; None if its networks have no prices."""
    prices = _prices(agent)
    if prices is None:
        return None
    mean, _ = ravel_pytree(prices)
    return Evolution(mean, jnp.copy(mean), _optimiser().init(mean), jnp.int32(0))


def with_found_prices(agent: AgentState, evolution: Evolution) -> AgentState:
    """The agent with the prices found, in every network that has prices and in its target."""
    _, unravel = ravel_pytree(_prices(agent))

    def found(x: Any) -> Any:
        return x | {PRICES: unravel(jnp.copy(evolution.average))} if _has_prices(x) else x

    params, target = jax.tree.map(found, (agent.params, agent.target), is_leaf=_has_prices)
    return agent.replace(params=params, target=target)


def _prices(agent: AgentState) -> chex.ArrayTree | None:
    """The prices of the first network that has any."""
    return next((x[PRICES] for x in jax.tree.leaves(agent.params, is_leaf=_has_prices) if _has_prices(x)), None)


def _has_prices(x: Any) -> bool:
    return isinstance(x, dict) and PRICES in x


@partial(jax.jit, static_argnames=("env", "mesh"))
def evolve(
    env: CECEnv,
    params: EnvParams,
    config: AgentConfig,
    *,
    evolution: Evolution,
    key: chex.PRNGKey,
    mesh: Mesh | None = None,
) -> tuple[Evolution, chex.Array]:
    """One generation.

    Each pair has its own arrival rate, the scenario's times a number from 1 / `spread` to `spread`. So prices learn to
    depend on the load.

    Returns:
        The next distribution, and the () mean ACT of the episodes played, s.
    """
    key_episodes, key_noise, key_rates = jax.random.split(key, 3)
    pairs = config.evolution.pairs
    keys = jax.random.split(key_episodes, pairs)
    noise = jax.random.normal(key_noise, (pairs, evolution.mean.size))
    power = jax.random.uniform(key_rates, (pairs,), minval=-1.0, maxval=1.0)
    keys, noise, power = constrain_leading_axis(mesh, (keys, noise, power))
    prices = evolution.mean[None, None] + _DEVIATION * jnp.stack([noise, -noise], axis=1)
    rates = params.arrival_rate * config.evolution.spread**power
    act = _play(env, params, config, prices=prices, keys=keys, rates=rates)
    # As a share of the pair's own ACT: otherwise heavy episodes would outweigh all others.
    gain = (act[:, 0] - act[:, 1]) / jnp.sum(act, axis=1)
    slope = jnp.mean(gain[:, None] * noise, axis=0) / _DEVIATION
    updates, optimiser = _optimiser().update(slope, evolution.optimiser)
    mean = optax.apply_updates(evolution.mean, updates)
    average = _AVERAGED * evolution.average + (1.0 - _AVERAGED) * mean
    return Evolution(mean, average, optimiser, evolution.generation + 1), jnp.mean(act)


def _optimiser() -> optax.GradientTransformation:
    return optax.adam(_LEARNING_RATE, b1=0.8, b2=0.95)


def _play(
    env: CECEnv, params: EnvParams, config: AgentConfig, *, prices: chex.Array, keys: chex.PRNGKey, rates: chex.Array
) -> chex.Array:
    """ACT of whole episodes in which the cheapest node is always chosen, (pairs, 2) s.

    Args:
        env: the environment.
        params: its banks.
        config: the settings.
        prices: (pairs, 2, D).
        keys: (pairs,) each draws one episode, which both prices of the pair play.
        rates: (pairs,) services/s.
    """
    paired = jax.tree.map(lambda _: None, params).replace(arrival_rate=0)
    params = params.replace(arrival_rate=rates)
    observation, state = jax.vmap(env.reset_env, in_axes=(0, paired))(keys, params)
    state = jax.tree.map(lambda x: jnp.stack([x, x], axis=1), state)
    first = jax.tree.map(lambda x: x[0], observation)
    like = Prices().init(jax.random.key(0), encode(first))
    _, unravel = ravel_pytree(like["params"])

    def step(state: EnvState, prices: chex.Array, params: EnvParams) -> EnvState:
        features = encode(env.observe(keys[0], state, None, params))
        cost = priced(config, Prices().apply({"params": unravel(prices)}, features), features)
        node = jnp.argmax(only_feasible(-cost, features))
        return env.step_env(keys[0], state, at_full_rate(node), params)[1]

    both = jax.vmap(jax.vmap(step, in_axes=(0, 0, None)), in_axes=(0, 0, paired))
    state = jax.lax.while_loop(any_undecided, lambda s: both(s, prices, params), state)
    return jnp.mean(state.episode.completion, axis=-1)
