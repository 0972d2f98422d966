"""The clairvoyant: a search over whole placements in the simulator, every service to come and every load known.

A genetic algorithm for matching and scheduling (Wang, Siegel, Roychowdhury and Maciejewski, JPDC 1997) whose fitness is
the simulated ACT. It says what online policies might still gain. It is a heuristic bound: no policy that places
microservices on edge nodes, at full rate and without hold, is known to beat it; that none can is not proved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, CECEnv, EnvParams, EnvState
from jaxcec.env.dag import current_decision
from jaxcec.policies.baselines import at_full_rate

MATING = 0.5  # of the children take services from a second parent
SERVICES_TAKEN = 0.3  # of those services
MOST_CHANGES = 8.0  # microservices of a child moved at random; at least 1, log-uniform between


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How wide and how long the search is."""

    population: int = 32  # placements of each episode
    generations: int = 200

    def __post_init__(self) -> None:
        for name, bound in {"population": 2, "generations": 0}.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"search.{name}: got {getattr(self, name)}; must be at least {bound}")


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
    config: SearchConfig,
    params: EnvParams,
    states: EnvState,
    placements: chex.Array,
    key: chex.PRNGKey,
    report: Callable[[float], None] = lambda act: None,
) -> tuple[chex.Array, chex.Array]:
    """The best placements found for whole episodes; none is worse than any it starts from.

    Args:
        env: the simulator.
        config: how wide and how long.
        params: the banks.
        states: (B, ...) as episodes begin.
        placements: (B, P0, M, N) to start from, `EnvState.host` as other policies left it; those beyond the population
            are dropped, the worst first.
        key: draws the changes.
        report: is told the best ACT so far, mean over episodes in s, after each generation.

    Returns:
        (B, M, N) i16 placements, and their ACT (B,) in s.
    """
    population = populate(env, config.population, params, states, placements)
    for generation_key in jax.random.split(key, config.generations):
        population = evolve(env, params, states, population, generation_key)
        report(float(jnp.mean(population.best[1])))
    return population.best


@partial(jax.jit, static_argnums=(0, 1))
def populate(env: CECEnv, size: int, params: EnvParams, states: EnvState, placements: chex.Array) -> Population:
    """The placements to start from, the best first, and again from the first until there are enough."""
    act = simulated_act(env, params, states, placements)
    order = jnp.resize(jnp.argsort(act, axis=1).T, (size, act.shape[0])).T
    return jax.vmap(lambda rows, act, i: Population(rows[i], act[i]))(placements.astype(jnp.int16), act, order)


@partial(jax.jit, static_argnums=0)
def evolve(env: CECEnv, params: EnvParams, states: EnvState, population: Population, key: chex.PRNGKey) -> Population:
    """One generation: a child takes its parent's place only if its ACT is less; the best then takes the worst's."""
    microservices = params.dags.size[params.arrivals.dag[states.episode.arrivals]].sum(axis=1)
    mate_key, change_key = jax.random.split(key)
    children = _changed(_mated(population, mate_key), microservices, env.config.num_nodes, change_key)
    act = simulated_act(env, params, states, children)
    better = act < population.act
    placements = jnp.where(better[..., None, None], children, population.placements)
    return jax.vmap(_without_worst)(Population(placements, jnp.minimum(act, population.act)))


def _mated(population: Population, key: chex.PRNGKey) -> chex.Array:
    """(B, P, M, N): some placements with whole services as the better of two drawn placements has them."""
    mates_key, mating_key, taken_key = jax.random.split(key, 3)
    episodes, size, services, _ = population.placements.shape
    pair = jax.random.randint(mates_key, (episodes, size, 2), 0, size)
    act = jax.vmap(lambda act, pair: act[pair])(population.act, pair)
    winner = jnp.where(act[..., 0] < act[..., 1], pair[..., 0], pair[..., 1])
    mates = jax.vmap(lambda placements, i: placements[i])(population.placements, winner)
    mating = jax.random.bernoulli(mating_key, MATING, (episodes, size, 1))
    taken = jax.random.bernoulli(taken_key, SERVICES_TAKEN, (episodes, size, services)) & mating
    return jnp.where(taken[..., None], mates, population.placements)


def _changed(placements: chex.Array, microservices: chex.Array, num_nodes: int, key: chex.PRNGKey) -> chex.Array:
    """(B, P, M, N): the placements with 1 to MOST_CHANGES expected microservices each on nodes drawn uniformly."""
    rate_key, where_key, node_key = jax.random.split(key, 3)
    exponent = jax.random.uniform(rate_key, placements.shape[:2])
    rate = MOST_CHANGES**exponent / microservices[:, None].astype(jnp.float32)
    where = jax.random.uniform(where_key, placements.shape) < rate[..., None, None]
    nodes = jax.random.randint(node_key, placements.shape, 0, num_nodes).astype(placements.dtype)
    return jnp.where(where, nodes, placements)


def _without_worst(population: Population) -> Population:
    """One episode's, the worst replaced by the best."""
    best, worst = jnp.argmin(population.act), jnp.argmax(population.act)
    return jax.tree.map(lambda rows: rows.at[worst].set(rows[best]), population)


def simulated_act(env: CECEnv, params: EnvParams, states: EnvState, placements: chex.Array) -> chex.Array:
    """ACT of every placement of every episode.

    Args:
        env: the simulator.
        params: the banks.
        states: (B, ...) as episodes begin.
        placements: (B, P, M, N) hosts.

    Returns:
        (B, P) s.
    """
    episodes, size = placements.shape[:2]
    key = jax.random.key(0)  # the mechanism draws nothing; the argument is the contract's
    each = placements.reshape(-1, *placements.shape[2:])

    def step(states: EnvState) -> EnvState:
        actions = jax.vmap(follow_placement, in_axes=(0, 0, None))(each, states, params)
        return jax.vmap(env.step_env, in_axes=(None, 0, 0, None))(key, states, actions, params)[1]

    # One loop for all, rather than one under vmap, which would copy the states of those that have ended.
    after = jax.lax.while_loop(
        lambda states: ~jnp.all(jax.vmap(env.is_terminated)(states)),
        step,
        jax.tree.map(lambda x: jnp.repeat(x, size, axis=0), states),
    )
    return jnp.mean(after.episode.completion, axis=1).reshape(episodes, size)


def follow_placement(placement: chex.Array, state: EnvState, params: EnvParams) -> Action:
    """A placement as a policy: its host for the microservice at hand, at full rate.

    Args:
        placement: (M, N) hosts.
        state: of one environment.
        params: the banks.
    """
    decision = current_decision(state, params)
    return at_full_rate(placement[decision.service, decision.microservice])
