"""The named worlds of the suite: their episodes are those published."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxcec.scenarios import suite
from jaxcec.scenarios.suite import SUITE, content_hash, suite_world

QUICK = ("cec-mixed-nodes-v1", "cec-adversarial-v1")
PACKAGES = {"cec-zoo-v1": "topohub", "cec-workflows-v1": "wfcommons"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SUITE]
)
def test_the_episodes_are_those_published(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    env, banks = suite_world(name)
    assert all(leaf.shape[0] for params in banks for leaf in jax.tree.leaves(params.dags))
    assert content_hash((env, banks)) == SUITE[name].published


def test_nodes_of_the_mixed_world_differ():
    (params,) = suite_world("cec-mixed-nodes-v1")[1]
    speed, capacity = (np.asarray(x[:, :10]) for x in (params.network.speed, params.network.capacity))
    assert np.all((speed == 0.0).sum(axis=1) == 2) and np.all((capacity[..., 0] < 1.0).sum(axis=1) == 4)
    assert 0.2 < np.mean(np.asarray(params.dags.demand).max(axis=-1) > 0.6) < 0.6


def test_other_episodes_are_refused(monkeypatch):
    name = "cec-mixed-nodes-v1"
    monkeypatch.setitem(suite.SUITE, name, dataclasses.replace(SUITE[name], published="0" * 16))
    with pytest.raises(ValueError, match=f"suite {name}: the episodes have the content .* and those published 0000"):
        suite_world(name)
    with pytest.raises(ValueError, match="suite: got 'cec-v2'; must be one of cec-synthetic-v1, cec-alibaba-v1"):
        suite_world("cec-v2")
