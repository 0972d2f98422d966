"""The truncated normal distribution."""

import numpy as np
import pytest

from jaxcec.scenarios.sampling import truncated_normal


@pytest.mark.parametrize("relative_sd, left", [(0.8, 0.476), (0.6, 0.446), (0.2, 0.2)])
def test_truncation_keeps_the_mean_and_the_documented_spread(relative_sd, left):
    values = truncated_normal(np.random.default_rng(0), 500.0, relative_sd=relative_sd, size=200_000)
    assert values.mean() == pytest.approx(500.0, rel=0.004)
    assert values.std() == pytest.approx(500.0 * left, rel=0.01)
    assert values.min() >= 50.0 and values.max() <= 950.0


def test_without_spread_every_value_is_the_mean():
    values = truncated_normal(np.random.default_rng(0), 2.0, relative_sd=0.0, size=(3, 4))
    assert np.array_equal(values, np.full((3, 4), 2.0))


@pytest.mark.parametrize(
    "mean, relative_sd, message", [(-1.0, 0.8, "mean: got -1"), (1.0, -0.1, "relative_sd: got -0")]
)
def test_impossible_arguments_are_refused(mean, relative_sd, message):
    with pytest.raises(ValueError, match=message):
        truncated_normal(np.random.default_rng(0), mean, relative_sd=relative_sd, size=3)
