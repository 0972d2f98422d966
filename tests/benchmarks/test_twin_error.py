"""The error measures of the twins, on rankings with known answers."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def twin_error(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import twin_error

    return twin_error


@pytest.mark.parametrize(
    ("one", "other", "correlation"),
    [
        ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 400.0], 1.0),
        ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], -1.0),
        ([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0], 0.6),
        ([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], 0.9486833),  # Pearson's of 1.5 1.5 3 4 and 1 2 3 4
        ([5.0, 5.0, 5.0, 5.0], [1.0, 2.0, 3.0, 4.0], 0.0),
    ],
)
def test_spearman_of_known_rankings(twin_error, one, other, correlation):
    np.testing.assert_allclose(twin_error.spearman(np.array([one]), np.array([other])), [correlation], atol=1e-6)
