import numpy as np
import pytest

from jaxcec.scenarios.sampling import truncated_normal


@pytest.mark.parametrize("relative_sd, left", [(0.8, 0.476), (0.6, 0.446), (0.2, 0.2)])
def test_truncation_keeps_the_mean_and_the_documented_spread(relative_sd, left):
    values = truncated_normal(np.random.default_rng(0), 500.0, relative_sd, 200_000)
    assert values.mean() == pytest.approx(500.0, rel=0.004)
    assert values.std() == pytest.approx(500.0 * left, rel=0.01)
    assert values.min() >= 50.0 and values.max() <= 950.0


def test_shape_and_no_spread():
    assert np.array_equal(truncated_normal(np.random.default_rng(0), 2.0, 0.0, (3, 4)), np.full((3, 4), 2.0))


@pytest.mark.parametrize(
    "arguments, message", [((0.0, 0.8), "mean"), ((1.0, -0.1), "relative_sd"), ((1.0, 0.8, 3, 1.0), "low")]
)
def test_errors(arguments, message):
    mean, sd, *rest = arguments
    with pytest.raises(ValueError, match=f"{message}: got"):
        truncated_normal(np.random.default_rng(0), mean, sd, *(rest or [3]))
