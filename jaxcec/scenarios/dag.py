"""Services as DAGs of microservices: synthetic ones, and the bank the environment reads."""

from __future__ import annotations

import dataclasses
import graphlib
import itertools
import math
from collections.abc import Sequence

import numpy as np

from jaxcec.env.types import Dags
from jaxcec.scenarios.sampling import truncated_normal


@dataclasses.dataclass(frozen=True)
class Dag:
    """One service of n microservices, in any order."""

    preds: list[list[int]]  # preds[j] must finish before j starts
    load: np.ndarray  # (n,) Mcycles
    data: np.ndarray  # (n,) Mbit of input
    demand: np.ndarray  # (n, K) share of a host's resources held while running


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


def topological_order(preds: Sequence[Sequence[int]]) -> list[int]:
    """Return the microservices with every predecessor before its successors.

    Raises:
        ValueError: if a predecessor is not a microservice of the DAG, or there is a cycle.
    """
    for j, row in enumerate(preds):
        for k in row:
            if not 0 <= k < len(preds):
                raise ValueError(f"preds[{j}]: got {k}; must be in 0..{len(preds) - 1}")
    try:
        return list(graphlib.TopologicalSorter(dict(enumerate(preds))).static_order())
    except graphlib.CycleError as error:
        raise ValueError(f"preds: got the cycle {error.args[1]}; a service must be acyclic") from error


def remaining_path(preds: Sequence[Sequence[int]], load: np.ndarray) -> np.ndarray:
    """Return the heaviest path from each microservice to an exit, own load included; (n,), in the unit of `load`."""
    rank = np.zeros(len(preds))
    for j in reversed(topological_order(preds)):
        rank[j] += load[j]
        for k in preds[j]:
            rank[k] = max(rank[k], rank[j])
    return rank


def pack_dags(dags: Sequence[Dag], max_microservices: int, num_resources: int) -> Dags:
    """Pack DAGs into the bank that the environment reads.

    Args:
        dags: S services.
        max_microservices: N, to which each is padded with zeros.
        num_resources: K.

    Returns:
        Dags of numpy leaves, their shapes as in `jaxcec.env.types`.

    Raises:
        ValueError: for an empty bank, a DAG that is empty, too large or cyclic, or arrays of the wrong shape.
    """
    if not dags:
        raise ValueError("dags: got none; must be at least one")
    count, width = len(dags), max_microservices
    bank = Dags(
        size=np.zeros(count, np.int32),
        preds=np.zeros((count, width, width), bool),
        load=np.zeros((count, width), np.float32),
        data=np.zeros((count, width), np.float32),
        demand=np.zeros((count, width, num_resources), np.float32),
        rank=np.zeros((count, width), np.float32),
    )
    for i, dag in enumerate(dags):
        n = len(dag.preds)
        if not 1 <= n <= width:
            raise ValueError(f"dags[{i}]: got {n} microservices; must be 1..{width}")
        for name, shape in (("load", (n,)), ("data", (n,)), ("demand", (n, num_resources))):
            if np.shape(getattr(dag, name)) != shape:
                raise ValueError(f"dags[{i}].{name}: got shape {np.shape(getattr(dag, name))}; must be {shape}")
        try:
            bank.rank[i, :n] = remaining_path(dag.preds, dag.load)
        except ValueError as error:
            raise ValueError(f"dags[{i}].{error}") from error
        bank.size[i] = n
        bank.load[i, :n], bank.data[i, :n], bank.demand[i, :n] = dag.load, dag.data, dag.demand
        for j, row in enumerate(dag.preds):
            bank.preds[i, j, row] = True
    return bank
