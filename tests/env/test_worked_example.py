"""Every number of the two episodes in docs/worked_example.md."""

import jax
import jax.numpy as jnp
import pytest
from helpers.oracle import Oracle, shortest_route

from jaxcec.env import INFEASIBLE, Action, EnvConfig, build_instance

EXAMPLE = {
    "links": [(0, 1, 10)],
    "node_speed": [100, 50],
    "device_speed": [10, 20],
    "capacity": [[2, 2], [2, 2]],
    "services": [
        {
            "release": 0,
            "source": 0,
            "preds": [[], [], [0]],
            "load": [200, 100, 100],
            "data": [40, 30, 20],
            "demand": [[2, 1], [1, 1], [2, 1]],
        },
        {
            "release": 3,
            "source": 1,
            "preds": [[], [0], [0, 1]],
            "load": [100, 300, 200],
            "data": [50, 20, 40],
            "demand": [[1, 1], [1, 1], [1, 1]],
        },
    ],
}
ACTIONS = [(1, 0.5, 1.0), (1, 0.5, 2.0), (1, 1.0, 0.0), (0, 1.0, 0.0), (3, 1.0, 0.0), (0, 1.0, 0.0)]
FIELDS = ("time", "service", "microservice", "host", "flow_start", "data_ready", "start", "finish")
EXPECTED = [
    # A0: 40 Mbit at 0.5 * 10 Mbit/s = 8 s from 0 + 1; then 200 / 50 = 4 s.
    (0, 0, 0, 1, 1, 9, 9, 13),
    # A1: 30 Mbit at 5 Mbit/s = 6 s, concurrent with A0's flow; its 2 s do not fit into [8, 9), so it waits for A0.
    (0, 0, 1, 1, 2, 8, 13, 15),
    # B0: its input is local; 100 / 50 = 2 s fit before A0's execution.
    (3, 1, 0, 1, 3, 3, 3, 5),
    # B1: 20 Mbit at 10 Mbit/s = 2 s, but half the link is reserved until 9; then 300 / 100 = 3 s.
    (5, 1, 1, 0, 9, 11, 11, 14),
    # A2: end device 3 is attached to node 1; 100 / 20 = 5 s.
    (13, 0, 2, 3, 13, 13, 13, 18),
    # B2: the 20 Mbit of B0 at 10 Mbit/s = 2 s, those of B1 are local; then 200 / 100 = 2 s.
    (14, 1, 2, 0, 14, 16, 16, 18),
]
ACT_REWARDS = [-13, -2, -2, -9, -3, -4]
FINISH_REWARDS = [-13, -15, -2, -9, -5, -4]  # time - finish
ACT = (18 + (18 - 3)) / 2

WIDER = {
    "links": [(0, 1, 10, 0.5), (1, 2, (20, 5), 0.25)],
    "node_speed": [100, 0, 50],
    "device_speed": [10, 0, 0],
    "capacity": [[1, 0], [1, 0], [1, 1]],
    "services": [
        {
            "release": 0,
            "source": 0,
            "inputs": [{}, {}, {0: 0, 1: 20}],
            "external": [30, 20, 10],
            "load": [150, 350, 100],
            "demand": [[1, 0], [1, 0], [1, 1]],
        },
        {"release": 1, "source": 2, "inputs": [{}], "external": [10], "load": [100], "demand": [[1, 0]]},
    ],
    "ties": "rank",
}
WIDER_ACTIONS = [(0, 1.0, 0.0, 0.0), (0, 1.0, 0.0, 2.0), (0, 1.0, 0.0, 0.0), (1, 1.0, 3.0, 0.0), (2, 1.0, 0.0, 0.0)]
WIDER_EXPECTED = [
    # C1 comes before C0, for its upward rank is 450 and not 250; 350 / 100 = 3.5 s.
    (0, 0, 1, 0, 0, 0, 0, 3.5),
    # C0 is postponed; there are no times.
    (0, 0, 0, 0),
    # D0: 10 Mbit at the 5 Mbit/s of the way back = 2 s, and 0.5 + 0.25 s of latency; 100 / 100 = 1 s.
    (1, 1, 0, 0, 1, 3.75, 3.75, 4.75),
    # C0: redirected from the router to node 0; nothing moves, but its hold is honoured; 150 / 100 = 1.5 s.
    (2, 0, 0, 0, 5, 5, 5, 6.5),
    # C2: 20 + 10 Mbit at 10 Mbit/s = 3 s, and the latency; 100 / 50 = 2 s.
    (6.5, 0, 2, 2, 6.5, 10.25, 10.25, 12.25),
]
WIDER_ACT_REWARDS = [-3.5, 0, -3.75, -3, -5.75]
WIDER_FINISH_REWARDS = [-3.5, -2, -3.75, -4.5, -5.75]
POSTPONED = [False, True, False, False, False]
REDIRECTED = [False, False, False, True, False]
WIDER_ACT = (12.25 + (4.75 - 1)) / 2


def test_the_oracle_computes_the_worked_example():
    oracle = Oracle(EXAMPLE)
    records = [oracle.decide(*action) for action in ACTIONS]
    assert [tuple(getattr(record, name) for name in FIELDS) for record in records] == EXPECTED
    assert [record.act_reward for record in records] == ACT_REWARDS
    assert [record.finish_reward for record in records] == FINISH_REWARDS
    assert oracle.current() is None
    assert oracle.act() == ACT
    oracle.check_capacity(tolerance=0.0)


@pytest.mark.parametrize(("reward", "rewards"), [("act", ACT_REWARDS), ("ready-to-finish", FINISH_REWARDS)])
def test_the_simulator_computes_the_worked_example(reward, rewards):
    config = EnvConfig(num_nodes=2, max_links=3, num_services=2, max_microservices=4, reward=reward)
    env, params = build_instance(**EXAMPLE, config=config)
    key = jax.random.key(0)
    _, state = env.reset(key, params)
    step = jax.jit(env.step_env)
    for (host, eta, eps), expected, expected_reward in zip(ACTIONS, EXPECTED, rewards, strict=True):
        action = Action(jnp.asarray(host, jnp.int32), jnp.asarray(eta, jnp.float32), jnp.asarray(eps, jnp.float32))
        _, state, reward, terminated, info = step(key, state, action, params)
        assert info["decided"]
        assert tuple(info[name].item() for name in FIELDS) == expected  # every number is exact in float32
        assert reward == expected_reward
        assert terminated == (expected is EXPECTED[-1])
    assert info["act"] == ACT


def test_the_oracle_computes_the_wider_example():
    oracle = Oracle(WIDER)
    records = [oracle.decide(*action) for action in WIDER_ACTIONS]
    recorded = [tuple(getattr(record, name) for name in FIELDS) for record in records]
    assert [row[: len(expected)] for row, expected in zip(recorded, WIDER_EXPECTED, strict=True)] == WIDER_EXPECTED
    assert records[1].finish == 2  # when it is due again
    assert [record.act_reward for record in records] == WIDER_ACT_REWARDS
    assert [record.finish_reward for record in records] == WIDER_FINISH_REWARDS
    assert [record.postponed for record in records] == POSTPONED
    assert [record.redirected for record in records] == REDIRECTED
    assert oracle.current() is None
    assert oracle.act() == WIDER_ACT
    oracle.check_capacity(tolerance=0.0)


@pytest.mark.parametrize(("reward", "rewards"), [("act", WIDER_ACT_REWARDS), ("ready-to-finish", WIDER_FINISH_REWARDS)])
def test_the_simulator_computes_the_wider_example(reward, rewards):
    config = EnvConfig(num_nodes=3, max_links=4, num_services=2, max_microservices=4, reward=reward, postpone=True)
    env, params = build_instance(**WIDER, config=config)
    key = jax.random.key(0)
    _, state = env.reset(key, params)
    step = jax.jit(env.step_env)
    for i, (numbers, expected) in enumerate(zip(WIDER_ACTIONS, WIDER_EXPECTED, strict=True)):
        observation = env.observe(key, state, None, params)
        action = Action(jnp.asarray(numbers[0], jnp.int32), *map(jnp.float32, numbers[1:]))
        _, state, given, terminated, info = step(key, state, action, params)
        assert tuple(info[name].item() for name in FIELDS)[: len(expected)] == expected
        assert given == rewards[i]
        assert info["postponed"] == POSTPONED[i]
        assert info["decided"] == (not POSTPONED[i])
        assert info["redirected"] == REDIRECTED[i]
        assert not info["invalid"]
        assert terminated == (expected is WIDER_EXPECTED[-1])
    assert info["act"] == WIDER_ACT
    assert info["flow_end"] == 9.5  # of C2: the latency holds no link
    assert observation.nodes.feasible.tolist() == [0, 0, 1]  # before C2
    assert observation.nodes.finish.tolist() == [INFEASIBLE, INFEASIBLE, 5.75]


def test_the_oracle_prefers_few_hops_then_high_bandwidth_then_low_indices():
    links = [(0, 1, 4), (1, 3, 4), (0, 2, 4), (2, 3, 4), (0, 3, 1), (3, 4, 9), (1, 5, 2), (2, 5, 3), (4, 5, 9)]
    assert shortest_route(links, 0, 0) == []
    assert shortest_route(links, 0, 3) == [4]  # one hop, in spite of its low bandwidth
    assert shortest_route(links, 2, 1) == [2, 0]  # through 0, bottleneck 4, as through 3; not through 5, bottleneck 3
    assert shortest_route(links, 0, 5) == [2, 7]  # through 2, bottleneck 3, rather than through 1, bottleneck 2
    assert shortest_route(links, 0, 4) == [4, 5]
