"""Instances as a user writes them."""

import random
from typing import Any

import jax

from jaxcec.env import Observation, build_instance

# Three nodes in a line and two services.
INSTANCE = {
    "links": [(0, 1, 10), (1, 2, 5)],
    "node_speed": [40, 20, 10],
    "device_speed": [4, 5, 8],
    "capacity": [[2, 4], [1, 2], [4, 4]],
    "services": [
        {
            "release": 3,
            "source": 0,
            "preds": [[], [0], [0]],
            "load": [100, 200, 300],
            "data": [10, 20, 30],
            "demand": [[1, 1], [0.5, 1], [1, 2]],
        },
        {"release": 1, "source": 2, "preds": [[]], "load": [80], "data": [50], "demand": [[0.5, 1]]},
    ],
}

# Three nodes in a line: a router, a node without a gpu, and one with a gpu and the only end device. Kinds: cpu, gpu.
ROUTED = {
    "links": [(0, 1, (10, 5), 0.5), (1, 2, 10)],
    "node_speed": [0, 20, 10],
    "device_speed": [0, 0, 5],
    "capacity": [[0, 0], [2, 0], [2, 1]],
    "services": [
        {
            "release": 0,
            "source": 0,
            "inputs": [{}, {0: 10}, {0: 0, 1: 20}],
            "external": [30, 0, 0],
            "load": [100, 50, 60],
            "demand": [[1, 0], [1, 1], [2, 0]],
        },
        {"release": 1, "source": 2, "preds": [[]], "load": [80], "data": [50], "demand": [[0.5, 1]]},
    ],
}


def smallest_observation() -> Observation:
    """The first observation of an instance of one microservice and two nodes."""
    service = {"release": 0, "source": 0, "preds": [[]], "load": [1], "data": [1], "demand": [[1, 1]]}
    env, params = build_instance(
        links=[(0, 1, 1)], node_speed=[1, 1], device_speed=[1, 1], capacity=[[1, 1]] * 2, services=[service]
    )
    return env.reset(jax.random.key(0), params)[0]


def random_wide_instance(rng: random.Random, services: int = 3) -> dict[str, Any]:
    """Some services on a tree of four nodes: latency, both kinds of link, a router, a node without the second kind of
    resource, end devices of some nodes only, and both forms of input. Everything can run on node 3.
    """

    def service(number: int) -> dict[str, Any]:
        size = rng.randint(1, 5)
        preds = [[k for k in range(j) if rng.random() < 0.4] for j in range(size)]
        amounts = iter(lambda: rng.choice([0, rng.uniform(1, 40)]), None)
        forms = (
            {"preds": preds, "data": [next(amounts) for _ in preds]},
            {"inputs": [{k: next(amounts) for k in row} for row in preds], "external": [next(amounts) for _ in preds]},
        )
        return forms[number % 2] | {
            "release": rng.uniform(0, 20),
            "source": rng.randrange(4),
            "load": [rng.uniform(10, 200) for _ in preds],
            "demand": [[rng.uniform(0, 2), rng.choice([0, 1])] for _ in preds],
        }

    def rate() -> float | tuple[float, float]:
        return rng.choice([rng.uniform(1, 10), (rng.uniform(1, 10), rng.uniform(1, 10))])

    return {
        "links": [(rng.randrange(b), b, rate(), rng.choice([0, rng.uniform(0.1, 2)])) for b in range(1, 4)],
        "node_speed": [0, *(rng.uniform(5, 50) for _ in range(3))],
        "device_speed": [rng.choice([0, rng.uniform(1, 60)]) for _ in range(4)],
        "capacity": [[0, 0], [2, 0], [rng.uniform(0.5, 4), 1], [2, 2]],
        "services": [service(number) for number in range(services)],
    }
