"""Services as DAGs of microservices, and the synthetic ones of section V.A."""

from __future__ import annotations

import itertools
import math

import numpy as np

from jaxcec.env.banks import Dag
from jaxcec.scenarios.sampling import truncated_normal


def synthetic_dag(
    rng: np.random.Generator,
    max_microservices: int,
    *,
    mean_load: float,
    mean_data: float,
    demand: tuple[float, float],
    num_resources: int = 2,
) -> Dag:
    """Draw a layered DAG as section V.A describes it, with our choices where the paper leaves one open.

    The number of microservices n is normal within [1, N], with mean N/2 and standard deviation N/4. The number of
    layers is normal within [1, n], with mean sqrt(n), the default width of the daggen generator, and standard deviation
    sqrt(n)/2. The number of edges between two adjacent layers is uniform: at least one for each microservice of the
    later layer, at most those of the complete bipartite graph. Loads and data are truncated normal, with standard
    deviations of 60 % and 80 % of their means.

    Args:
        rng: source of randomness.
        max_microservices: N, microservices of the largest DAG.
        mean_load: Mcycles; the calibrated scenario has 500, the paper prints 0.5.
        mean_data: Mbit.
        demand: range of the uniform share of each resource.
        num_resources: K, kinds of resources.

    Raises:
        ValueError: `max_microservices` is below 1, a mean is negative, or see `check_demand`.
    """
    if max_microservices < 1:
        raise ValueError(f"max_microservices: got {max_microservices}; must be at least 1")
    check_demand("demand", demand)
    size = _normal_integer(rng, mean=max_microservices / 2, largest=max_microservices)
    return Dag(
        preds=_layered_preds(rng, size, _normal_integer(rng, mean=math.sqrt(size), largest=size)),
        load=truncated_normal(rng, mean_load, relative_sd=0.6, size=size),
        data=truncated_normal(rng, mean_data, relative_sd=0.8, size=size),
        demand=rng.uniform(*demand, (size, num_resources)),
    )


def check_demand(field: str, demand: tuple[float, float]) -> None:
    """Raise ValueError unless 0 <= low <= high <= 1: a microservice must fit on an idle host."""
    low, high = demand
    if not 0 <= low <= high <= 1:
        raise ValueError(f"{field}: got {demand}; must be (low, high) with 0 <= low <= high <= 1")


def _normal_integer(rng: np.random.Generator, *, mean: float, largest: int) -> int:
    """Draw from a normal distribution with standard deviation mean/2, rounded, until the value is in [1, largest]."""
    while not 1 <= (value := round(rng.normal(mean, mean / 2))) <= largest:
        pass
    return value


def _layered_preds(rng: np.random.Generator, size: int, num_layers: int) -> list[list[int]]:
    """Draw the predecessors of each microservice; all of them are in the layer before."""
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
