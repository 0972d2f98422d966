"""Cross-validation against SimGrid: replayed schedules of the simulator must finish at the simulator's times.

SimGrid (Casanova et al., JPDC 2014) receives sizes, the platform, the start of each flow and execution, and the rate
that each flow requests, computed here from sizes and nominal bandwidths. It receives no finish times and reserves
nothing: links are shared max-min fairly up to the requested rates, and cores equally among threads, so that anything
overbooked slows down and finishes late. An execution also waits for its own flows, and flows use explicit routes of
several links.

How the two models correspond:

- links: CM02 without latency and bandwidth factors, TCP window (gamma), weight of short links (weight-S) and
  cross-traffic; one shared link for both directions, or one for each if full duplex, as in the simulator; SimGrid sums
  the latency of a path's links; routes from `tests/helpers/oracle.py`;
- a coflow: one flow from each node that holds a part of the input, capped at size / tau, tau = G / eta, and arriving
  after its own path's latency;
- resources: a microservice that holds R of C of a host's cpu runs as R x 4 threads on C x 4 cores, and as many again
  for memory, each thread with all of its cycles; the model has no slower execution, so one indicates overbooking;
- other tenants: none. In the model their load is elastic and yields to reservations.
"""

import dataclasses
import json
import random
import subprocess
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import rollout
from helpers.oracle import Oracle, Record, link_resources, predecessors, shortest_route

from jaxcec.env import Action, EnvConfig, build_instance

PYTHON = "/usr/bin/python3"  # its distribution has the module, the tests' environment does not
SCRIPT = Path(__file__).parents[1] / "helpers" / "simgrid_replay.py"
V, M, N = 8, 4, 8
CONFIG = EnvConfig(V, max_links=20, num_services=M, max_microservices=N, link_breakpoints=96, host_breakpoints=64)
CORES = 4  # per unit of a resource
SCALE = 1e6  # bytes in a Mbit, flops in a Mcycle: sizes are whole bytes in SimGrid
TOLERANCE = 1e-3  # relative to the duration of the flow or execution
KEY = jax.random.key(0)


def has_simgrid() -> bool:
    try:
        return not subprocess.run([PYTHON, "-c", "import simgrid"], capture_output=True).returncode
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not has_simgrid(), reason=f"{PYTHON} has no simgrid: apt-get install python3-simgrid")


def draw_instance(rng: random.Random) -> dict:
    """Services on a sparse network with paths of several links; demands are whole cores."""
    tree = {(rng.randrange(max(0, b - 2), b), b) for b in range(1, V)}
    more = {tuple(sorted(rng.sample(range(V), 2))) for _ in range(3)} - tree

    def service() -> dict:
        size = rng.randint(1, N)
        return {
            "release": rng.uniform(0, 20),
            "source": rng.randrange(V),
            "preds": [sorted(rng.sample(range(j), min(j, rng.randint(0, 3)))) for j in range(size)],
            "load": [rng.uniform(50, 1000) for _ in range(size)],
            "data": [rng.choice([0, rng.uniform(50, 1000)]) for _ in range(size)],
            "demand": [[rng.randint(1, 8) / CORES, rng.randint(0, 8) / CORES] for _ in range(size)],
        }

    return {
        "links": [(a, b, rng.uniform(1, 19)) for a, b in sorted(tree | more)],
        "node_speed": [rng.uniform(4, 76) for _ in range(V)],
        "device_speed": [rng.uniform(6, 14) for _ in range(V)],
        "capacity": [[rng.randint(2, 4), rng.randint(2, 4)] for _ in range(V)],
        "services": [service() for _ in range(M)],
    }


def draw_wide_instance(rng: random.Random) -> dict:
    """The same with latency, links of which half are full duplex, input per dependency and external input."""

    def rate() -> float | tuple[float, float]:
        return rng.uniform(1, 19) if rng.random() < 0.5 else (rng.uniform(1, 19), rng.uniform(1, 19))

    def data() -> float:
        return rng.choice([0, rng.uniform(50, 500)])

    def with_parcels(service: dict) -> dict:
        kept = {name: service[name] for name in ("release", "source", "load", "demand")}
        inputs = [{k: data() for k in preds} for preds in service["preds"]]
        return kept | {"inputs": inputs, "external": [data() for _ in inputs]}

    instance = draw_instance(rng)
    links = [(a, b, rate(), rng.choice([0, rng.uniform(0, 5)])) for a, b, _ in instance["links"]]
    return instance | {"links": links, "services": [with_parcels(service) for service in instance["services"]]}


def draw_actions(rng: random.Random, count: int) -> list[tuple[int, float, float]]:
    """Hosts, often one of two nodes, which become busy; bandwidth shares, often below 1; holds, often positive."""
    popular = rng.sample(range(V), 2)
    return [
        (rng.choice([rng.choice(popular), rng.randrange(2 * V)]), *rng.choice([(1.0, 0.0), (eta, hold)]))
        for eta, hold in [(rng.uniform(0.1, 1), rng.uniform(0, 30)) for _ in range(count)]
    ]


def simulate(instance: dict, actions: list[tuple[int, float, float]]) -> list[Record]:
    """The simulator's schedule."""
    env, params = build_instance(**instance, config=CONFIG)
    host, eta, hold = (np.array(column) for column in zip(*actions, strict=True))
    actions = Action(jnp.asarray(host, jnp.int32), jnp.asarray(eta, jnp.float32), jnp.asarray(hold, jnp.float32))
    _, trace, _ = rollout(env, params, env.reset_env(KEY, params)[1], actions)
    trace = {name: np.asarray(values)[np.asarray(trace["decided"])] for name, values in trace.items()}
    assert trace["merges"].max() == 0
    names = [field.name for field in dataclasses.fields(Record) if not field.name.endswith("_reward")]
    return [Record(**{name: trace[name][i].item() for name in names}) for i in range(len(trace["time"]))]


def flows_of(oracle: Oracle, record: Record, eta: float) -> list[dict]:
    """The flows of a microservice's input: one from each node that holds a part, all of duration G / eta."""
    what, target = (record.service, record.microservice), record.host % V
    volume = oracle.coflow(*what, record.host)
    duration = max(x / bandwidth for x, bandwidth in zip(volume, oracle.bandwidth, strict=True)) / eta
    parts = Counter()
    for node, data in oracle.holders(*what):
        parts[node] += data
    return [
        {"source": node, "bytes": round(part * SCALE), "rate": part * SCALE / duration, "start": record.flow_start}
        for node, part in sorted(parts.items())
        if node != target and round(part * SCALE) > 0
    ]


def replay(instance: dict, actions: list[tuple[int, float, float]], records: list[Record]) -> dict:
    """SimGrid's finish of each flow and of each execution, s, given the starts in a schedule.

    And `lead`, by how much the latency of each flow's path is less than the greatest of its coflow, s.
    """
    oracle, tasks, lead = Oracle(instance), [], []
    for record, (_, eta, _) in zip(records, actions, strict=False):
        flows = flows_of(oracle, record, eta)
        latency = [oracle.path_latency(flow["source"], record.host % V) for flow in flows]
        lead.append([max(latency) - each for each in latency])
        oracle.records[record.service, record.microservice] = record
        task = {"node": record.host % V, "host": record.host, "start": record.start, "flows": flows}
        task["flops"] = instance["services"][record.service]["load"][record.microservice] * SCALE
        task["threads"] = [round(r * CORES) for r in oracle.demand(record.service, record.microservice, record.host)]
        tasks.append(task)
    case = {
        "links": [(bandwidth * SCALE, latency) for bandwidth, latency in link_resources(oracle.links)],
        "routes": [[a, b, shortest_route(oracle.links, a, b)] for a in range(V) for b in range(V) if a != b],
        "hosts": [
            [speed * SCALE, [round(c * CORES) for c in capacity]]
            for speed, capacity in zip(oracle.speed, oracle.capacity, strict=True)
        ],
        "microservices": tasks,
    }
    done = subprocess.run([PYTHON, SCRIPT], input=json.dumps(case), capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout) | {"lead": lead}


def errors(records: list[Record], replayed: dict) -> tuple[list[float], list[float]]:
    """Relative difference of the two finishes, for each flow and each execution, as a share of its duration.

    A flow that has less far to go than the slowest one of its coflow arrives that much earlier.
    """
    flows = [
        abs(finish + early - record.data_ready) / (record.data_ready - record.flow_start)
        for record, finishes, lead in zip(records, replayed["flows"], replayed["lead"], strict=True)
        for finish, early in zip(finishes, lead, strict=True)
    ]
    executions = [
        abs(finish - record.finish) / (record.finish - record.start)
        for record, finish in zip(records, replayed["executions"], strict=True)
    ]
    return flows, executions


def check(instance: dict, actions: list, records: list[Record]) -> tuple[list[float], list[float]]:
    """Assert that everything finishes in SimGrid as scheduled, and that nothing starts before its input exists."""
    replayed = replay(instance, actions, records)
    flows, executions = errors(records, replayed)
    assert max(flows, default=0.0) <= TOLERANCE
    assert max(executions) <= TOLERANCE
    finish = {(r.service, r.microservice): end for r, end in zip(records, replayed["executions"], strict=True)}
    for record in records:
        for k in predecessors(instance["services"][record.service], record.microservice):
            assert finish[record.service, k] <= record.flow_start * (1 + 1e-4)
    return flows, executions


@pytest.mark.parametrize(
    "draw",
    [pytest.param(draw_instance, marks=pytest.mark.slow, id="plain"), pytest.param(draw_wide_instance, id="wide")],
)
def test_everything_finishes_at_the_simulator_s_times(draw):
    flows, executions = [], []
    for seed in range(100):
        rng = random.Random(seed)
        instance, actions = draw(rng), draw_actions(rng, M * N)
        found = check(instance, actions, simulate(instance, actions))
        flows += found[0]
        executions += found[1]
    print(f"{len(flows)} flows within {max(flows):.1e}, {len(executions)} executions within {max(executions):.1e}")


# Four services whose only input crosses two links to one node: each waits for the links and cores of the previous one.
LINE = {
    "links": [(v, v + 1, 10) for v in range(V - 1)],
    "node_speed": [10] * V,
    "device_speed": [5] * V,
    "capacity": [[2, 2]] * V,
    "services": [
        {"release": 0, "source": 0, "preds": [[]], "load": [100], "data": [100], "demand": [[2, 1]]} for _ in range(3)
    ]
    + [{"release": 0, "source": 0, "preds": [[], [0]], "load": [100] * 2, "data": [100] * 2, "demand": [[2, 1]] * 2}],
}


@pytest.fixture(scope="module")
def line():
    """Actions and the schedule: flows during [0, 10), [10, 20), ..., executions during [10, 20), [20, 30), ..."""
    actions = [(2, 1.0, 0.0)] * (M * N)
    records = simulate(LINE, actions)
    check(LINE, actions, records)
    return actions, records


@pytest.mark.parametrize(
    ("index", "forged"),
    [
        pytest.param(1, {"flow_start": 0.0, "data_ready": 10.0}, id="link overbooked"),
        pytest.param(0, {"start": 15.0, "finish": 25.0}, id="host overbooked"),
        pytest.param(1, {"start": 18.0, "finish": 28.0}, id="execution before its input"),
        pytest.param(4, {"flow_start": 45.0}, id="flow before its predecessor ends"),
        pytest.param(1, {"data_ready": 20.1}, id="wrong arrival"),
        pytest.param(1, {"finish": 30.1}, id="wrong finish"),
    ],
)
def test_a_wrong_schedule_is_caught(line, index, forged):
    actions, records = line
    wrong = [*records[:index], dataclasses.replace(records[index], **forged), *records[index + 1 :]]
    with pytest.raises(AssertionError):
        check(LINE, actions, wrong)
