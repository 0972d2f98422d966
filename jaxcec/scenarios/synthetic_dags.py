"""Services as DAGs of microservices, and synthetic ones."""

from __future__ import annotations

import itertools
import math

import numpy as np

from jaxcec.env.banks import Dag
from jaxcec.scenarios.sampling import truncated_normal


def synthetic_dag(
    rng: np.random.Generator,
    max_microservices: int,
    num_resources: int = 2,
    mean_load: float = 500.0,
    mean_data: float = 500.0,
    demand: tuple[float, float] = (0.25, 0.75),
) -> Dag:
    """Draw a layered DAG as section V.A describes it; what the paper leaves open is decided here.

    The number of microservices is N(N/2, N/4) within [1, N]. The number of layers is normal within [1, n] with mean
    sqrt(n), the default width of the daggen generator, and a standard deviation of half of it. The number of edges
    between two adjacent layers is uniform between the least that gives every microservice of the later layer a
    predecessor and the complete bipartite graph. Loads are N(mean, 60 %), data N(mean, 80 %), both truncated.

    Args:
        rng: source of randomness.
        max_microservices: N, the largest DAG.
        num_resources: K, kinds of resources.
        mean_load: Mcycles; 500 is calibrated, 0.5 is what the paper prints.
        mean_data: Mbit.
        demand: range of the uniform share of each resource.

    Raises:
        ValueError: for a maximum below 1 or an impossible range of demands.
    """
    if max_microservices < 1:
        raise ValueError(f"max_microservices: got {max_microservices}; must be at least 1")
    check_demand(demand)
    size = _normal_integer(rng, max_microservices / 2, max_microservices / 4, max_microservices)
    return Dag(
        preds=_layered_preds(rng, size, _normal_integer(rng, math.sqrt(size), math.sqrt(size) / 2, size)),
        load=truncated_normal(rng, mean_load, 0.6, size),
        data=truncated_normal(rng, mean_data, 0.8, size),
        demand=rng.uniform(*demand, (size, num_resources)),
    )


def check_demand(demand: tuple[float, float]) -> None:
    """Raise ValueError unless 0 <= low <= high <= 1: a microservice must fit on an idle host."""
    if not 0 <= demand[0] <= demand[1] <= 1:
        raise ValueError(f"demand: got {demand}; must be (low, high) with 0 <= low <= high <= 1")


def _normal_integer(rng: np.random.Generator, mean: float, sd: float, largest: int) -> int:
    """Draw a rounded normal, redrawn until it lies in [1, largest]."""
    while not 1 <= (value := round(rng.normal(mean, sd))) <= largest:
        pass
    return value


def _layered_preds(rng: np.random.Generator, size: int, num_layers: int) -> list[list[int]]:
    extra = rng.multinomial(size - num_layers, np.full(num_layers, 1 / num_layers))  # every layer has at least one
    ends = np.cumsum(1 + extra)
    layers = [list(range(end - width, end)) for end, width in zip(ends, 1 + extra, strict=True)]
    preds: list[list[int]] = [[] for _ in range(size)]
    for earlier, later in itertools.pairwise(layers):
        joined = np.zeros((len(later), len(earlier)), bool)
        joined[np.arange(len(later)), rng.integers(len(earlier), size=len(later))] = True
        num_edges = rng.integers(len(later), joined.size, endpoint=True)
        joined.flat[rng.permutation(np.flatnonzero(~joined))[: num_edges - len(later)]] = True
        for row, j in zip(joined, later, strict=True):
            preds[j] = [earlier[k] for k in np.flatnonzero(row)]
    return preds
