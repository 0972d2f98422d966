"""Planning in the known world: the digital twin that runs the mechanism itself (Algorithm 2, lines 9 and 10).

Each of a few candidate nodes is tried by simulating what is known to lie ahead under a base policy, and the best is
taken: a rollout (Bertsekas, Tsitsiklis and Wu, Rollout algorithms for combinatorial optimization, J. Heuristics 1997).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, CECEnv, EnvState, Observation, World, coarse, expected_completions
from jaxcec.policies.baselines import TRAFFIC_PRICE


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """How many nodes are tried, how far and how finely, and what traffic costs."""

    candidates: int = 3  # nodes tried at each decision, best first by the base policy's preference
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


def prefer_priced_finish(observation: Observation) -> Preference:
    """The rule `priced_earliest_finish` as a base policy."""
    cost = observation.nodes.finish + TRAFFIC_PRICE * observation.nodes.traffic
    return Preference(scores=-cost, bandwidth=jnp.ones_like(cost), hold=jnp.zeros_like(cost))


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
    params, state = world.params, coarse(world.state, config.link_breakpoints, config.host_breakpoints)
    key = jax.random.key(0)  # the mechanism draws nothing; the argument is the contract's

    def ahead(state: EnvState) -> tuple[Observation, Preference]:
        observation = env.observe(key, state, None, params)
        return observation, prefer(observation)

    def follow(carry: tuple[EnvState, chex.Array], _: None) -> tuple[tuple[EnvState, chex.Array], None]:
        state, traffic = carry
        observation, preference = ahead(state)
        node = jnp.argmax(preference.scores)
        state = env.step_env(key, state, preference.action(node), params)[1]
        return (state, traffic + observation.nodes.traffic[node]), None

    observation, preference = ahead(world.state)
    _, nodes = jax.lax.top_k(preference.scores, min(config.candidates, preference.scores.size))

    def cost(node: chex.Array) -> chex.Array:
        after = env.step_env(key, state, preference.action(node), params)[1]
        start = after, observation.nodes.traffic[node]
        (after, traffic), _ = jax.lax.scan(follow, start, None, length=config.steps)
        return jnp.sum(expected_completions(after, params)) + config.traffic_price * traffic

    return Plan(preference, nodes, jax.vmap(cost)(nodes))
