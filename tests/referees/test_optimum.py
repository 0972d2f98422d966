"""Policies against the proven optimum of instances with up to 24 microservices, and whether the simulator reaches it.

`optimum.py` states the simulator's model at full rate (eta = 1) without its order of decisions, and there an execution
may wait although its host could run it. Every episode at eta = 1, whatever its holds, is thus a solution, and the
optimum is a bound on all of them. For when it is reached, see `test_the_simulator_follows_an_optimum`.
"""

import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("ortools", reason="the extra `referees` is not installed")

from referees.optimum import Optimum, solve

from jaxcec.env import Action, CECEnv, EnvConfig, EnvParams, build_instance
from jaxcec.env.dag import current_decision
from jaxcec.evaluation.clairvoyant import clairvoyant
from jaxcec.evaluation.rollout import Contender, Episodes, episode_keys, rollout
from jaxcec.evaluation.schedule import Placed, record
from jaxcec.policies import BASELINES, RANDOM_PLANS, PlanConfig, SearchConfig, prefer_priced_finish

M = 3
KEYS = episode_keys(0, 1)
EXACT = 1e-3  # s, of a sum of whole seconds that the simulator adds up and averages in float32


class Solved(NamedTuple):
    """An instance and its optimum."""

    instance: dict
    env: CECEnv
    params: EnvParams
    optimum: Optimum


def draw_instance(rng: random.Random, num_nodes: int, size: int) -> dict:
    """Three services on a tree of nodes, with numbers that make every duration and every share of a link exact."""

    def service() -> dict:
        return {
            "release": rng.randrange(12),
            "source": rng.randrange(num_nodes),
            "preds": [sorted(rng.sample(range(j), min(j, rng.randint(0, 2)))) for j in range(size)],
            "load": [4 * rng.randint(1, 12) for _ in range(size)],
            "data": [8 * rng.randint(0, 6) for _ in range(size)],
            "demand": [[rng.randint(1, 2), rng.randint(0, 2)] for _ in range(size)],
        }

    return {
        "links": [(rng.randrange(b), b, rng.choice([1, 2, 4])) for b in range(1, num_nodes)],
        "node_speed": [rng.choice([1, 2, 4]) for _ in range(num_nodes)],
        "device_speed": [1] * num_nodes,
        "capacity": [[rng.randint(2, 3), 2] for _ in range(num_nodes)],
        "services": [service() for _ in range(M)],
    }


SIZES = [
    pytest.param((3, 4, 12), id="12 microservices"),
    pytest.param((4, 8, 20), id="24 microservices", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=SIZES)
def solved(request) -> list[Solved]:
    num_nodes, size, count = request.param
    config = EnvConfig(num_nodes, num_nodes - 1, M, size, link_breakpoints=64, host_breakpoints=48)

    def one(seed: int) -> Solved:
        instance = draw_instance(random.Random(seed), num_nodes, size)
        return Solved(instance, *build_instance(**instance, config=config), solve(instance, seconds=300))

    return [one(seed) for seed in range(count)]


def any_rule(index, observation, _world, key) -> Action:
    """The rules as one policy: compiled once."""
    return jax.lax.switch(index, list(BASELINES.values()), observation, key)


def play(case: Solved) -> dict[str, Episodes]:
    """The instance's episode under every policy that needs no training, and under the search that knows the future."""
    contenders = [Contender.of_agent(name, any_rule, jnp.int32(index)) for index, name in enumerate(BASELINES)]
    contenders.append(Contender.of_planner("eft-rollout", case.env, PlanConfig(), prefer_priced_finish))
    contenders.append(Contender.of_random_plans("best-of-random", case.env, RANDOM_PLANS))
    played = {each.name: rollout(case.env, case.params, each.apply, each.params, KEYS) for each in contenders}
    start = [played[name] for name in ("eft", "peft", "eft-rollout")]
    config = SearchConfig(population=32, generations=60)
    played["clairvoyant"] = clairvoyant(case.env, case.params, start, config, KEYS, jax.random.key(1))
    return played


def test_no_policy_beats_the_optimum(solved):
    gaps = {}
    for case in solved:
        assert case.optimum.proved
        for name, episodes in play(case).items():
            total = M * float(episodes.act[0])
            assert total >= case.optimum.total - EXACT, name
            gaps.setdefault(name, []).append(total / case.optimum.total - 1)
    print(f"{len(solved)} optima, {max(case.optimum.seconds for case in solved):.1f} s the slowest proof")
    for name, shares in gaps.items():
        met = sum(share < 1e-6 for share in shares)
        print(f"| {name} | {np.mean(shares):.1%} | {np.max(shares):.1%} | {met} |")
    assert np.mean(gaps["clairvoyant"]) <= np.mean(gaps["eft"])


def follow(given: tuple[jax.Array, jax.Array], _observation, world, _key) -> Action:
    """The host of an optimum, the flow held until it starts there."""
    host, flow_start = given
    decision = current_decision(world.state, world.params)
    hold = flow_start[decision.service, decision.microservice] - decision.time
    return Action(host=host[decision.service, decision.microservice], bandwidth=jnp.float32(1.0), hold=hold)


def replayed(case: Solved) -> list[Placed]:
    """What the simulator makes of an optimum's hosts and flow starts."""
    table = (M, case.env.config.max_microservices)
    host, flow_start = np.zeros(table, np.int32), np.zeros(table, np.float32)
    for what in case.optimum.host:
        host[what], flow_start[what] = case.optimum.host[what], case.optimum.flow_start[what]
    given = (jnp.asarray(host), jnp.asarray(flow_start))
    return record(case.env, case.params, Contender.of_agent("optimum", follow, given), KEYS[0])


def test_the_simulator_follows_an_optimum(solved):
    """It does, decision by decision, until one of its executions starts before the optimum's.

    Proof: as long as all decisions agree, the next one is taken when the optimum's predecessors end; the flow, held
    until it starts in the optimum, fits there beside those committed, and so does the execution: it starts then or at
    an earlier moment that fits. The environment's schedules at eta = 1 are therefore exactly the solutions in which
    every execution starts as soon after its input as its host can run it beside those decided before. One of no wait
    at all is among them.
    """
    reached = 0
    for case in solved:
        schedule, optimum = replayed(case), case.optimum
        apart = [p for p in schedule.placed if p.start != optimum.start[p.service, p.microservice]]
        if apart:
            assert apart[0].start < optimum.start[apart[0].service, apart[0].microservice]
        else:
            assert sum(schedule.completions) == optimum.total
        assert optimum.wait or not apart
        reached += sum(schedule.completions) == optimum.total
    print(f"{reached} of {len(solved)} optima reached; {sum(not case.optimum.wait for case in solved)} without a wait")
