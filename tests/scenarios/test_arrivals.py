"""Statistics of drawn arrival patterns."""

import numpy as np
import pytest

from jaxcec.scenarios.arrivals import draw_arrivals


def draw(num_patterns, num_services, num_dags, *, num_nodes=8, seed=0):
    rng = np.random.default_rng(seed)
    return draw_arrivals(
        rng, num_patterns=num_patterns, num_services=num_services, num_dags=num_dags, num_nodes=num_nodes
    )


def test_arrivals_are_a_poisson_process_of_unit_rate_from_time_zero():
    arrivals = draw(500, 40, 100)
    gaps = np.diff(arrivals.release, axis=1)
    assert (arrivals.release[:, 0] == 0).all() and (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1.0, rel=0.03)
    assert gaps.std() == pytest.approx(1.0, rel=0.05)  # exponential


def test_sources_and_dags_are_uniform():
    arrivals = draw(500, 20, 40)
    assert np.bincount(arrivals.source.ravel(), minlength=8) == pytest.approx(np.full(8, 1250), rel=0.15)
    assert np.bincount(arrivals.dag.ravel(), minlength=40) == pytest.approx(np.full(40, 250), rel=0.3)
    assert arrivals.dag.dtype == arrivals.source.dtype == np.int32 and arrivals.release.dtype == np.float32


def test_a_pattern_repeats_dags_only_if_the_bank_is_too_small():
    large = draw(50, 20, 20)
    assert all(len(set(row)) == 20 for row in large.dag.tolist())
    assert draw(50, 20, 3).dag.max() == 2


def test_equal_seeds_give_equal_banks():
    one, two = (draw(5, 10, 20, seed=1) for _ in range(2))
    assert np.array_equal(one.release, two.release) and np.array_equal(one.dag, two.dag)


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match="num_dags: got 0; must be at least 1"):
        draw(1, 1, 0, num_nodes=1)
