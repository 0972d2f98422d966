"""Intervals against known cases."""

import numpy as np
import pytest

from jaxcec.evaluation.statistics import bootstrap_mean, paired_difference


def test_interval_of_a_normal_sample_is_the_textbook_one():
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    interval = bootstrap_mean(values)
    error = values.std() / np.sqrt(values.size)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [bootstrap_mean(rng.exponential(1.0, 60), seed=i) for i in range(200)]
    covered = np.mean([i.low <= 1.0 <= i.high for i in intervals])
    assert 0.88 <= covered <= 0.99


def test_pairing_removes_what_episodes_share():
    rng = np.random.default_rng(2)
    baseline = rng.uniform(50.0, 1000.0, 200)
    interval = paired_difference(0.9 * baseline, baseline)
    assert interval.mean == pytest.approx(-0.1) and interval.high < -0.09
    assert paired_difference(baseline, baseline) == (0.0, 0.0, 0.0)


def test_a_share_is_taken_of_the_same_resample():
    """However widely a baseline is spread, no interval says that more than all of it was saved."""
    baseline = np.random.default_rng(3).pareto(1.5, 30) * 1000.0
    interval = paired_difference(0.02 * baseline + 1.0, baseline)
    assert -1.0 < interval.low < interval.mean < interval.high < -0.9


def test_one_value_and_none():
    assert bootstrap_mean(np.array([3.0])) == (3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="got none"):
        bootstrap_mean(np.array([]))
    with pytest.raises(ValueError, match=r"got shapes .*; must pair"):
        paired_difference(np.ones(2), np.ones(3))
