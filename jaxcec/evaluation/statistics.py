"""Means and paired differences with bootstrap intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of (n,) values with the 95 % percentile bootstrap interval over them.

    Raises:
        ValueError: there are no values.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0:
        raise ValueError("values: got none; at least one is needed")
    rng = np.random.default_rng(seed)
    # A resample is a multinomial count of each value: one matrix product instead of n draws for each.
    counts = rng.multinomial(values.size, np.full(values.size, 1.0 / values.size), size=RESAMPLES)
    low, high = np.percentile(counts @ values / values.size, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def paired_difference(values: np.ndarray, baseline: np.ndarray, seed: int = 0) -> Interval:
    """Mean of values - baseline over paired episodes, as a share of the baseline's mean, with its 95 % interval.

    Raises:
        ValueError: the arrays do not pair.
    """
    if np.shape(values) != np.shape(baseline):
        raise ValueError(f"values: got shape {np.shape(values)}; must pair with the baseline's {np.shape(baseline)}")
    scale = float(np.mean(baseline))
    interval = bootstrap_mean(np.asarray(values, np.float64) - np.asarray(baseline, np.float64), seed)
    return Interval(*(x / scale for x in interval))
