"""Means and paired differences with percentile bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of (n,) values, one of each episode, with its 95 % percentile bootstrap interval.

    Raises:
        ValueError: there are no values.
    """
    return bootstrap_means({"": values}, seed)[""]


def bootstrap_means(columns: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, Interval]:
    """`bootstrap_mean` of several measures, (n,) each, of the same episodes, which are resampled once for all.

    Raises:
        ValueError: the arrays differ in shape, or there are no values.
    """
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    means = _resamples(len(values), seed) @ values / len(values)
    return {
        name: _interval(float(column.mean()), resampled)
        for name, column, resampled in zip(columns, values.T, means.T, strict=True)
    }


def paired_difference(values: np.ndarray, baseline: np.ndarray, seed: int = 0) -> Interval:
    """Relative difference of the mean of values to the baseline's mean, (n,) each, with its 95 % interval.

    Both are of the same episodes. Whole pairs are resampled, and each resample is compared with its own baseline: with
    positive values, the difference is never below -100 %.

    Raises:
        ValueError: the arrays differ in shape, or there are no values.
    """
    mean, low, high = paired_reduction([(values, baseline)], seed)
    return Interval(0.0 - mean, 0.0 - high, 0.0 - low)  # not -0.0


def paired_reduction(pairs: Sequence[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> Interval:
    """Relative reduction of values against baselines, averaged over several pairs of arrays, with its 95 % interval.

    Each pair is (n,) values and (n,) baseline; all are of the same n episodes, which are resampled.

    Raises:
        ValueError: the arrays differ in shape, or there are no values.
    """
    shapes = {np.shape(x) for pair in pairs for x in pair}
    if len(shapes) > 1:
        raise ValueError(f"values: got shapes {sorted(shapes)}; must pair with the baseline")
    values, baselines = (np.asarray(x, np.float64) for x in zip(*pairs, strict=True))  # (P, n) each
    counts = _resamples(values.shape[1], seed)
    resampled = 1.0 - (counts @ values.T) / (counts @ baselines.T)
    return _interval(float(np.mean(1.0 - values.mean(axis=1) / baselines.mean(axis=1))), resampled.mean(axis=1))


def _resamples(size: int, seed: int) -> np.ndarray:
    """(RESAMPLES, size) how often each resample draws each value: one matrix product then gives all means."""
    if size == 0:
        raise ValueError("values: got none; at least one is needed")
    return np.random.default_rng(seed).multinomial(size, np.full(size, 1.0 / size), size=RESAMPLES)


def _interval(mean: float, resampled: np.ndarray) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(mean, float(low), float(high))
