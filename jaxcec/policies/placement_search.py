"""A search over whole placements in the simulator that knows all future services and loads.

A genetic algorithm for matching and scheduling (Wang, Siegel, Roychowdhury and Maciejewski, JPDC 1997) with the
simulated ACT as fitness. It shows how much online policies might still gain. The bound is heuristic: no policy that
places microservices on edge nodes, at full rate and without hold, is known to beat it, but there is no proof that none
can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxcec.checks import check_numbers
from jaxcec.env import Action, CECEnv, EnvParams, EnvState, any_undecided
from jaxcec.env.dag import current_decision
from jaxcec.policies.baselines import at_full_rate

MATING = 0.5  # share of the children that take services from a second parent
SERVICES_TAKEN = 0.3  # share of the services that they take
MOST_CHANGES = 8.0  # expected microservices of a child that move at random: log-uniform from 1 to this


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Size of the population and number of generations."""

    population: int = 32  # placements of each episode
    generations: int = 200

    def __post_init__(self) -> None:
        check_numbers(self, "search.", least={"population": 2, "generations": 0})


class Population(NamedTuple):
    """P placements of each of B episodes."""

    placements: chex.Array  # (B, P, M, N) i16, the host of each microservice
    act: chex.Array  # (B, P) s

    @property
    def best(self) -> tuple[chex.Array, chex.Array]:
        """(B, M, N) i16 and its ACT (B,) s."""
        index = jnp.argmin(self.act, axis=1)
        return jax.vmap(lambda rows, i: rows[i])(self.placements, index), jnp.min(self.act, axis=1)


def search(
    env: CECEnv,
    params: EnvParams,
    states: EnvState,
    *,
    config: SearchConfig,
    placements: chex.Array,
    key: chex.PRNGKey,
    report: Callable[[float], None] = lambda act: None,
) -> tuple[chex.Array, chex.Array]:
    """The best placements found for whole episodes; never worse than those that the search starts from.

    Args:
        env: the simulator.
        params: the banks.
        states: (B, ...) as episodes begin.
        config: population and generations.
        placements: (B, P0, M, N) to start from, such as `EnvState.host` after an episode under a policy. Those beyond
            the population are dropped, the worst first.
        key: draws the changes.
        report: receives the best ACT so far, mean over episodes in s, after each generation.

    Returns:
        (B, M, N) i16 placements, and their ACT (B,) in s.
    """
    population = populate(env, params, states, placements=placements, size=config.population)
    for generation_key in jax.random.split(key, config.generations):
        population = next_generation(env, params, states, population=population, key=generation_key)
        report(float(jnp.mean(population.best[1])))
    return population.best


@partial(jax.jit, static_argnames=("env", "size"))
def populate(env: CECEnv, params: EnvParams, states: EnvState, *, placements: chex.Array, size: int) -> Population:
    """The first population: the given placements from the best to the worst, repeated until there are `size`."""
    act, placements = simulated_act(env, params, states, placements=placements)
    order = jnp.resize(jnp.argsort(act, axis=1).T, (size, act.shape[0])).T
    return jax.vmap(lambda rows, act, i: Population(rows[i], act[i]))(placements, act, order)


@partial(jax.jit, static_argnums=0)
def next_generation(
    env: CECEnv, params: EnvParams, states: EnvState, *, population: Population, key: chex.PRNGKey
) -> Population:
    """One generation: a child replaces its parent only if its ACT is less; then the best replaces the worst."""
    microservices = params.dags.size[params.arrivals.dag[states.episode.arrivals]].sum(axis=1)
    mate_key, change_key = jax.random.split(key)
    children = _changed(
        _mated(population, mate_key), change_key, microservices=microservices, num_nodes=env.config.num_nodes
    )
    act, children = simulated_act(env, params, states, placements=children)
    better = act < population.act
    placements = jnp.where(better[..., None, None], children, population.placements)
    return jax.vmap(_without_worst)(Population(placements, jnp.minimum(act, population.act)))


def _mated(population: Population, key: chex.PRNGKey) -> chex.Array:
    """(B, P, M, N): some placements with whole services taken from the better of two placements drawn uniformly."""
    mates_key, mating_key, taken_key = jax.random.split(key, 3)
    episodes, size, services, _ = population.placements.shape
    pair = jax.random.randint(mates_key, (episodes, size, 2), 0, size)
    act = jax.vmap(lambda act, pair: act[pair])(population.act, pair)
    winner = jnp.where(act[..., 0] < act[..., 1], pair[..., 0], pair[..., 1])
    mates = jax.vmap(lambda placements, i: placements[i])(population.placements, winner)
    mating = jax.random.bernoulli(mating_key, MATING, (episodes, size, 1))
    taken = jax.random.bernoulli(taken_key, SERVICES_TAKEN, (episodes, size, services)) & mating
    return jnp.where(taken[..., None], mates, population.placements)


def _changed(placements: chex.Array, key: chex.PRNGKey, *, microservices: chex.Array, num_nodes: int) -> chex.Array:
    """(B, P, M, N): in each placement, an expected 1 to MOST_CHANGES microservices move to nodes drawn uniformly."""
    rate_key, where_key, node_key = jax.random.split(key, 3)
    exponent = jax.random.uniform(rate_key, placements.shape[:2])
    rate = MOST_CHANGES**exponent / microservices[:, None].astype(jnp.float32)
    where = jax.random.uniform(where_key, placements.shape) < rate[..., None, None]
    nodes = jax.random.randint(node_key, placements.shape, 0, num_nodes).astype(placements.dtype)
    return jnp.where(where, nodes, placements)


def _without_worst(population: Population) -> Population:
    """The population of one episode with its worst placement replaced by its best."""
    best, worst = jnp.argmin(population.act), jnp.argmax(population.act)
    return jax.tree.map(lambda rows: rows.at[worst].set(rows[best]), population)


def simulated_act(
    env: CECEnv, params: EnvParams, states: EnvState, *, placements: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """ACT of every placement of every episode, and the placements that were executed.

    Args:
        env: the simulator.
        params: the banks.
        states: (B, ...) as episodes begin.
        placements: (B, P, M, N) hosts.

    Returns:
        (B, P) s, and (B, P, M, N) i16, where a microservice that could not run on its host is on another one.
    """
    episodes, size = placements.shape[:2]
    key = jax.random.key(0)  # The dynamics draw nothing; the contract requires the argument.
    each = placements.reshape(-1, *placements.shape[2:])

    def step(states: EnvState) -> EnvState:
        actions = jax.vmap(follow_placement, in_axes=(0, 0, None))(each, states, params)
        return jax.vmap(env.step_env, in_axes=(None, 0, 0, None))(key, states, actions, params)[1]

    after = jax.lax.while_loop(any_undecided, step, jax.tree.map(lambda x: jnp.repeat(x, size, axis=0), states))
    return jnp.mean(after.episode.completion, axis=1).reshape(episodes, size), after.host.reshape(placements.shape)


def follow_placement(placement: chex.Array, state: EnvState, params: EnvParams) -> Action:
    """A placement as a policy: its host for the current microservice, at full rate.

    Args:
        placement: (M, N) hosts.
        state: of one environment.
        params: the banks.
    """
    decision = current_decision(state, params)
    return at_full_rate(placement[decision.service, decision.microservice])
