"""Arrival patterns: which services arrive, when, and at which edge node."""

from __future__ import annotations

import numpy as np

from jaxcec.env.types import Arrivals


def draw_arrivals(
    rng: np.random.Generator, *, num_patterns: int, num_services: int, num_dags: int, num_nodes: int
) -> Arrivals:
    """Draw a bank of Poisson arrivals of unit rate (section V.A); the environment divides them by its arrival rate.

    The first service of a pattern arrives at time 0. Sources are uniform over the edge nodes. DAGs are uniform over
    the bank, without repetition inside a pattern if the bank has at least as many DAGs as the pattern has services.

    Args:
        rng: source of randomness.
        num_patterns: A, rows of the bank.
        num_services: M, services per pattern.
        num_dags: S, rows of the bank of DAGs.
        num_nodes: V, edge nodes.

    Returns:
        Arrivals with leaves of shape (A, M); the unit of the releases is the mean gap between two arrivals.

    Raises:
        ValueError: a count is below 1.
    """
    counts = {"num_patterns": num_patterns, "num_services": num_services, "num_dags": num_dags, "num_nodes": num_nodes}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}; must be at least 1")
    shape = (num_patterns, num_services)
    if num_dags >= num_services:
        dag = np.stack([rng.choice(num_dags, num_services, replace=False) for _ in range(num_patterns)])
    else:
        dag = rng.integers(num_dags, size=shape)
    gaps = rng.exponential(size=shape)
    gaps[:, 0] = 0.0
    return Arrivals(
        dag=dag.astype(np.int32),
        source=rng.integers(num_nodes, size=shape).astype(np.int32),
        release=gaps.cumsum(axis=1).astype(np.float32),
    )
