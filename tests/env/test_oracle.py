"""Random episodes of the simulator against an independent simulator (tests/helpers/oracle.py).

There are two kinds of episodes. In exact ones, every number is a small multiple of a power of two, so that float32
rounds nothing and the two simulators must agree, including ties and exact fits. In rough ones, numbers are arbitrary.
Rarely, a result then depends on the last bit (whether a flow fits into a gap of the same length); such an instance is
dismissed if the oracle contradicts itself after its input is changed in the seventh digit.

Each kind has a wide form with everything that a world may have: latency, full-duplex links, input per dependency,
external input, nodes that only forward, missing end devices, order by rank, postponed decisions and invalid actions.
"""

import dataclasses
import functools
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracle import Oracle, Record, predecessors
from hypothesis import HealthCheck, assume, given, note, settings

from jaxcec.env import Action, EnvConfig, build_instance
from jaxcec.env.types import Background

V = 5
CONFIG = EnvConfig(
    num_nodes=V, max_links=12, num_services=6, max_microservices=5, link_breakpoints=80, host_breakpoints=64
)
WIDE = dataclasses.replace(CONFIG, max_links=20)  # link resources: five nodes have ten links, each of two directions
TINY = {"link_breakpoints": 4, "host_breakpoints": 3}
STEPS = CONFIG.num_services * CONFIG.max_microservices + 1  # one more than the longest episode
MOST_DELAYS = 4  # postponed decisions of a wide episode, each of which takes one step more

TIMES = ("time", "flow_start", "data_ready", "start", "finish")
FLOAT32 = 1e-6  # relative error of an instant that float32 may accumulate over an episode
ROUNDING = 2.0**-22  # relative error of one instant; a few ulps
JUMP = 1e-4  # relative change of an instant that rounding alone does not explain

# Values drawn in an exact instance. A rough one draws from the interval that the non-zero values span, and zeros with
# the same frequency.
CHOICES: dict[str, list[float]] = {
    "bandwidth": [1, 2, 4, 8],
    "speed": [1, 2, 4],
    "capacity": [2, 2, 3],  # determines fits, not durations, so that any fraction is exact enough
    "release": [0, 0, 2, 4, 8],
    "load": [0, 8, 16, 32, 48, 64],
    "data": [0, 12, 24, 36, 48],  # any number of predecessors divides it
    "demand": [0, 0.1, 0.2, 0.7, 1, 1, 1.8, 2],
    "eta": [0.0625, 0.25, 0.5, 1, 2],
    "eps": [0, 0, 1, 4],
    "background": [0, 0.5, 0.75],
    "frame": [2, 4, 8],
    # Of wide instances only.
    "latency": [0, 0.25, 0.5, 2],
    "input": [0, 0, 8, 16, 24],
    "speed or router": [0, 1, 1, 2, 2, 4],
    "speed or none": [0, 1, 2, 4],
    "capacity or none": [0, 1, 2, 2, 2, 3, 3, 3],
    "postpone": [1, 2, 4],
}
UNUSABLE = [math.nan, math.inf, -math.inf]  # numbers in a few of the actions of wide episodes


@dataclasses.dataclass(frozen=True)
class Case:
    """An instance, its background load, and the actions of an episode."""

    instance: dict[str, Any]
    load: list[list[float]]  # (B, F) bank of background traces
    frame: float  # s
    offset: list[int]  # (E + H,) first frame of each link resource and host
    actions: list[tuple[int, float, float, float]]  # host, eta, eps, postpone
    config: EnvConfig

    def background(self, resource: int, time: float) -> float:
        """Background load of a resource, numbered as in `offset`, at a time."""
        frames = len(self.load[0])
        row, first = divmod(self.offset[resource], frames)
        return self.load[row][(first + int(time // self.frame)) % frames]

    def oracle(self, rounding: float = 0.0) -> Oracle:
        """The oracle for this case; in `offset`, links precede hosts."""
        return Oracle(
            self.instance, self.background, lambda h, time: self.background(self.config.max_links + h, time), rounding
        )


def draw_case(rng: random.Random, exact: bool, wide: bool, background: bool) -> Case:
    """Draw an instance and an episode's actions."""
    draw = functools.partial(draw_number, rng, exact)
    popular = rng.randrange(2 * V)
    traces = (3, 5) if background else (1, 1)
    config = WIDE if wide else CONFIG
    return Case(
        instance=draw_wide_instance(rng, draw) if wide else draw_instance(rng, draw),
        load=[[draw("background") if background else 0.0 for _ in range(traces[1])] for _ in range(traces[0])],
        frame=draw("frame"),
        offset=[rng.randrange(traces[0] * traces[1]) for _ in range(config.max_links + 2 * V)],
        actions=draw_actions(rng, draw, exact, wide, popular),
        config=config,
    )


def draw_number(rng: random.Random, exact: bool, quantity: str) -> float:
    """One of the quantity's values, or in a rough case a number between them."""
    choice = rng.choice(CHOICES[quantity])
    if exact or choice == 0:
        return choice
    nonzero = [value for value in CHOICES[quantity] if value]
    return float(np.float32(rng.uniform(min(nonzero), max(nonzero))))


def draw_instance(rng: random.Random, draw: Callable[[str], float]) -> dict[str, Any]:
    """An instance in which every host runs everything and links have one rate."""
    return {
        "links": [(a, b, draw("bandwidth")) for a, b in draw_links(rng)],
        "node_speed": [draw("speed") for _ in range(V)],
        "device_speed": [draw("speed") for _ in range(V)],
        "capacity": [[draw("capacity"), draw("capacity")] for _ in range(V)],
        "services": [draw_service(rng, draw) for _ in range(CONFIG.num_services)],
    }


def draw_wide_instance(rng: random.Random, draw: Callable[[str], float]) -> dict[str, Any]:
    """An instance with latency, full-duplex links, input per dependency, and hosts that cannot run everything."""

    def rate() -> float | tuple[float, float]:
        return draw("bandwidth") if rng.random() < 0.5 else (draw("bandwidth"), draw("bandwidth"))

    instance = {
        "links": [(a, b, rate(), draw("latency")) for a, b in draw_links(rng)],
        "node_speed": [draw("speed or router") for _ in range(V)],
        "device_speed": [draw("speed or none") for _ in range(V)],
        "capacity": [[draw("capacity or none"), draw("capacity or none")] for _ in range(V)],
        "services": [draw_wide_service(rng, draw) for _ in range(CONFIG.num_services)],
        "ties": rng.choice(["index", "rank"]),
    }
    oracle = Oracle(instance)
    for i, service in enumerate(instance["services"]):
        somewhere = all(any(oracle.feasible(i, j, node) for node in range(V)) for j in range(len(service["load"])))
        if not somewhere and instance["device_speed"][service["source"]] == 0:
            instance["device_speed"][service["source"]] = draw("speed")
    return instance


def draw_actions(
    rng: random.Random, draw: Callable[[str], float], exact: bool, wide: bool, popular: int
) -> list[tuple[int, float, float, float]]:
    """Host, eta, eps and postponement of every step; `popular` is the host of many of them."""

    def host() -> int:
        return popular if rng.random() < 0.4 else rng.randint(-1, 2 * V)  # -1 and 2V are clipped

    def eta() -> float:
        return 0.0 if not exact and rng.random() < 0.004 else draw("eta")  # 0 is raised to 1e-3, no power of two

    if not wide:
        return [(host(), eta(), draw("eps"), 0.0) for _ in range(STEPS)]

    def usually(value: float) -> float:
        return rng.choice(UNUSABLE) if rng.random() < 0.02 else value

    delays = rng.sample(range(STEPS // 2), rng.randint(0, MOST_DELAYS))
    return [
        (host(), usually(eta()), usually(draw("eps")), usually(draw("postpone") if step in delays else 0.0))
        for step in range(STEPS + MOST_DELAYS)
    ]


def draw_links(rng: random.Random) -> list[tuple[int, int]]:
    """A connected topology: a random tree and additional random links, in random order and direction."""
    tree = {(rng.randrange(b), b) for b in range(1, V)}
    others = {(a, b) for b in range(V) for a in range(b)} - tree
    chosen = [*sorted(tree), *(link for link in sorted(others) if rng.random() < 0.4)]
    rng.shuffle(chosen)
    return [link if rng.random() < 0.5 else link[::-1] for link in chosen]


def draw_service(rng: random.Random, draw: Callable[[str], float]) -> dict[str, Any]:
    """A service with up to N microservices and random edges from lower to higher indices."""
    size = rng.randint(1, CONFIG.max_microservices)
    return {
        "release": draw("release"),
        "source": rng.randrange(V),
        "preds": [[k for k in range(j) if rng.random() < 0.4] for j in range(size)],
        "load": [draw("load") for _ in range(size)],
        "data": [draw("data") for _ in range(size)],
        "demand": [[draw("demand"), draw("demand")] for _ in range(size)],
    }


def draw_wide_service(rng: random.Random, draw: Callable[[str], float]) -> dict[str, Any]:
    """A service whose input is given as before, or for each dependency and with external input."""
    service = draw_service(rng, draw)
    preds = service["preds"]
    if rng.random() < 0.3:
        return service
    del service["preds"], service["data"]
    service["inputs"] = [{k: draw("input") for k in before} for before in preds]
    if rng.random() < 0.8:
        service["external"] = [draw("input") for _ in preds]
    return service


@functools.partial(jax.jit, static_argnums=0)
def rollout(env, params, offset, actions):
    """Reward and info of every step of one episode, with the given offsets of the background traces."""
    key = jax.random.key(0)
    _, state = env.reset(key, params)
    state = state.replace(episode=state.episode.replace(offset=offset))

    def step(state, action):
        _, state, reward, terminated, info = env.step_env(key, state, action, params)
        return state, {**info, "reward": reward, "terminated": terminated}

    return jax.lax.scan(step, state, actions)[1]


def simulate(case: Case, config: EnvConfig) -> dict[str, np.ndarray]:
    """The simulator's episode: arrays over the steps, for each entry of `info`, `reward` and `terminated`."""
    env, params = build_instance(**case.instance, config=config)
    load, frame = jnp.asarray(case.load, jnp.float32), jnp.asarray(case.frame, jnp.float32)
    params = params.replace(background=Background(load=load, frame=frame))
    hosts, *numbers = zip(*case.actions, strict=True)
    etas, holds, delays = (jnp.asarray(column, jnp.float32) for column in numbers)
    # Without the last field, which is optional, nothing is ever postponed.
    actions = Action(jnp.asarray(hosts, jnp.int32), etas, holds, *([delays] if any(delays) else []))
    trace = rollout(env, params, jnp.asarray(case.offset, jnp.int32), actions)
    return {name: np.asarray(values) for name, values in trace.items()}


def records_of(trace: dict[str, np.ndarray]) -> list[Record]:
    """The decisions of a simulated episode, postponed ones included."""
    names = [field.name for field in dataclasses.fields(Record) if not field.name.endswith("_reward")]
    count = int((trace["decided"] | trace["postponed"]).sum())
    return [Record(**{name: trace[name][step].item() for name in names}) for step in range(count)]


def consult(case: Case) -> tuple[list[Record], float]:
    """The oracle's episode: its decisions and ACT."""
    oracle = case.oracle()
    records = []
    while oracle.current() is not None:
        records.append(oracle.decide(*case.actions[len(records)]))
    oracle.check_capacity()
    return records, oracle.act()


def same(record: Record, expected: Record, tolerance: float) -> bool:
    """Whether two decisions are the same, with the same times and hold; the tolerance is relative to the finish.

    A postponed decision has no host and no times but its own.
    """
    names, times = ["service", "microservice", "postponed"], ["time"]
    if not expected.postponed:
        names += ["host", "decided", "redirected", "invalid"]
        times += TIMES
    if any(getattr(record, name) != getattr(expected, name) for name in names):
        return False
    pairs = [(getattr(record, name), getattr(expected, name)) for name in times]
    if not expected.postponed:
        pairs += [(record.flow_start - record.time, expected.flow_start - expected.time)]
    return all(abs(a - b) <= tolerance * expected.finish for a, b in pairs)


def depends_on_the_last_bit(case: Case, records: list[Record]) -> bool:
    """Whether the oracle decides differently if loads, data and the time scale change in the seventh digit."""
    rng = random.Random(0)

    def shake(value: float) -> float:
        return value * (1 + rng.uniform(-FLOAT32, FLOAT32))

    for _ in range(10):
        scale = shake(1.0)
        services = []
        for service in case.instance["services"]:
            changed = {"release": scale * service["release"], "load": [shake(load) for load in service["load"]]}
            for name in {"data", "external"} & service.keys():
                changed[name] = [shake(data) for data in service[name]]
            if "inputs" in service:
                changed["inputs"] = [{k: shake(data) for k, data in sent.items()} for sent in service["inputs"]]
            services.append(service | changed)
        shaken = dataclasses.replace(case, instance=case.instance | {"services": services})
        if not all(same(a, b, JUMP) for a, b in zip(consult(shaken)[0], records, strict=True)):
            return True
    return False


def decides_between_frames(case: Case, trace: dict[str, np.ndarray]) -> bool:
    """Whether a decision is so close to the end of a background frame that rounding determines its frame."""
    if all(share == case.load[0][0] for row in case.load for share in row):
        return False  # all frames are equal
    times = trace["time"][trace["decided"] & (trace["time"] > 0.0)].astype(np.float64)
    return bool((np.abs(times - np.round(times / case.frame) * case.frame) <= 4.0 * ROUNDING * times).any())


def for_random_cases(
    check: Callable[[Case], None], *, exact: bool, wide: bool, background: bool, examples: int
) -> None:
    """Call `check` with `examples` random cases.

    Python's generator draws them from hypothesis's seeds. Hypothesis's own draws favour round numbers and constants in
    the loaded source code: a quarter of the rough cases would then depend on rounding, and a different quarter with
    every module added.
    """

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=True))
    def run(rng):
        case = draw_case(rng, exact, wide, background)
        note(str(case))  # printed on failure
        check(case)

    run()


KINDS = pytest.mark.parametrize(
    ("exact", "wide"),
    [(True, False), (False, False), (True, True), (False, True)],
    ids=["exact", "rough", "wide-exact", "wide-rough"],
)
BACKGROUND = pytest.mark.parametrize("background", [False, True], ids=["alone", "background"])
EXAMPLES = pytest.mark.parametrize("examples", [60, pytest.param(1000, marks=pytest.mark.slow)])


@KINDS
@BACKGROUND
@EXAMPLES
def test_episodes_agree_with_the_oracle(exact, wide, background, examples):
    """Order, host, hold, data ready, start, finish, reward and ACT agree, without any merged segment."""
    count = Counter()
    tolerance = 0.0 if exact else FLOAT32

    def check(case):
        count["episodes"] += 1
        expected, act = consult(case)
        trace = simulate(case, case.config)
        records = records_of(trace)
        assert trace["merges"].max() == 0
        agree = [same(record, answer, tolerance) for record, answer in zip(records, expected, strict=True)]
        if not exact and not all(agree) and depends_on_the_last_bit(case, expected):
            count["dismissed"] += 1
            assume(False)
        for record, answer, fine in zip(records, expected, agree, strict=True):
            assert fine, f"{record} instead of {answer}"
        check_outcome(trace, expected, act, tolerance)
        for name in ("postponed", "redirected", "invalid"):
            count[name] += sum(getattr(answer, name) for answer in expected)

    for_random_cases(check, exact=exact, wide=wide, background=background, examples=examples)
    assert count["dismissed"] <= 0.01 * count["episodes"], count
    assert all((count[name] > 0) == wide for name in ("postponed", "redirected", "invalid")), count


def check_outcome(trace: dict[str, np.ndarray], expected: list[Record], act: float, tolerance: float) -> None:
    """Check rewards, ACT and termination, and that nothing happens afterwards."""
    last, steps = len(expected) - 1, np.arange(len(trace["reward"]))
    rewards = [record.act_reward for record in expected]
    error = 2 * tolerance * max(record.finish for record in expected)  # a reward is a difference of two instants
    np.testing.assert_allclose(trace["reward"][: last + 1], rewards, rtol=0, atol=error)
    np.testing.assert_allclose(trace["act"][last], act, rtol=FLOAT32)
    np.testing.assert_array_equal(trace["terminated"], steps >= last)
    np.testing.assert_array_equal(trace["decided"][: last + 1], [record.decided for record in expected])
    assert not trace["decided"][last + 1 :].any()
    assert not trace["reward"][last + 1 :].any()


@KINDS
@BACKGROUND
@pytest.mark.parametrize("tiny", [False, True], ids=["ample", "tiny"])
@EXAMPLES
def test_episodes_satisfy_the_constraints(exact, wide, background, tiny, examples):
    """Given the committed decisions, nothing starts too early or lasts too long, and no capacity is exceeded.

    A timeline with few breakpoints merges segments: reservations may start later than necessary, never earlier.
    """
    count = Counter()

    def check(case):
        trace = simulate(case, dataclasses.replace(case.config, **TINY) if tiny else case.config)
        count["episodes"] += 1
        if not exact and decides_between_frames(case, trace):
            count["dismissed"] += 1
            assume(False)
        oracle = case.oracle(ROUNDING)
        for record, action in zip(records_of(trace), case.actions, strict=False):
            due_again = check_decision(oracle, record, action)
            oracle.commit(dataclasses.replace(record, finish=due_again) if record.postponed else record)
        assert oracle.current() is None
        oracle.check_capacity()
        count["merges"] += trace["merges"].max()

    for_random_cases(check, exact=exact, wide=wide, background=background, examples=examples)
    assert (count["merges"] > 0) == tiny
    assert count["dismissed"] <= 0.02 * count["episodes"], count


def check_decision(oracle: Oracle, record: Record, action: tuple[int, float, float, float]) -> float:
    """Check one decision of the simulator, given its earlier ones; return when it ends or is due again."""
    earliest = oracle.would(*action)
    assert (record.service, record.microservice) == (earliest.service, earliest.microservice)
    assert record.postponed == earliest.postponed
    assert record.time == pytest.approx(earliest.time, rel=ROUNDING)
    if not record.postponed:
        check_times(oracle, record, earliest, hold=action[2] if math.isfinite(action[2]) else 0.0)
    return earliest.finish


def check_times(oracle: Oracle, record: Record, earliest: Record, hold: float) -> None:
    """Check host and times of a decision against the earliest ones that are possible."""
    what = (earliest.service, earliest.microservice, earliest.host)
    assert record.host == earliest.host
    assert (record.redirected, record.invalid) == (earliest.redirected, earliest.invalid)
    instant = ROUNDING * record.finish
    start, finish = oracle.earliest_execution(*what, record.time, record.data_ready)
    assert record.flow_start >= earliest.flow_start - instant
    assert record.start >= max(earliest.start, start) - instant
    duration = earliest.data_ready - earliest.flow_start
    assert record.data_ready - record.flow_start == pytest.approx(duration, rel=FLOAT32, abs=instant)
    assert record.finish - record.start == pytest.approx(finish - start, rel=FLOAT32, abs=instant)
    assert record.flow_start >= record.time + hold - instant
    for k in predecessors(oracle.services[record.service], record.microservice):
        assert oracle.records[record.service, k].finish <= record.start


def test_rewards_until_the_finish_include_postponements():
    """The rewards of a microservice's steps sum to the time from ready to finish, however often it was put off."""

    def check(case):
        trace = simulate(case, dataclasses.replace(case.config, reward="ready-to-finish"))
        oracle, expected, ready = case.oracle(), [], {}
        while oracle.current() is not None:
            service, microservice, time = oracle.current()
            ready.setdefault((service, microservice), time)
            expected.append(oracle.decide(*case.actions[len(expected)]))
        np.testing.assert_array_equal(trace["reward"][: len(expected)], [record.finish_reward for record in expected])
        for what, record in oracle.records.items():
            steps = [each.finish_reward for each in expected if (each.service, each.microservice) == what]
            assert sum(steps) == ready[what] - record.finish

    for_random_cases(check, exact=True, wide=True, background=False, examples=40)


# A router between two nodes: 8 Mbit/s to it and 2 Mbit/s back, then a shared link of 4 Mbit/s. One end device.
ROUTED = {
    "links": [(0, 1, (8, 2), 0.5), (1, 2, 4, 1)],
    "node_speed": [2, 0, 4],
    "device_speed": [1, 0, 0],
    "capacity": [[1, 1], [0, 0], [2, 0]],
    "services": [
        {
            "release": 0,
            "source": 0,
            "inputs": [{}, {}, {0: 16, 1: 0}],
            "external": [0, 8, 4],
            "load": [4, 8, 8],
            "demand": [[1, 0], [2, 0], [1, 1]],
        },
        {"release": 0, "source": 0, "preds": [[]], "data": [8], "load": [2], "demand": [[2, 2]]},
    ],
    "ties": "rank",
}
ROUTED_ACTIONS = [
    (2, 1.0, 0.0, 3.0),
    (2, 0.5, 0.0, 0.0),
    (4, math.nan, 1.0, 0.0),
    (2, 1.0, 0.0, 0.0),
    (0, 1.0, 2.0, math.inf),
]
ROUTED_RECORDS = [
    # Microservice 1 of service 0 has the largest rank, 8 + 8, but is put off until 3.
    Record(0, 0, 1, 2, 3, 3, 3, 3, finish_reward=-3, decided=False, postponed=True),
    # Microservice 0 needs nothing: its execution at node 2 takes 4 / 4 = 1 s.
    Record(0, 0, 0, 2, 0, 0, 0, 1, act_reward=-1, finish_reward=-1),
    # The router has no end device that works, and no edge node has so much of both kinds: the device of the source.
    # Its input is there; the hold of 1 s counts. 2 / 1 = 2 s.
    Record(0, 1, 0, 3, 1, 1, 1, 3, act_reward=-3, finish_reward=-3, redirected=True, invalid=True),
    # Microservice 1: 8 Mbit at 4 Mbit/s, the slower of the links, take 2 s, and 1.5 s later it is there; 8 / 4 = 2 s.
    Record(3, 0, 1, 2, 3, 6.5, 6.5, 8.5, act_reward=-7.5, finish_reward=-5.5),
    # Microservice 2: 16 Mbit come back from node 2 at 2 Mbit/s; 4 Mbit are there already. Infinite delays do not count.
    Record(8.5, 0, 2, 0, 10.5, 20, 20, 24, act_reward=-15.5, finish_reward=-15.5, invalid=True),
]


def test_the_oracle_computes_a_wide_example():
    oracle = Oracle(ROUTED)
    assert [oracle.decide(*action) for action in ROUTED_ACTIONS] == ROUTED_RECORDS
    assert oracle.current() is None
    assert oracle.act() == (24 + 3) / 2
    oracle.check_capacity(tolerance=0.0)
