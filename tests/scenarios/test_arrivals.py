import numpy as np
import pytest

from jaxcec.scenarios.arrivals import draw_arrivals


def test_a_poisson_process_of_unit_rate_that_begins_at_zero():
    arrivals = draw_arrivals(np.random.default_rng(0), 500, 40, 100, 8)
    gaps = np.diff(arrivals.release, axis=1)
    assert (arrivals.release[:, 0] == 0).all() and (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1.0, rel=0.03)
    assert gaps.std() == pytest.approx(1.0, rel=0.05)  # exponential


def test_sources_and_dags_are_uniform():
    arrivals = draw_arrivals(np.random.default_rng(0), 500, 20, 40, 8)
    assert np.bincount(arrivals.source.ravel(), minlength=8) == pytest.approx(np.full(8, 1250), rel=0.15)
    assert np.bincount(arrivals.dag.ravel(), minlength=40) == pytest.approx(np.full(40, 250), rel=0.3)
    assert arrivals.dag.dtype == arrivals.source.dtype == np.int32 and arrivals.release.dtype == np.float32


def test_no_dag_twice_in_a_pattern_unless_the_bank_is_small():
    large = draw_arrivals(np.random.default_rng(0), 50, 20, 20, 8)
    assert all(len(set(row)) == 20 for row in large.dag.tolist())
    assert draw_arrivals(np.random.default_rng(0), 50, 20, 3, 8).dag.max() == 2


def test_one_seed_gives_one_bank():
    one, two = (draw_arrivals(np.random.default_rng(1), 5, 10, 20, 8) for _ in range(2))
    assert np.array_equal(one.release, two.release) and np.array_equal(one.dag, two.dag)


def test_errors():
    with pytest.raises(ValueError, match="num_dags: got 0; must be at least 1"):
        draw_arrivals(np.random.default_rng(0), 1, 1, 0, 1)
