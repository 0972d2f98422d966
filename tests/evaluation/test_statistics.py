"""Bootstrap intervals compared with known cases."""

import numpy as np
import pytest

from jaxcec.evaluation import bootstrap_mean, bootstrap_means, paired_difference


def test_the_interval_of_a_normal_sample_is_the_textbook_one():
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    interval = bootstrap_mean(values)
    error = values.std() / np.sqrt(values.size)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_the_interval_covers_the_mean_at_its_nominal_rate():
    samples = np.random.default_rng(1).exponential(1.0, (200, 60))
    intervals = bootstrap_means({str(i): sample for i, sample in enumerate(samples)})
    covered = np.mean([i.low <= 1.0 <= i.high for i in intervals.values()])
    assert 0.88 <= covered <= 0.99


def test_pairing_removes_the_variance_between_episodes():
    rng = np.random.default_rng(2)
    baseline = rng.uniform(50.0, 1000.0, 200)
    interval = paired_difference(0.9 * baseline, baseline)
    assert interval.mean == pytest.approx(-0.1) and interval.high < -0.09
    assert paired_difference(baseline, baseline) == (0.0, 0.0, 0.0)


def test_each_resample_is_compared_with_its_own_baseline():
    """Even for a heavy-tailed baseline, no interval contains a saving of more than 100 %."""
    baseline = np.random.default_rng(3).pareto(1.5, 30) * 1000.0
    interval = paired_difference(0.02 * baseline + 1.0, baseline)
    assert -1.0 < interval.low < interval.mean < interval.high < -0.9


def test_one_value_has_no_spread_and_no_values_are_refused():
    assert bootstrap_mean(np.array([3.0])) == (3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="got none"):
        bootstrap_mean(np.array([]))
    with pytest.raises(ValueError, match=r"got shapes .*; must pair"):
        paired_difference(np.ones(2), np.ones(3))


def test_several_measures_have_the_intervals_that_each_has_alone():
    rng = np.random.default_rng(4)
    columns = {"act": rng.exponential(1.0, 30), "energy": rng.normal(1e6, 1e3, 30)}
    together = bootstrap_means(columns)
    for name, values in columns.items():
        assert together[name] == pytest.approx(bootstrap_mean(values))
