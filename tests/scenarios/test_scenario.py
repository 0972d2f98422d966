"""Settings of a scenario, and the banks that are drawn from them."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers.real_rows import write_batch

from jaxcec.scenarios import Scenario, make_env, read_sources

SMALL = Scenario(num_topologies=2, num_dags=8, num_patterns=4, num_traces=2, num_frames=16, max_microservices=6)


def test_the_dataset_both_joins_the_banks_of_the_two_datasets():
    both, synthetic, alibaba = (
        make_env(dataclasses.replace(SMALL, dataset=dataset), "train")[1]
        for dataset in ("both", "synthetic", "alibaba")
    )
    for name, leaf in vars(both.dags).items():
        joined = np.concatenate([getattr(synthetic.dags, name), getattr(alibaba.dags, name)])
        assert np.array_equal(leaf, joined), name
    assert np.array_equal(both.arrivals.dag[:4], synthetic.arrivals.dag)
    assert np.array_equal(both.arrivals.dag[4:], alibaba.arrivals.dag + 8)
    for part in ("network", "background"):
        assert jax.tree.all(jax.tree.map(np.array_equal, getattr(both, part), getattr(synthetic, part)))


@pytest.mark.parametrize("dataset", ["alibaba", "both"])
def test_services_come_from_the_user_s_own_trace(dataset, tmp_path):
    path = write_batch(tmp_path / "batch_task.csv")
    own = dataclasses.replace(SMALL, dataset=dataset, trace=str(path), runtime="corrected")
    sources = read_sources(own)
    assert sources.report.kept_jobs == len(sources.jobs) == 12_000
    read, given = (make_env(own, "test", each)[1] for each in (None, sources))
    shipped = make_env(dataclasses.replace(SMALL, dataset=dataset), "test")[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, read, given))
    assert np.array_equal(read.dags.preds, shipped.dags.preds)  # the trace has the jobs of the shipped hour
    assert not np.array_equal(read.dags.load, shipped.dags.load)  # with corrected run times


def test_splits_share_no_bank():
    for name, bank in vars(make_env(SMALL, "train")[1]).items():
        if name in ("network", "dags", "arrivals", "background"):
            other = getattr(make_env(SMALL, "test")[1], name)
            assert not jax.tree.all(jax.tree.map(np.array_equal, bank, other)), name


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trace": "rows.csv"}, "scenario.trace: got 'rows.csv'; must be None where scenario.dataset is synthetic"),
        ({"dataset": "google"}, "scenario.dataset: got 'google'; must be one of synthetic, alibaba, both"),
        ({"runtime": "real"}, "scenario.runtime: got 'real'; must be one of registered, corrected"),
        ({"background": "constant"}, "scenario.background: got 'constant'; must be one of none, ar1, alibaba"),
        ({"seed": -1}, "scenario.seed: got -1; must be at least 0"),
        ({"num_dags": 0}, "scenario.num_dags: got 0; must be at least 1"),
        ({"load": 0.0}, "scenario.load: got 0.0; must be positive and finite, from 1e-9 to 1e15"),
        (
            {"demand": (0.5, 1.5)},
            r"scenario.demand: got \(0.5, 1.5\); must be \(low, high\) with 0 <= low <= high <= 1",
        ),
        ({"neighbours": (3, 2)}, r"scenario.neighbours: got \(3, 2\); must be \(least, largest\) with 1 <= least"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Scenario(**changes)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split: got 'eval'; must be one of train, test"):
        make_env(SMALL, "eval")
