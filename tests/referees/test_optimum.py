"""Policies, and the simulator itself, against the proven optimum of instances with up to 24 microservices.

`helpers/optimum.py` has the simulator's model at full rate (eta = 1) without its order of decisions, and an execution
may wait even if its host could run it. Every episode at eta = 1, with any holds, is therefore a solution, and the
optimum bounds all of them. `test_the_simulator_follows_an_optimum` shows when the simulator reaches it.
"""

import functools
import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("ortools", reason="the extra `referees` is not installed")

from helpers.optimum import Optimum, solve, total_of

from jaxcec.env import Action, CECEnv, EnvConfig, EnvParams, build_instance
from jaxcec.env.dag import current_decision
from jaxcec.evaluation import Episodes, baseline_contenders, clairvoyant, episode_keys, rollout
from jaxcec.policies import BASELINES, SearchConfig

M = 3
KEYS = episode_keys(0, 1)
EXACT = 1e-3  # s, error of a sum of whole seconds that the simulator sums and averages in float32


class Solved(NamedTuple):
    """An instance and its optimum."""

    instance: dict
    env: CECEnv
    params: EnvParams
    optimum: Optimum


def draw_instance(rng: random.Random, num_nodes: int, size: int) -> dict:
    """Three services on a tree of nodes, with numbers for which all durations and link shares are exact."""

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
    pytest.param((3, 4, 20), id="12 microservices"),
    pytest.param((4, 8, 10), id="24 microservices", marks=pytest.mark.slow),
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
    """All rules as one policy, which is compiled once."""
    return jax.lax.switch(index, list(BASELINES.values()), observation, key)


def play_rules(case: Solved) -> dict[str, Episodes]:
    """The instance's episode under every baseline."""
    return {
        name: rollout(case.env, case.params, apply=any_rule, params=jnp.int32(index), keys=KEYS)
        for index, name in enumerate(BASELINES)
    }


def play_planners(case: Solved) -> dict[str, Episodes]:
    """The instance's episode under the planners, and under the search that knows the future."""
    planners = [contender for contender in baseline_contenders(case.env) if contender.name not in BASELINES]
    played = {
        each.name: rollout(case.env, case.params, apply=each.apply, params=each.params, keys=KEYS) for each in planners
    }
    start = [*play_rules(case).values(), *played.values()]
    config = SearchConfig(population=32, generations=60)
    search = {"played": start, "config": config, "search_key": jax.random.key(1)}
    return played | {"clairvoyant": clairvoyant(case.env, case.params, KEYS, **search)}


@pytest.mark.parametrize("play", [play_rules, pytest.param(play_planners, marks=pytest.mark.slow)])
def test_no_policy_beats_the_optimum(solved, play):
    gaps = {}
    for case in solved:
        assert case.optimum.proved
        for name, episodes in play(case).items():
            total = M * float(episodes.act[0])
            assert total >= case.optimum.total - EXACT, name
            gaps.setdefault(name, []).append(total / case.optimum.total - 1)
    print(f"{len(solved)} optima, {max(case.optimum.seconds for case in solved):.1f} s the slowest proof")
    for name, shares in gaps.items():
        print(f"| {name} | {np.mean(shares):.1%} | {np.max(shares):.1%} | {sum(share < 1e-6 for share in shares)} |")


@functools.partial(jax.jit, static_argnums=0)
def held(env: CECEnv, params: EnvParams, host: jax.Array, flow_start: jax.Array) -> dict[str, jax.Array]:
    """The decisions of an episode with given hosts (M, N), at full rate, each flow held until a given time (M, N)."""

    def step(state, _):
        decision = current_decision(state, params)
        what = decision.service, decision.microservice
        action = Action(host[what], jnp.float32(1.0), flow_start[what] - decision.time)
        _, state, _, _, info = env.step_env(KEYS[0], state, action, params)
        return state, info

    return jax.lax.scan(step, env.reset_env(KEYS[0], params)[1], length=host.size)[1]


def held_as(env: CECEnv, params: EnvParams, host: dict, flow_start: dict) -> tuple[dict, dict, float]:
    """When flows and executions start, in the order of decisions, and the sum of completion times."""
    table = (env.config.num_services, env.config.max_microservices)
    hosts, moments = np.zeros(table, np.int32), np.zeros(table, np.float32)
    for what in host:
        hosts[what], moments[what] = host[what], flow_start[what]
    info = jax.tree.map(np.asarray, held(env, params, hosts, moments))
    order = list(zip(info["service"].tolist(), info["microservice"].tolist(), strict=True))
    flows, runs = (dict(zip(order, info[name].tolist(), strict=True)) for name in ("flow_start", "start"))
    return flows, runs, table[0] * float(info["act"].sum())


def test_every_episode_at_full_rate_is_a_solution(solved):
    for case in solved:
        rng = random.Random(str(case.instance))
        host = {what: rng.randrange(2 * case.env.config.num_nodes) for what in case.optimum.host}
        flow_start = {what: rng.randrange(60) for what in host}
        flow_start, start, total = held_as(case.env, case.params, host, flow_start)
        flow_start, start = ({what: int(t) for what, t in times.items()} for times in (flow_start, start))
        assert total_of(case.instance, host=host, flow_start=flow_start, start=start) == pytest.approx(total, abs=EXACT)
        early = start | {what: start[what] - 1 for what in list(start)[:1]}
        assert total_of(case.instance, host=host, flow_start=flow_start, start=early) is None, (
            "the input has not arrived yet"
        )


def test_the_simulator_follows_an_optimum(solved):
    """With the optimum's hosts and flow starts, all times agree until an execution starts before the optimum's.

    Proof: as long as all decisions agree, the next one is taken when the optimum's predecessors end. The flow, held
    until it starts in the optimum, fits there next to the committed flows, and so does the execution: it starts at that
    time or at an earlier one that fits. The environment's schedules at eta = 1 are therefore exactly the solutions in
    which every execution starts as soon after its input as its host can run it next to those decided before.
    """
    reached = 0
    for case in solved:
        optimum = case.optimum
        _, start, total = held_as(case.env, case.params, optimum.host, optimum.flow_start)
        apart = [what for what in start if start[what] != optimum.start[what]]
        if apart:
            assert start[apart[0]] < optimum.start[apart[0]]
        assert abs(total - optimum.total) <= EXACT or apart
        reached += abs(total - optimum.total) <= EXACT
    print(f"{reached} of {len(solved)} optima reached")


def test_the_simulator_reaches_the_optimum_without_waits_for_a_host(solved):
    """Such schedules are among the environment's, so their optimum is an upper bound of the environment's."""
    gaps = []
    for case in solved:
        no_wait = solve(case.instance, seconds=300, waits=False)
        assert no_wait.proved
        _, start, total = held_as(case.env, case.params, no_wait.host, no_wait.flow_start)
        assert start == no_wait.start
        assert total == pytest.approx(no_wait.total, abs=EXACT)
        gaps.append(no_wait.total / case.optimum.total - 1)
    equal = sum(gap == 0 for gap in gaps)
    print(f"{equal} of {len(gaps)} equal the optimum, {np.mean(gaps):.1%} above it, at most {max(gaps):.1%}")


# The second service is short and arrives one second after a long one, at the same node; moving either takes a minute.
KEPT_WAITING = {
    "links": [(0, 1, 1)],
    "node_speed": [1, 1],
    "device_speed": [0.125, 0.125],
    "capacity": [[1, 1]] * 2,
    "services": [
        {"release": 0, "source": 0, "preds": [[]], "load": [8], "data": [64], "demand": [[1, 1]]},
        {"release": 1, "source": 0, "preds": [[]], "load": [1], "data": [64], "demand": [[1, 1]]},
    ],
}
IDLE_UNTIL = {(0, 0): 2, (1, 0): 1}  # starts of the flows in the optimum


def test_an_optimum_may_keep_a_host_idle_which_no_action_does():
    """The optimum runs the short service first, during [1, 2). Only flows can be held, and the long one has no flow.

    No action can make it wait: either its 8 s at node 0 begin at once, or it runs elsewhere and takes longer.
    """
    assert solve(KEPT_WAITING, seconds=60).total == 1 + 10
    env, params = build_instance(**KEPT_WAITING)
    totals = [held_as(env, params, {(0, 0): a, (1, 0): b}, IDLE_UNTIL)[2] for a in range(4) for b in range(4)]
    assert min(totals) == 8 + 8
