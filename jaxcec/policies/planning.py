"""Planning in the known world: the digital twin that runs the mechanism itself (Algorithm 2, lines 9 and 10).

Each of a few candidate nodes is tried by simulating what is known to lie ahead under a base policy, and the best is
taken: a rollout (Bertsekas, Tsitsiklis and Wu, Rollout algorithms for combinatorial optimization, J. Heuristics 1997).
Or whole plans are drawn blindly, and the best is begun: random shooting (Nagabandi et al., ICRA 2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, CECEnv, EnvState, Observation, World, coarse, expected_completions
from jaxcec.policies.baselines import TRAFFIC_PRICE, at_full_rate


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """How many candidates are tried, how far and how finely, and what traffic costs."""

    candidates: int = 3  # of `plan`, nodes, best first by the base policy's preference; of `best_of_random`, plans
    steps: int = 16  # decisions simulated after each
    toll: float = 1.0  # weight of what the services to come pay: see `Preference.toll`
    samples: int = 1  # forecasts that each candidate is simulated under
    link_breakpoints: int = 38  # that the simulation's timelines hold
    host_breakpoints: int = 22

    def __post_init__(self) -> None:
        least = {"candidates": 1, "steps": 0, "toll": 0.0, "samples": 1, "link_breakpoints": 3, "host_breakpoints": 3}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"plan.{name}: got {getattr(self, name)}; must be at least {bound}")


class Preference(NamedTuple):
    """What a base policy thinks of each edge node; (V,) each."""

    scores: chex.Array  # it would choose the highest
    bandwidth: chex.Array  # eta, were the node chosen
    hold: chex.Array  # eps, s, likewise
    toll: chex.Array  # s that the choice costs the services to come, which the known world is empty of

    def action(self, node: chex.Array) -> Action:
        """The decision for a node."""
        return Action(host=node.astype(jnp.int32), bandwidth=self.bandwidth[node], hold=self.hold[node])


Prefer = Callable[[Observation], Preference]
Forecast = Callable[[World, chex.PRNGKey], World]  # other tenants' load to come, as drawn from a forecast
Follow = Callable[[Observation, Any], tuple[Action, chex.Array]]  # and its toll
Simulated = tuple[EnvState, chex.Array]  # and () s of tolls so far


def as_now(world: World, _: chex.PRNGKey) -> World:
    """The forecast that other tenants' load stays what it is, as a known world has it."""
    return world


def prefer_priced_finish(observation: Observation) -> Preference:
    """The rule `priced_earliest_finish` as a base policy."""
    toll = TRAFFIC_PRICE * observation.nodes.traffic
    cost = observation.nodes.finish + toll
    return Preference(scores=-cost, bandwidth=jnp.ones_like(cost), hold=jnp.zeros_like(cost), toll=toll)


RANDOM_PLANS = PlanConfig(candidates=16, steps=8)
EFT_PLAN = PlanConfig(steps=16, toll=1.0)  # of `eft-rollout`


class Plan(NamedTuple):
    """What was tried at a decision."""

    preference: Preference
    nodes: chex.Array  # (C,) i32, the candidates, best first by preference
    costs: chex.Array  # (C,) s


def plan(
    env: CECEnv, config: PlanConfig, prefer: Prefer, forecast: Forecast, world: World, key: chex.PRNGKey
) -> Action:
    """The candidate of least cost: see `simulate`."""
    tried = simulate(env, config, prefer, forecast, world, key)
    return tried.preference.action(tried.nodes[jnp.argmin(tried.costs)])


def simulate(
    env: CECEnv, config: PlanConfig, prefer: Prefer, forecast: Forecast, world: World, key: chex.PRNGKey
) -> Plan:
    """What each candidate costs: the known services' expected completion times after it, and the toll of all decisions.

    Args:
        env: whose mechanism is simulated.
        config: how far.
        prefer: the base policy.
        forecast: what other tenants are foreseen to do; all candidates are tried under the same drawn forecasts.
        world: what is known at the decision.
        key: draws the forecasts.
    """
    preference = prefer(env.observe(key, world.state, None, world.params))
    _, nodes = jax.lax.top_k(preference.scores, min(config.candidates, preference.scores.size))

    def follow(observation: Observation, _: None) -> tuple[Action, chex.Array]:
        preference = prefer(observation)
        node = jnp.argmax(preference.scores)
        return preference.action(node), preference.toll[node]

    def cost(node: chex.Array, key: chex.PRNGKey) -> chex.Array:
        first = preference.action(node), preference.toll[node]
        return cost_of(env, config, forecast(world, key), first, follow)

    costs = jax.vmap(jax.vmap(cost, in_axes=(None, 0)), in_axes=(0, None))(nodes, jax.random.split(key, config.samples))
    return Plan(preference, nodes, jnp.mean(costs, axis=1))


def best_of_random(env: CECEnv, config: PlanConfig, world: World, key: chex.PRNGKey) -> Action:
    """The first node of the cheapest of some plans, whose nodes are all drawn uniformly.

    Args:
        env: whose mechanism is simulated.
        config: how many plans, and how far they go.
        world: what is known at the decision.
        key: draws the plans.
    """
    plans = jax.random.randint(key, (config.candidates, 1 + config.steps), 0, env.config.num_nodes)

    def untolled(node: chex.Array) -> tuple[Action, chex.Array]:
        return at_full_rate(node), jnp.float32(0.0)

    def cost(nodes: chex.Array) -> chex.Array:
        return cost_of(env, config, world, untolled(nodes[0]), lambda _, node: untolled(node), nodes[1:])

    return at_full_rate(plans[jnp.argmin(jax.vmap(cost)(plans)), 0])


def cost_of(
    env: CECEnv,
    config: PlanConfig,
    world: World,
    first: tuple[Action, chex.Array],
    follow: Follow,
    rows: chex.ArrayTree = None,
) -> chex.Array:
    """What a decision costs: the known services' expected completion times after what follows, and all tolls.

    Args:
        env: whose mechanism is simulated.
        config: how far and how finely, and the weight of tolls.
        world: what is known at the decision.
        first: the decision at hand, for an edge node, and its toll.
        follow: makes those after it.
        rows: (steps, ...) each, what `follow` takes beside what is seen.

    Returns:
        () s.
    """
    params, state = world.params, coarse(world.state, config.link_breakpoints, config.host_breakpoints)
    key = jax.random.key(0)  # the mechanism draws nothing; the argument is the contract's

    def step(carry: Simulated, row: chex.ArrayTree) -> tuple[Simulated, None]:
        state, tolls = carry
        action, toll = follow(env.observe(key, state, None, params), row)
        return (env.step_env(key, state, action, params)[1], tolls + toll), None

    action, toll = first
    start = env.step_env(key, state, action, params)[1], toll
    (after, tolls), _ = jax.lax.scan(step, start, rows, length=config.steps)
    return jnp.sum(expected_completions(after, params)) + config.toll * tolls
