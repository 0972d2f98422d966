"""Instances that show the rounding error of float32 on long horizons."""

import random
from typing import Any


def ring(nodes: int, services: list[dict[str, Any]], bandwidth: float = 10.0, speed: float = 10.0) -> dict[str, Any]:
    """An instance whose nodes form a ring."""
    return {
        "links": [(i, (i + 1) % nodes, bandwidth) for i in range(nodes)],
        "node_speed": [speed] * nodes,
        "device_speed": [speed] * nodes,
        "capacity": [[1.0, 1.0]] * nodes,
        "services": services,
    }


def late(release: float) -> dict[str, Any]:
    """Eight chains of five microservices on four nodes, released from `release` s on, with no round numbers."""
    rng = random.Random(0)
    return ring(
        4,
        [
            {
                "release": release + rng.uniform(0.0, 20.0),
                "source": rng.randrange(4),
                "preds": [[j - 1] if j else [] for j in range(5)],
                "load": [rng.uniform(10.0, 100.0) for _ in range(5)],
                "data": [rng.uniform(1.0, 50.0) for _ in range(5)],
                "demand": [[rng.uniform(0.2, 0.9), 0.3] for _ in range(5)],
            }
            for _ in range(8)
        ],
    )
