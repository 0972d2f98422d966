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
    counts = _resamples(values.size, seed)
    return _interval(float(values.mean()), counts @ values / values.size)


def paired_difference(values: np.ndarray, baseline: np.ndarray, seed: int = 0) -> Interval:
    """How much the mean of values differs from the baseline's, as a share of it, with its 95 % interval.

    Whole pairs are resampled, and the share is taken of each resample's own baseline: it is never below -100 %.

    Raises:
        ValueError: the arrays do not pair, or there are no values.
    """
    if np.shape(values) != np.shape(baseline):
        raise ValueError(f"values: got shape {np.shape(values)}; must pair with the baseline's {np.shape(baseline)}")
    values, baseline = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    counts = _resamples(values.size, seed)
    return _interval(float(values.mean() / baseline.mean()) - 1.0, (counts @ values) / (counts @ baseline) - 1.0)


def _resamples(size: int, seed: int) -> np.ndarray:
    """(RESAMPLES, size) how often each value is drawn: one matrix product then gives all means."""
    if size == 0:
        raise ValueError("values: got none; at least one is needed")
    return np.random.default_rng(seed).multinomial(size, np.full(size, 1.0 / size), size=RESAMPLES)


def _interval(mean: float, resampled: np.ndarray) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(mean, float(low), float(high))
