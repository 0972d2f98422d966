"""The truncated normal distribution behind the quantities of section V.A."""

from __future__ import annotations

import numpy as np

_LEAST = 0.1  # smallest value, as a share of the mean


def truncated_normal(
    rng: np.random.Generator, mean: float, *, relative_sd: float, size: int | tuple[int, ...]
) -> np.ndarray:
    """Draw from a normal distribution, and redraw values outside [0.1 mean, 1.9 mean].

    The paper's quantities are positive, yet a normal distribution with a standard deviation of 80 % of its mean is
    negative in 10.6 % of draws (60 %: 4.8 %). The truncation is symmetric, so it keeps the mean and reduces the spread:
    the standard deviation that remains is 47.6 % of the mean for 80 %, 44.6 % for 60 % and 20.0 % for 20 %.

    Args:
        rng: source of randomness.
        mean: mean before and after truncation, in any unit: that of the result. If it is 0, so are all values.
        relative_sd: standard deviation before truncation, as a share of the mean.
        size: shape of the result, a float64 array.

    Raises:
        ValueError: the mean or the deviation is negative.
    """
    if not mean >= 0:
        raise ValueError(f"mean: got {mean}; must be at least 0")
    if not relative_sd >= 0:
        raise ValueError(f"relative_sd: got {relative_sd}; must be at least 0")
    values = np.atleast_1d(rng.normal(mean, relative_sd * mean, size))
    while (outside := np.abs(values - mean) > (1 - _LEAST) * mean).any():
        values[outside] = rng.normal(mean, relative_sd * mean, outside.sum())
    return values
