"""A search over whole timetables in the simulator that knows all future services and loads.

A genetic algorithm for matching and scheduling (Wang, Siegel, Roychowdhury and Maciejewski, JPDC 1997) with the
simulated ACT as fitness. It shows how much online policies might still gain. The bound is heuristic: no policy that
runs microservices on edge nodes, at full rate, is known to beat it, but there is no proof that none can.
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
from jaxcec.env.dag import LEAST_POSTPONED, LEAST_SHARE, current_decision
from jaxcec.policies.baselines import at_full_rate

MATING = 0.5  # share of the children that take services from a second parent
SERVICES_TAKEN = 0.3  # share of the services that they take
MOST_CHANGES = 8.0  # expected microservices of a child that change at random: log-uniform from 1 to this
MOVED, PUT_OFF = 0.7, 0.25  # shares of the changes that draw a node and a time of decision; the rest draws a hold
# s, by which a decision or a flow is delayed: log-uniform in this range, or not at all. It suits services of minutes.
SHORTEST, LONGEST = 0.1, 30.0
SOON = 2 * LEAST_POSTPONED  # s, a decision that is due so soon is made now


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Size of the population and number of generations."""

    population: int = 32  # timetables of each episode
    generations: int = 200

    def __post_init__(self) -> None:
        check_numbers(self, "search.", least={"population": 2, "generations": 0})


class Timetable(NamedTuple):
    """Where and when every microservice of an episode runs, at full rate. There may be leading axes."""

    host: chex.Array  # (M, N) i16
    due: chex.Array  # (M, N) s, the time before which it is not decided
    hold: chex.Array  # (M, N) s, the least delay of its flow after the decision


class Population(NamedTuple):
    """P timetables of each of B episodes."""

    timetables: Timetable  # (B, P, M, N) each
    decided: chex.Array  # (B, P, M, N) s, when each microservice was decided
    act: chex.Array  # (B, P) s

    @property
    def best(self) -> tuple[Timetable, chex.Array]:
        """(B, M, N) each, and the ACT (B,) s."""
        index = jnp.argmin(self.act, axis=1)
        return jax.vmap(_row)(self.timetables, index), jnp.min(self.act, axis=1)


def search(
    env: CECEnv,
    params: EnvParams,
    states: EnvState,
    *,
    config: SearchConfig,
    timetables: Timetable,
    key: chex.PRNGKey,
    report: Callable[[float], None] = lambda act: None,
) -> tuple[Timetable, chex.Array]:
    """The best timetables found for whole episodes; up to rounding, never worse than those that the search starts from.

    Args:
        env: the simulator.
        params: the banks.
        states: (B, ...) as episodes begin.
        config: population and generations.
        timetables: (B, P0, M, N) each to start from. Those beyond the population are dropped, the worst first.
        key: draws the changes.
        report: receives the best ACT so far, mean over episodes in s, after each generation.

    Returns:
        (B, M, N) timetables, and their ACT (B,) in s.
    """
    population = populate(env, params, states, timetables=timetables, size=config.population)
    for generation_key in jax.random.split(key, config.generations):
        population = next_generation(env, params, states, population=population, key=generation_key)
        report(float(jnp.mean(population.best[1])))
    return population.best


@partial(jax.jit, static_argnames=("env", "size"))
def populate(env: CECEnv, params: EnvParams, states: EnvState, *, timetables: Timetable, size: int) -> Population:
    """The first population: the given timetables from the best to the worst, repeated until there are `size`."""
    played = simulated(env, params, states, timetables=timetables)
    order = jnp.resize(jnp.argsort(played.act, axis=1).T, (size, played.act.shape[0])).T
    return jax.vmap(_row)(played, order)


@partial(jax.jit, static_argnums=0)
def next_generation(
    env: CECEnv, params: EnvParams, states: EnvState, *, population: Population, key: chex.PRNGKey
) -> Population:
    """One generation: a child replaces its parent only if its ACT is less; then the best replaces the worst."""
    microservices = params.dags.size[params.arrivals.dag[states.episode.arrivals]].sum(axis=1)
    mate_key, change_key = jax.random.split(key)
    mated, decided = _mated(population, mate_key)
    children = _changed(mated, decided, change_key, microservices=microservices, num_nodes=env.config.num_nodes)
    played = simulated(env, params, states, timetables=children)
    better = played.act < population.act
    population = jax.tree.map(
        lambda new, old: jnp.where(jnp.expand_dims(better, range(2, new.ndim)), new, old), played, population
    )
    return jax.vmap(_without_worst)(population)


def _mated(population: Population, key: chex.PRNGKey) -> tuple[Timetable, chex.Array]:
    """The timetables, of which some take whole services from the better of two others drawn uniformly.

    Returns:
        (B, P, M, N) each, and (B, P, M, N) s, when each microservice was decided in the timetable that it is from.
    """
    mates_key, mating_key, taken_key = jax.random.split(key, 3)
    episodes, size, services, _ = population.decided.shape
    pair = jax.random.randint(mates_key, (episodes, size, 2), 0, size)
    act = jax.vmap(_row)(population.act, pair)
    winner = jnp.where(act[..., 0] < act[..., 1], pair[..., 0], pair[..., 1])
    mates = jax.vmap(_row)(population, winner)
    mating = jax.random.bernoulli(mating_key, MATING, (episodes, size, 1))
    taken = jax.random.bernoulli(taken_key, SERVICES_TAKEN, (episodes, size, services)) & mating
    theirs, own = (mates.timetables, mates.decided), (population.timetables, population.decided)
    mixed: tuple[Timetable, chex.Array] = jax.tree.map(lambda x, y: jnp.where(taken[..., None], x, y), theirs, own)
    return mixed


def _changed(
    timetables: Timetable, decided: chex.Array, key: chex.PRNGKey, *, microservices: chex.Array, num_nodes: int
) -> Timetable:
    """(B, P, M, N) each: in each timetable, an expected 1 to MOST_CHANGES microservices change at random.

    A microservice moves to a node drawn uniformly, or it is decided later than before, or its flow is held; half of
    the delays are none.
    """
    rate_key, where_key, what_key, node_key, delay_key, none_key = jax.random.split(key, 6)
    shape = decided.shape
    rate = MOST_CHANGES ** jax.random.uniform(rate_key, shape[:2]) / microservices[:, None].astype(jnp.float32)
    where = jax.random.uniform(where_key, shape) < rate[..., None, None]
    what = jax.random.uniform(what_key, shape)
    moved, put_off = where & (what < MOVED), where & (what >= MOVED) & (what < MOVED + PUT_OFF)
    nodes = jax.random.randint(node_key, shape, 0, num_nodes).astype(timetables.host.dtype)
    delay = SHORTEST * (LONGEST / SHORTEST) ** jax.random.uniform(delay_key, shape)
    none = jax.random.bernoulli(none_key, 0.5, shape)
    return Timetable(
        host=jnp.where(moved, nodes, timetables.host),
        due=jnp.where(put_off, jnp.where(none, 0.0, decided + delay), timetables.due),
        hold=jnp.where(where & ~moved & ~put_off, jnp.where(none, 0.0, delay), timetables.hold),
    )


def _without_worst(population: Population) -> Population:
    """The population of one episode with its worst timetable replaced by its best."""
    best, worst = jnp.argmin(population.act), jnp.argmax(population.act)
    return jax.tree.map(lambda rows: rows.at[worst].set(rows[best]), population)


def _row(rows: chex.ArrayTree, index: chex.Array) -> chex.ArrayTree:
    return jax.tree.map(lambda x: x[index], rows)


def simulated(env: CECEnv, params: EnvParams, states: EnvState, *, timetables: Timetable) -> Population:
    """Every timetable, (B, P, M, N), of every episode as it was executed; states (B, ...) are those as episodes begin.

    A microservice that could not run on its host is on another one, and one that was never put off is due at 0.
    """
    shape = timetables.host.shape
    each = jax.tree.map(lambda x: x.reshape(-1, *shape[2:]), timetables)
    key = jax.random.key(0)  # The dynamics draw nothing; the contract requires the argument.

    def one_step(timetable: Timetable, state: EnvState, put_off: chex.Array) -> tuple[EnvState, chex.Array]:
        action = follow_timetable(timetable, state, params)
        _, state, _, _, info = env.step_env(key, state, action, params)
        what = info["service"], info["microservice"]
        return state, put_off.at[what].max(info["postponed"])

    def step(carry: tuple[EnvState, chex.Array]) -> tuple[EnvState, chex.Array]:
        return jax.vmap(one_step)(each, *carry)

    start = jax.tree.map(lambda x: jnp.repeat(x, shape[1], axis=0), states), jnp.zeros(each.host.shape, bool)
    after, put_off = jax.lax.while_loop(lambda carry: any_undecided(carry[0]), step, start)
    executed = Timetable(host=after.host, due=jnp.where(put_off, after.ready, 0.0), hold=each.hold)
    executed, decided = jax.tree.map(lambda x: x.reshape(shape), (executed, after.ready))
    return Population(executed, decided, jnp.mean(after.episode.completion, axis=1).reshape(shape[:2]))


def follow_timetable(timetable: Timetable, state: EnvState, params: EnvParams) -> Action:
    """A timetable, (M, N) each, as a policy: its host and hold for the current microservice, postponed until due.

    The state is that of one environment.
    """
    decision = current_decision(state, params)
    host, due, hold = (x[decision.service, decision.microservice] for x in timetable)
    postpone = due - decision.time
    soon = jnp.maximum(SOON, 2.0 * LEAST_SHARE * decision.time)
    return at_full_rate(host).replace(hold=hold, postpone=jnp.where(postpone > soon, postpone, 0.0))
