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
    traffic_price: float = TRAFFIC_PRICE
    link_breakpoints: int = 38  # that the simulation's timelines hold
    host_breakpoints: int = 22

    def __post_init__(self) -> None:
        least = {"candidates": 1, "steps": 0, "traffic_price": 0.0, "link_breakpoints": 3, "host_breakpoints": 3}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"plan.{name}: got {getattr(self, name)}; must be at least {bound}")


class Preference(NamedTuple):
    """What a base policy thinks of each edge node; (V,) each."""

    scores: chex.Array  # it would choose the highest
    bandwidth: chex.Array  # eta, were the node chosen
    hold: chex.Array  # eps, s, likewise

    def action(self, node: chex.Array) -> Action:
        """The decision for a node."""
        return Action(host=node.astype(jnp.int32), bandwidth=self.bandwidth[node], hold=self.hold[node])


Prefer = Callable[[Observation], Preference]
Follow = Callable[[Observation, Any], Action]
Simulated = tuple[EnvState, chex.Array]  # and () s of traffic so far


def prefer_priced_finish(observation: Observation) -> Preference:
    """The rule `priced_earliest_finish` as a base policy."""
    cost = observation.nodes.finish + TRAFFIC_PRICE * observation.nodes.traffic
    return Preference(scores=-cost, bandwidth=jnp.ones_like(cost), hold=jnp.zeros_like(cost))


RANDOM_PLANS = PlanConfig(candidates=16, traffic_price=0.0)


class Plan(NamedTuple):
    """What was tried at a decision."""

    preference: Preference
    nodes: chex.Array  # (C,) i32, the candidates, best first by preference
    costs: chex.Array  # (C,) s


def plan(env: CECEnv, config: PlanConfig, prefer: Prefer, world: World) -> Action:
    """The candidate of least cost: see `simulate`."""
    tried = simulate(env, config, prefer, world)
    return tried.preference.action(tried.nodes[jnp.argmin(tried.costs)])


def simulate(env: CECEnv, config: PlanConfig, prefer: Prefer, world: World) -> Plan:
    """What each candidate costs: the known services' expected completion times after it, and the price of all traffic.

    The price stands for the services to come, which the known world is empty of.

    Args:
        env: whose mechanism is simulated.
        config: how far.
        prefer: the base policy.
        world: what is known at the decision.
    """
    preference = prefer(env.observe(jax.random.key(0), world.state, None, world.params))
    _, nodes = jax.lax.top_k(preference.scores, min(config.candidates, preference.scores.size))

    def follow(observation: Observation, _: None) -> Action:
        preference = prefer(observation)
        return preference.action(jnp.argmax(preference.scores))

    def cost(node: chex.Array) -> chex.Array:
        return cost_of(env, config, world, preference.action(node), follow)

    return Plan(preference, nodes, jax.vmap(cost)(nodes))


def best_of_random(env: CECEnv, config: PlanConfig, world: World, key: chex.PRNGKey) -> Action:
    """The first node of the cheapest of some plans, whose nodes are all drawn uniformly.

    Args:
        env: whose mechanism is simulated.
        config: how many plans, and how far they go.
        world: what is known at the decision.
        key: draws the plans.
    """
    plans = jax.random.randint(key, (config.candidates, 1 + config.steps), 0, env.config.num_nodes)

    def cost(nodes: chex.Array) -> chex.Array:
        return cost_of(env, config, world, at_full_rate(nodes[0]), lambda _, node: at_full_rate(node), nodes[1:])

    return at_full_rate(plans[jnp.argmin(jax.vmap(cost)(plans)), 0])


def cost_of(
    env: CECEnv, config: PlanConfig, world: World, action: Action, follow: Follow, rows: chex.ArrayTree = None
) -> chex.Array:
    """What an action costs: the known services' expected completion times after what follows, and all its traffic.

    Args:
        env: whose mechanism is simulated.
        config: how far and how finely, and what traffic costs.
        world: what is known at the decision.
        action: the decision at hand, for an edge node.
        follow: makes those after it.
        rows: (steps, ...) each, what `follow` takes beside what is seen.

    Returns:
        () s.
    """
    params, state = world.params, coarse(world.state, config.link_breakpoints, config.host_breakpoints)
    key = jax.random.key(0)  # the mechanism draws nothing; the argument is the contract's

    def decide(carry: Simulated, choose: Callable[[Observation], Action]) -> Simulated:
        state, traffic = carry
        seen = env.observe(key, state, None, params)
        action = choose(seen)
        return env.step_env(key, state, action, params)[1], traffic + seen.nodes.traffic[action.host]

    def step(carry: Simulated, row: chex.ArrayTree) -> tuple[Simulated, None]:
        return decide(carry, lambda seen: follow(seen, row)), None

    start = decide((state, jnp.float32(0.0)), lambda _: action)
    (after, traffic), _ = jax.lax.scan(step, start, rows, length=config.steps)
    return jnp.sum(expected_completions(after, params)) + config.traffic_price * traffic
