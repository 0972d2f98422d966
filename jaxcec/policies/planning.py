"""Planning in the known world: a digital twin that runs the simulator's own mechanism (Algorithm 2, lines 9 and 10).

`plan` tries each of a few candidate nodes by simulating the known world under a base policy, and takes the best: a
rollout (Bertsekas, Tsitsiklis and Wu, Rollout algorithms for combinatorial optimization, J. Heuristics 1997).
`best_of_random` draws whole plans at random and takes the first action of the best: random shooting (Nagabandi et al.,
ICRA 2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxcec.checks import check_numbers
from jaxcec.env import Action, CECEnv, EnvState, Observation, World, coarse, expected_completions
from jaxcec.policies.baselines import TRAFFIC_PRICE, at_full_rate, nth_feasible
from jaxcec.policies.blocks import in_blocks


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """Number of candidates, horizon and resolution of the simulations, and the weight of tolls."""

    candidates: int = 3  # nodes that `plan` tries, the base policy's best; plans that `best_of_random` draws
    steps: int = 10  # decisions simulated after each candidate, postponed ones included
    toll: float = 0.5  # weight of the cost to future services, `Preference.toll`
    samples: int = 1  # forecasts of load that each candidate is simulated under
    link_breakpoints: int = 64  # capacity of the simulated links' timeline
    host_breakpoints: int = 94  # capacity of each simulated host's timeline

    def __post_init__(self) -> None:
        least = {"candidates": 1, "steps": 0, "toll": 0.0, "samples": 1, "link_breakpoints": 3, "host_breakpoints": 3}
        check_numbers(self, "plan.", least=least)


class Preference(NamedTuple):
    """A base policy's assessment of each edge node; (V,) each."""

    scores: chex.Array  # the policy chooses the highest
    bandwidth: chex.Array  # eta if the node is chosen
    hold: chex.Array  # eps, s, if the node is chosen
    toll: chex.Array  # s, cost of the choice to future services, which the known world does not contain
    postpone: chex.Array | None = None  # s, by which the decision is postponed if the node is chosen; None is never

    def action(self, node: chex.Array) -> Action:
        """The action that chooses a node, () int."""
        host, postpone = node.astype(jnp.int32), None if self.postpone is None else self.postpone[node]
        return Action(host=host, bandwidth=self.bandwidth[node], hold=self.hold[node], postpone=postpone)


Prefer = Callable[[Observation], Preference]
Forecast = Callable[[World, chex.PRNGKey], World]  # draws other tenants' future load
Follow = Callable[[Observation, Any], tuple[Action, chex.Array]]  # an action and its toll
Timing = Callable[[Observation, Action], tuple[chex.Array, chex.Array]]  # s: when the input is there, and the wait then
Simulated = tuple[EnvState, chex.Array]  # a state and the sum of tolls so far, () s


def as_now(world: World, _: chex.PRNGKey) -> World:
    """The forecast that other tenants' load stays constant, as it does in a known world."""
    return world


def prefer_priced_finish(observation: Observation) -> Preference:
    """The rule `priced_earliest_finish` as a base policy."""
    toll = TRAFFIC_PRICE * observation.nodes.traffic
    cost = observation.nodes.finish + toll
    return Preference(scores=-cost, bandwidth=jnp.ones_like(cost), hold=jnp.zeros_like(cost), toll=toll)


def prefer_priced_path(observation: Observation) -> Preference:
    """The rule `priced_earliest_finish` with half of the remaining path as a base policy."""
    preference = prefer_priced_finish(observation)
    return preference._replace(scores=preference.scores - 0.5 * observation.nodes.ahead)


RANDOM_PLANS = PlanConfig(candidates=16, steps=8)
EFT_PLAN = PlanConfig(steps=16, toll=1.0)  # of `eft-rollout`
PEFT_PLAN = PlanConfig()  # of `peft-rollout`


class Plan(NamedTuple):
    """The candidates tried at a decision."""

    preference: Preference
    nodes: chex.Array  # (C,) i32, the candidates, best first by preference
    costs: chex.Array  # (C,) s

    @property
    def action(self) -> Action:
        """The action of the candidate of least cost."""
        return self.preference.action(self.nodes[jnp.argmin(self.costs)])


def plan(
    env: CECEnv,
    world: World,
    key: chex.PRNGKey,
    *,
    config: PlanConfig,
    prefer: Prefer,
    forecast: Forecast,
    timing: Timing | None = None,
) -> Plan:
    """Try the base policy's best nodes, each by a simulation of the known world that follows the base policy.

    The cost of a candidate is the known services' expected completion times after it, and the tolls of what is booked.

    Args:
        env: the simulator.
        world: the known world at the decision.
        key: draws the forecasts.
        config: candidates, horizon, resolution, number of forecasts.
        prefer: the base policy.
        forecast: draws other tenants' load; all candidates are tried under the same draws.
        timing: a model of when the input of an action arrives and its execution starts; None for the mechanism.
    """
    planned = partial(_plan, env=env, config=config, prefer=prefer, forecast=forecast, timing=timing)
    return in_blocks(planned, world, key)


def _plan(
    world: World,
    key: chex.PRNGKey,
    *,
    env: CECEnv,
    config: PlanConfig,
    prefer: Prefer,
    forecast: Forecast,
    timing: Timing | None,
) -> Plan:
    observation = env.observe(key, world.state, None, world.params)
    preference, feasible = prefer(observation), observation.nodes.feasible
    _, nodes = jax.lax.top_k(_of_feasible(preference.scores, feasible), min(config.candidates, feasible.size))

    def follow(observation: Observation, _: None) -> tuple[Action, chex.Array]:
        preference = prefer(observation)
        node = jnp.argmax(_of_feasible(preference.scores, observation.nodes.feasible))
        return preference.action(node), preference.toll[node]

    def cost(node: chex.Array, key: chex.PRNGKey) -> chex.Array:
        first = preference.action(node), preference.toll[node]
        drawn = forecast(world, key)
        return _cost_of(env, drawn, config=config, first=first, follow=follow, timing=timing)

    costs = jax.vmap(jax.vmap(cost, in_axes=(None, 0)), in_axes=(0, None))(nodes, jax.random.split(key, config.samples))
    return Plan(preference, nodes, jnp.where(feasible[nodes] > 0.0, jnp.mean(costs, axis=1), jnp.inf))


def _of_feasible(scores: chex.Array, feasible: chex.Array) -> chex.Array:
    """(V,) scores of the edge nodes that can run the microservice; the least number for the others."""
    return jnp.where(feasible > 0.0, scores, jnp.finfo(scores.dtype).min)


def best_of_random(env: CECEnv, world: World, key: chex.PRNGKey, *, config: PlanConfig) -> Action:
    """The first action of the cheapest of `config.candidates` plans, whose nodes `key` draws uniformly."""
    return in_blocks(partial(_best_of_random, env=env, config=config), world, key)


def _best_of_random(world: World, key: chex.PRNGKey, *, env: CECEnv, config: PlanConfig) -> Action:
    plans = jax.random.randint(key, (config.candidates, 1 + config.steps), 0, env.config.num_nodes)
    observation = env.observe(key, world.state, None, world.params)

    def follow(observation: Observation, drawn: chex.Array) -> tuple[Action, chex.Array]:
        return at_full_rate(nth_feasible(observation, drawn)), jnp.float32(0.0)

    def cost(drawn: chex.Array) -> chex.Array:
        return _cost_of(env, world, config=config, first=follow(observation, drawn[0]), follow=follow, rows=drawn[1:])

    return follow(observation, plans[jnp.argmin(jax.vmap(cost)(plans)), 0])[0]


def _cost_of(
    env: CECEnv,
    world: World,
    *,
    config: PlanConfig,
    first: tuple[Action, chex.Array],
    follow: Follow,
    rows: chex.ArrayTree = None,
    timing: Timing | None = None,
) -> chex.Array:
    """Cost of a decision, () s: the known services' expected completion times after the simulation, and all tolls.

    The simulation begins with `first`, the action of the current decision and its toll. `follow` chooses the later
    ones; its second argument is a row of `rows`, (steps, ...) each.
    """
    params, state = world.params, coarse(world.state, config.link_breakpoints, config.host_breakpoints)
    key = jax.random.key(0)  # The dynamics draw nothing; the contract requires the argument.

    def step(carry: Simulated, row: chex.ArrayTree) -> tuple[Simulated, None]:
        state, tolls = carry
        return taken(state, tolls, *follow(env.observe(key, state, None, params), row)), None

    def taken(state: EnvState, tolls: chex.Array, action: Action, toll: chex.Array) -> Simulated:
        if timing is None:
            _, state, _, _, info = env.step_env(key, state, action, params)
        else:
            data_ready, wait = timing(env.observe(key, state, None, params), action)
            state, info = env.step_as_foreseen(state, action, params, data_ready=data_ready, wait=wait)
        return state, tolls + jnp.where(info["decided"], toll, 0.0)  # a decision that is postponed sends nothing

    start = taken(state, jnp.float32(0.0), *first)
    (after, tolls), _ = jax.lax.scan(step, start, rows, length=config.steps)
    return jnp.sum(expected_completions(after, params)) + config.toll * tolls
