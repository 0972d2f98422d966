"""First prices of the scorer, and its patience, found by an evolution strategy over whole episodes.

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
from jaxcec.agents.features import encode, only_feasible, pace_of
from jaxcec.agents.learner import Learner
from jaxcec.agents.learners import learner_for
from jaxcec.agents.networks import PATIENCE, PRICES, Prices, has_prices, patience_of, priced, prices_of
from jaxcec.agents.sharding import constrain_leading_axis, number_of_groups, sharding_of
from jaxcec.agents.twin import Outcome, outcome_of
from jaxcec.agents.types import AgentParams, AgentState, Learned, Metrics
from jaxcec.env import CECEnv, EnvParams, EnvState, any_undecided
from jaxcec.evaluation.rollout import decisions_of, never_postponed_late
from jaxcec.policies import at_full_rate, give_way

_DEVIATION = 0.1  # of the perturbations of every price
_OPTIMISER = optax.adam(0.05, b1=0.8, b2=0.95)
_AVERAGED = 0.9  # share of the old average in the new one
_RECORDED = 4  # one step of so many is recorded for the twin
_LEAST_BATCH = 256  # outcomes in a gradient step
_GROUPS = 6  # of pairs, at most: see `_play`
_FITTED = 128  # gradient steps of the twin after each generation; together they draw as many outcomes as were recorded


class Evolution(struct.PyTreeNode):
    """A distribution of prices and patience, and the state of the optimiser that moves it."""

    mean: chex.Array  # (D,)
    average: chex.Array  # (D,) moving average of the means: the result
    optimiser: optax.OptState
    generation: chex.Array  # () i32


def init_evolution(agent: AgentState) -> Evolution | None:
    """A distribution around the prices of an agent; None if its networks have no prices."""
    prices = prices_of(agent.params)
    if prices is None:
        return None
    mean, _ = ravel_pytree(prices)
    return Evolution(mean, jnp.copy(mean), _OPTIMISER.init(mean), jnp.int32(0))


def with_found_prices(agent: AgentState, evolution: Evolution) -> AgentState:
    """The agent with the prices found, in every network that has prices and in its target."""
    _, unravel = ravel_pytree(prices_of(agent.params))

    def found(x: Any) -> Any:
        return x | {PRICES: unravel(jnp.copy(evolution.average))} if has_prices(x) else x

    params, target = jax.tree.map(found, (agent.params, agent.target), is_leaf=has_prices)
    return agent.replace(params=params, target=target)


@partial(jax.jit, static_argnames=("env", "mesh"))
def evolve(
    env: CECEnv,
    params: EnvParams,
    config: AgentConfig,
    *,
    agent: AgentState,
    evolution: Evolution,
    key: chex.PRNGKey,
    mesh: Mesh | None = None,
) -> tuple[AgentState, Evolution, Metrics]:
    """One generation: whole episodes under perturbed prices, and then a learned twin is fitted to their decisions.

    Each pair has its own arrival rate, the scenario's times a number from `slowest` to `fastest`. So prices learn to
    depend on the load.

    Returns:
        The agent, whose twin alone has changed, the next distribution, and metrics: `act`, the () mean ACT of the
        episodes played, s, and those of the twin.
    """
    key_episodes, key_noise, key_rates, key_twin = jax.random.split(key, 4)
    settings, pairs = config.evolution, config.evolution.pairs
    keys = jax.random.split(key_episodes, pairs)
    noise = jax.random.normal(key_noise, (pairs, evolution.mean.size)) * _moved(config, agent)[None]
    power = jax.random.uniform(key_rates, (pairs,))
    prices = evolution.mean[None, None] + _DEVIATION * jnp.stack([noise, -noise], axis=1)
    rates = params.arrival_rate * settings.slowest * (settings.fastest / settings.slowest) ** power
    episodes = {"agent": agent.params, "prices": prices, "keys": keys, "rates": rates}
    groups = number_of_groups(pairs, mesh, most=_GROUPS)
    act, outcomes = _play(env, params, config, **episodes, groups=groups, mesh=mesh)
    # As a share of the pair's own ACT: otherwise heavy episodes would outweigh all others.
    gain = (act[:, 0] - act[:, 1]) / jnp.sum(act, axis=1)
    slope = jnp.mean(gain[:, None] * noise, axis=0) / _DEVIATION
    updates, optimiser = _OPTIMISER.update(slope, evolution.optimiser)
    mean = optax.apply_updates(evolution.mean, updates)
    average = _AVERAGED * evolution.average + (1.0 - _AVERAGED) * mean
    agent, of_twin = _fit_twin(learner_for(config), agent, outcomes=outcomes, key=key_twin)
    if mesh is not None:
        agent = jax.lax.with_sharding_constraint(agent, sharding_of(mesh, agent))
    return agent, Evolution(mean, average, optimiser, evolution.generation + 1), {"act": jnp.mean(act)} | of_twin


def _moved(config: AgentConfig, agent: AgentState) -> chex.Array:
    """(D,) 1 for what is perturbed, 0 for the patience of an agent that does not postpone."""
    ones = jax.tree.map(jnp.ones_like, prices_of(agent.params))
    patience = ones[PATIENCE] * float(config.postpone)
    return ravel_pytree(ones | {PATIENCE: patience})[0]


def _play(
    env: CECEnv,
    params: EnvParams,
    config: AgentConfig,
    *,
    agent: AgentParams,
    prices: chex.Array,
    keys: chex.PRNGKey,
    rates: chex.Array,
    groups: int = 1,
    mesh: Mesh | None = None,
) -> tuple[chex.Array, Outcome | None]:
    """`_play_together` in groups of pairs with similar numbers of decisions, one group after the other."""
    order = jnp.argsort(decisions_of(env, params, keys))

    def together(rows: chex.Array) -> tuple[chex.Array, Outcome | None]:
        of_group = constrain_leading_axis(mesh, {"prices": prices[rows], "keys": keys[rows], "rates": rates[rows]})
        return _play_together(env, params, config, agent=agent, **of_group)

    act, outcomes = jax.lax.map(together, order.reshape(groups, -1))
    place = jnp.argsort(order)  # of each pair in the groups

    def in_one(rows: chex.Array) -> chex.Array:
        return jnp.moveaxis(rows, 0, 1).reshape(rows.shape[1], order.size, *rows.shape[3:])[:, place]

    return act.reshape(order.size, 2)[place], jax.tree.map(in_one, outcomes)


def _play_together(
    env: CECEnv,
    params: EnvParams,
    config: AgentConfig,
    *,
    agent: AgentParams,
    prices: chex.Array,
    keys: chex.PRNGKey,
    rates: chex.Array,
) -> tuple[chex.Array, Outcome | None]:
    """Whole episodes in which the node that is cheapest, as the agent foresees it, is always chosen.

    Each of the (pairs,) keys draws one episode, which both prices of a pair, (pairs, 2, D), play at the pair's rate,
    (pairs,) services/s.

    Returns:
        (pairs, 2) s ACT, and the outcomes of one decision of every _RECORDED, (T, pairs, 2, ...); None without a twin.
    """
    learner = learner_for(config)
    paired = jax.tree.map(lambda _: None, params).replace(arrival_rate=0)
    params = params.replace(arrival_rate=rates)
    observation, state = jax.vmap(env.reset_env, in_axes=(0, paired))(keys, params)
    state = jax.tree.map(lambda x: jnp.stack([x, x], axis=1), state)
    first = jax.tree.map(lambda x: x[0], observation)
    _, unravel = ravel_pytree(Prices().init(jax.random.key(0), encode(first))["params"])

    def step(
        state: EnvState, prices: chex.Array, params: EnvParams, index: chex.Array
    ) -> tuple[EnvState, Outcome | None]:
        seen, candidates = learner.foresee(agent, env.observe(keys[0], state, None, params))
        features, found = encode(seen), unravel(prices)
        cost = priced(config, Prices().apply({"params": found}, features), features)
        action = at_full_rate(jnp.argmax(only_feasible(-cost, features)))
        if config.postpone:
            action = never_postponed_late(env, give_way(action, seen, patience_of(found, pace_of(seen))), index)
        _, state, _, _, info = env.step_env(keys[0], state, action, params)
        return state, outcome_of(None if candidates is None else candidates[action.host], action, info, pace_of(seen))

    both = jax.vmap(jax.vmap(step, in_axes=(0, 0, None, None)), in_axes=(0, 0, paired, None))
    most = env.config.num_services * env.config.max_microservices
    shapes = jax.eval_shape(lambda: both(state, prices, params, jnp.int32(0))[1])
    outcomes = jax.tree.map(lambda x: jnp.zeros((-(-most // _RECORDED), *x.shape), x.dtype), shapes)

    def advance(carry: tuple[EnvState, Outcome | None, chex.Array]) -> tuple[EnvState, Outcome | None, chex.Array]:
        state, outcomes, index = carry
        state, outcome = both(state, prices, params, index)
        return state, _recorded(outcomes, outcome, index // _RECORDED), index + 1

    state, outcomes, _ = jax.lax.while_loop(
        lambda carry: any_undecided(carry[0]), advance, (state, outcomes, jnp.int32(0))
    )
    return jnp.mean(state.episode.completion, axis=-1), outcomes


def _recorded(outcomes: Outcome | None, outcome: Outcome | None, row: chex.Array) -> Outcome | None:
    """Outcomes with those of one step in a row, modulo their number; what was not decided leaves the old ones."""
    if outcomes is None or outcome is None:
        return None
    row %= outcomes.weight.shape[0]  # with postponed decisions, an episode has more steps than microservices
    decided = outcome.weight > 0.0

    def write(rows: chex.Array, new: chex.Array) -> chex.Array:
        return rows.at[row].set(jnp.where(jnp.expand_dims(decided, range(decided.ndim, new.ndim)), new, rows[row]))

    return jax.tree.map(write, outcomes, outcome)


def _fit_twin(learner: Learner, agent: AgentState, *, outcomes: Outcome | None, key: chex.PRNGKey) -> Learned:
    """The agent with its twin fitted to outcomes, and metrics of the twin before that, on outcomes new to it."""
    if outcomes is None:
        return agent, {}
    rows, pairs = outcomes.weight.shape[:2]
    size = max(rows * pairs * 2 // _FITTED, _LEAST_BATCH)

    def one_step(agent: AgentState, key: chex.PRNGKey) -> Learned:
        ends = zip(jax.random.split(key, 3), (rows, pairs, 2), strict=True)
        drawn = tuple(jax.random.randint(key, (size,), 0, end) for key, end in ends)
        return learner.learn_outcomes(agent, jax.tree.map(lambda x: x[drawn], outcomes))

    agent, metrics = jax.lax.scan(one_step, agent, jax.random.split(key, _FITTED))
    return agent, jax.tree.map(lambda x: x[0], metrics)
