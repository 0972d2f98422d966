"""Policies, and the simulator itself, against the proven optimum of instances with up to 24 microservices.

`helpers/optimum.py` has the simulator's model at full rate (eta = 1) without its order of decisions, and an execution
may wait even if its host could run it. Every episode at eta = 1, with any holds and postponements, is therefore a
solution, and the optimum bounds all of them. `test_the_simulator_follows_an_optimum` shows when the simulator reaches
it: always if nothing waits for a host after its input has arrived, and otherwise if whatever it waits for can be
decided first.
"""

import functools
import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("ortools", reason="the extra `referees` is not installed")

from helpers.optimum import Microservice, Optimum, blockers, due_times, solve, total_of
from helpers.oracle import Oracle, link_resources

from jaxcec.env import Action, CECEnv, EnvConfig, EnvParams, build_instance
from jaxcec.env.dag import current_decision
from jaxcec.evaluation import Episodes, baseline_contenders, clairvoyant, episode_keys, rollout, service_bounds
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


def draw_wide_instance(rng: random.Random, num_nodes: int, size: int) -> dict:
    """The same with latency, full-duplex links, input per dependency, and hosts that cannot run everything."""

    def rate() -> int | tuple[int, int]:
        return rng.choice([rng.choice([1, 2, 4]), (rng.choice([1, 2, 4]), rng.choice([1, 2, 4]))])

    instance = draw_instance(rng, num_nodes, size)
    router, lacks = rng.randrange(num_nodes), rng.randrange(num_nodes)
    instance |= {
        "links": [(a, b, rate(), rng.choice([0, 1, 3])) for a, b, _ in instance["links"]],
        "node_speed": [0 if node == router else speed for node, speed in enumerate(instance["node_speed"])],
        "device_speed": [rng.choice([0, 1]) for _ in range(num_nodes)],
        "capacity": [[cpu, 0 if node == lacks else 2] for node, (cpu, _) in enumerate(instance["capacity"])],
        "services": [with_parcels(rng, service) for service in instance["services"]],
    }
    oracle = Oracle(instance)
    for i, service in enumerate(instance["services"]):
        for j in range(size):
            if not any(oracle.feasible(i, j, node) for node in range(num_nodes)):
                instance["device_speed"][service["source"]] = 1  # the only host that may run it
    return instance


def with_parcels(rng: random.Random, service: dict) -> dict:
    """The service with input per dependency and external input.

    A microservice's parcels are multiples of one size, at most four in all, so that all shares of links are exact.
    """
    inputs, external = [], []
    for preds in service["preds"]:
        count = [5]
        while sum(count) > 4:
            count = [rng.randint(0, 2) for _ in range(len(preds) + 1)]
        size = 8 * rng.randint(1, 5)
        inputs.append({k: size * n for k, n in zip(preds, count, strict=False)})
        external.append(size * count[-1])
    kept = {name: service[name] for name in ("release", "source", "load", "demand")}
    return kept | {"inputs": inputs, "external": external}


SIZES = [
    pytest.param((draw_instance, 3, 4, 20), id="12 microservices"),
    pytest.param((draw_wide_instance, 3, 4, 20), id="12 wide microservices", marks=pytest.mark.slow),
    pytest.param((draw_instance, 4, 8, 10), id="24 microservices", marks=pytest.mark.slow),
    pytest.param((draw_wide_instance, 4, 8, 10), id="24 wide microservices", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=SIZES)
def solved(request) -> list[Solved]:
    draw, num_nodes, size, count = request.param
    most_links = (num_nodes - 1) * (2 if draw is draw_wide_instance else 1)
    config = EnvConfig(num_nodes, most_links, M, size, link_breakpoints=64, host_breakpoints=48)

    def one(seed: int) -> Solved:
        instance = draw(random.Random(seed), num_nodes, size)
        assert len(link_resources(instance["links"])) <= most_links
        return Solved(instance, *build_instance(**instance, config=config), solve(instance, seconds=300))

    return [one(seed) for seed in range(count)]


def any_rule(index, observation, _world, key) -> Action:
    """All rules as one policy, which is compiled once."""

    def may_postpone(rule):
        def decide(observation, key):
            action = rule(observation, key)
            return action.replace(postpone=jnp.float32(0.0)) if action.postpone is None else action

        return decide

    return jax.lax.switch(index, [may_postpone(rule) for rule in BASELINES.values()], observation, key)


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


def test_no_optimum_completes_a_service_before_its_bound(solved):
    for case in solved:
        bounds = np.asarray(service_bounds(case.env.reset(KEYS[0], case.params)[1], case.params))
        for i, (service, bound) in enumerate(zip(case.instance["services"], bounds, strict=True)):
            finish = max(case.optimum.finish[i, j] for j in range(len(service["load"])))
            assert finish - service["release"] >= bound - EXACT


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


class Replayed(NamedTuple):
    """An episode; its times in s, in the order of decisions."""

    host: dict[Microservice, int]
    flow_start: dict[Microservice, float]
    start: dict[Microservice, float]
    total: float  # sum of completion times


@functools.partial(jax.jit, static_argnums=0)
def held(
    env: CECEnv, params: EnvParams, host: jax.Array, flow_start: jax.Array, due: jax.Array
) -> dict[str, jax.Array]:
    """An episode at full rate with given hosts, each decision put off and each flow held until given times (M, N)."""

    def step(state, _):
        decision = current_decision(state, params)
        what, time = (decision.service, decision.microservice), decision.time
        action = Action(host[what], jnp.float32(1.0), flow_start[what] - time, due[what] - time)
        _, state, _, _, info = env.step_env(KEYS[0], state, action, params)
        return state, info

    # Each decision is put off once at most.
    return jax.lax.scan(step, env.reset_env(KEYS[0], params)[1], length=2 * host.size)[1]


def replay(
    env: CECEnv,
    params: EnvParams,
    *,
    host: dict[Microservice, int],
    flow_start: dict[Microservice, float],
    due: dict[Microservice, float],
) -> Replayed:
    """The episode in which decisions are put off until they are due, and flows are held; not into the past."""
    table = (env.config.num_services, env.config.max_microservices)
    hosts, moments, dues = np.zeros(table, np.int32), np.zeros(table, np.float32), np.zeros(table, np.float32)
    for what in host:
        hosts[what], moments[what], dues[what] = host[what], flow_start[what], due[what]
    info = jax.tree.map(np.asarray, held(env, params, hosts, moments, dues))
    total = table[0] * float(info["act"][info["decided"]][-1])
    info = {name: values[info["decided"]].tolist() for name, values in info.items()}
    order = list(zip(info["service"], info["microservice"], strict=True))
    return Replayed(*(dict(zip(order, info[name], strict=True)) for name in Replayed._fields[:3]), total)


def replay_optimum(case: Solved, optimum: Optimum) -> Replayed:
    """Follow a solution: every flow is held until it starts there, and decisions are taken at `due_times`."""
    due = due_times(case.instance, optimum)
    return replay(case.env, case.params, host=optimum.host, flow_start=optimum.flow_start, due=due)


def test_every_episode_at_full_rate_is_a_solution(solved):
    for case in solved:
        rng = random.Random(str(case.instance))
        what = list(case.optimum.host)
        played = replay(
            case.env,
            case.params,
            host={each: rng.randrange(2 * case.env.config.num_nodes) for each in what},
            flow_start={each: rng.randrange(60) for each in what},
            due={each: rng.randrange(60) for each in what},
        )
        host = played.host  # redirected from those that cannot run the microservice
        flow_start, start = ({each: int(t) for each, t in times.items()} for times in played[1:3])
        total = total_of(case.instance, host=host, flow_start=flow_start, start=start)
        assert total == pytest.approx(played.total, abs=EXACT)
        early = start | {each: start[each] - 1 for each in list(start)[:1]}
        assert total_of(case.instance, host=host, flow_start=flow_start, start=early) is None, (
            "the input has not arrived yet"
        )


def test_the_simulator_follows_an_optimum(solved):
    """All times agree until an execution starts before the optimum's, for which what it waits for is decided too late.

    Proof: a decision may be put off until its flow starts in the optimum, so decisions can be taken in any order for
    which each lies between the optimum's ready time and flow start. As long as all of them agree, the flow, held until
    it starts in the optimum, fits there next to the committed flows, and so does the execution: it starts at that time
    or at an earlier one that fits. It can only start earlier if it waits in the optimum while an execution that is not
    yet committed uses its host. Hence every solution without waits is reached, in any such order, and one with waits if
    whatever an execution waits for can be decided before it. In an optimum of least wait, that is missed only where a
    flow must start before it is known what its execution will wait for, and cannot be sent later because its links are
    busy then; otherwise a longer hold does the same.
    """
    reached, waiting = 0, 0
    for case in solved:
        optimum = case.optimum
        played = replay_optimum(case, optimum)
        order = list(played.start)
        apart = [what for what in order if played.start[what] != optimum.start[what]]
        if apart:
            assert played.start[apart[0]] < optimum.start[apart[0]]
            decided_later = order[order.index(apart[0]) + 1 :]
            assert set(blockers(optimum, apart[0])) & set(decided_later)
        assert played.total == pytest.approx(optimum.total, abs=EXACT) or apart
        reached += abs(played.total - optimum.total) <= EXACT
        waiting += optimum.wait > 0
    print(f"{reached} of {len(solved)} optima reached, {waiting} have waits")


def test_the_simulator_reaches_the_optimum_without_waits_for_a_host(solved):
    """Such schedules are among the environment's, in any order of decisions between ready times and flow starts."""
    gaps = []
    for case in solved:
        no_wait = case.optimum if case.optimum.wait == 0 else solve(case.instance, seconds=300, waits=False)
        assert no_wait.proved
        for due in (no_wait.flow_start, dict.fromkeys(no_wait.host, 0), due_times(case.instance, no_wait)):
            played = replay(case.env, case.params, host=no_wait.host, flow_start=no_wait.flow_start, due=due)
            assert played.start == no_wait.start
            assert played.total == pytest.approx(no_wait.total, abs=EXACT)
        gaps.append(no_wait.total / case.optimum.total - 1)
    equal = sum(gap == 0 for gap in gaps)
    print(f"{equal} of {len(gaps)} equal the optimum, {np.mean(gaps):.1%} above it, at most {max(gaps):.1%}")


def test_the_simulator_reaches_the_optimum_whose_waits_can_be_decided_in_order(solved):
    """The best that `test_the_simulator_follows_an_optimum` says is reached; the optimum itself in most cases."""
    gaps = []
    for case in solved:
        best = case.optimum
        if abs(replay_optimum(case, best).total - best.total) > EXACT:
            best = solve(case.instance, seconds=300, in_order=True)
            assert best.proved
        assert replay_optimum(case, best).total == pytest.approx(best.total, abs=EXACT)
        gaps.append(best.total / case.optimum.total - 1)
    equal = sum(gap == 0 for gap in gaps)
    print(f"{equal} of {len(gaps)} equal the optimum, {np.mean(gaps):.2%} above it, at most {max(gaps):.2%}")


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


@pytest.mark.parametrize(
    ("flow_start", "due"), [pytest.param(2, 0, id="held"), pytest.param(0, 1.5, id="decided later")]
)
def test_a_host_can_be_kept_idle_for_a_service_about_to_come(flow_start, due):
    """The optimum runs the short service first, during [1, 2). The long one has nothing to move, but can be held.

    Without a hold or a postponement it begins at once, and the sum is 16 s at best.
    """
    assert solve(KEPT_WAITING, seconds=60).total == 1 + 10
    env, params = build_instance(**KEPT_WAITING)
    host, nothing = {(0, 0): 0, (1, 0): 0}, {(0, 0): 0, (1, 0): 0}
    waits = {"flow_start": nothing | {(0, 0): flow_start}, "due": nothing | {(0, 0): due}}
    assert replay(env, params, host=host, **waits).total == 1 + 10
    hosts = [{(0, 0): a, (1, 0): b} for a in range(4) for b in range(4)]
    assert min(replay(env, params, host=host, flow_start=nothing, due=nothing).total for host in hosts) == 8 + 8


# Two services send their input over one link, the first one 4 s and the second one 8 s, and run at node 1 at the same
# time; a third one, at node 1 from 4 s on, is short and competes with the first.
TOO_EARLY = {
    "links": [(0, 1, 1)],
    "node_speed": [0, 1],
    "device_speed": [0, 0],
    "capacity": [[1, 1]] * 2,
    "services": [
        {"release": 0, "source": 0, "preds": [[]], "load": [8], "data": [4], "demand": [[1, 0]]},
        {"release": 0, "source": 0, "preds": [[]], "load": [1], "data": [8], "demand": [[0, 1]]},
        {"release": 4, "source": 1, "preds": [[]], "load": [1], "data": [0], "demand": [[1, 0]]},
    ],
}


def test_an_optimum_may_need_what_is_not_known_when_a_flow_must_start():
    """In the optimum the first service's input arrives at 4, and its execution waits for the third one until 5.

    Its flow must start at 0, before the second one's, and it is decided then: its execution is booked from 4 on,
    because the third service is not there yet. The best without waits sends both flows 1 s later, which costs 1 s.
    """
    optimum, no_wait = solve(TOO_EARLY, seconds=60), solve(TOO_EARLY, seconds=60, waits=False)
    assert (optimum.total, optimum.wait, no_wait.total) == (13 + 13 + 1, 1, 13 + 14 + 1)
    case = Solved(TOO_EARLY, *build_instance(**TOO_EARLY), optimum)
    assert replay_optimum(case, optimum).start == {(0, 0): 4, (1, 0): 12, (2, 0): 12}
    assert replay_optimum(case, no_wait).total == pytest.approx(no_wait.total, abs=EXACT)
    assert solve(TOO_EARLY, seconds=60, in_order=True).total == no_wait.total
