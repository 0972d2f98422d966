"""Arrival patterns: which services arrive, when, and at which edge node."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from jaxcec.env.types import Arrivals
from jaxcec.scenarios.seeds import SPLITS, check_choice

ArrivalProcess = Literal["poisson", "bursty"]
_BURST = 5.0  # services in a mean burst of the bursty arrivals
_WITHIN = 0.1  # mean gap within a burst, in mean gaps
_TRAIN_SHARE = 0.8  # of recorded instants, the earliest


def draw_arrivals(
    rng: np.random.Generator,
    *,
    num_patterns: int,
    num_services: int,
    num_dags: int,
    num_nodes: int,
    process: ArrivalProcess = "poisson",
    instants: np.ndarray | None = None,
) -> Arrivals:
    """Draw a bank of arrivals of unit rate (section V.A); the environment divides them by its arrival rate.

    The first service of a pattern arrives at time 0. Sources are uniform over the edge nodes. DAGs are uniform over
    the bank, without repetition inside a pattern if the bank has at least as many DAGs as the pattern has services.

    Args:
        rng: source of randomness.
        num_patterns: A, rows of the bank.
        num_services: M, services per pattern.
        num_dags: S, rows of the bank of DAGs.
        num_nodes: V, edge nodes.
        process: `poisson`, or `bursty`: in bursts of five services on average, with gaps of a tenth of the mean within
            a burst (the squared coefficient of variation of the gaps is 7.5).
        instants: recorded ones in place of a process, of `unit_instants`; a pattern is M of them in a row.

    Returns:
        Arrivals with leaves of shape (A, M); the unit of the releases is the mean gap between two arrivals.

    Raises:
        ValueError: a count is below 1, or an unknown process.
    """
    counts = {"num_patterns": num_patterns, "num_services": num_services, "num_dags": num_dags, "num_nodes": num_nodes}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}; must be at least 1")
    check_choice("process", process, get_args(ArrivalProcess))
    shape = (num_patterns, num_services)
    if num_dags >= num_services:
        dag = np.stack([rng.choice(num_dags, num_services, replace=False) for _ in range(num_patterns)])
    else:
        dag = rng.integers(num_dags, size=shape)
    if instants is None:
        gaps = rng.exponential(size=shape) * (_burst_gaps(rng, shape) if process == "bursty" else 1.0)
        gaps[:, 0] = 0.0
        release = gaps.cumsum(axis=1)
    else:
        first = rng.integers(len(instants) - num_services + 1, size=(num_patterns, 1))
        release = instants[first + np.arange(num_services)] - instants[first]
    return Arrivals(
        dag=dag.astype(np.int32),
        source=rng.integers(num_nodes, size=shape).astype(np.int32),
        release=release.astype(np.float32),
    )


def _burst_gaps(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Mean of each gap: short within a burst, and between two bursts so long that all gaps have mean 1."""
    between = _BURST - (_BURST - 1.0) * _WITHIN
    return np.where(rng.random(shape) < 1.0 / _BURST, between, _WITHIN)


def unit_instants(instants: np.ndarray, split: str, *, num_services: int, where: str) -> tuple[np.ndarray, float]:
    """Return the instants of one split in units of their mean gap, and the rate.

    The splits share no time: `train` has the earliest four fifths, `test` the others.

    Args:
        instants: (n,) s, ascending.
        split: one of `SPLITS`.
        num_services: M, services per episode.
        where: the source of the instants, for the message of an error.

    Returns:
        The instants of the split, (n',) in mean gaps of all, and the mean rate of all, services/s.

    Raises:
        ValueError: an unknown split, the split has fewer than M instants, or all are equal.
    """
    check_choice("split", split, SPLITS)
    cut = int(_TRAIN_SHARE * len(instants))
    part = instants[:cut] if split == "train" else instants[cut:]
    if len(part) < num_services:
        raise ValueError(
            f"{where}: got {len(instants)} instants, {len(part)} of them in the split {split}; must be at least "
            f"{num_services} there, the services of an episode (--scenario.num-services)"
        )
    duration = float(instants[-1] - instants[0])
    if not duration > 0.0:
        raise ValueError(f"{where}: got {len(instants)} equal instants; must span some time")
    rate = (len(instants) - 1) / duration
    return part * rate, rate
