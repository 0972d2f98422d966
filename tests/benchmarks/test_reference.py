"""The scalar reference reproduces the array simulator's episodes, so both results and speed are comparable."""

from pathlib import Path

import pytest

from jaxcec.scenarios import Scenario

SMALL = Scenario(num_services=6, max_microservices=12, num_topologies=8, num_dags=32, num_patterns=16, num_traces=4)


def test_scalar_and_array_simulators_agree(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import reference

    assert reference.agreement(SMALL, "le", 16) == 1.0
    # float32 may order a tie of finish times either way, after which the episodes differ.
    assert reference.agreement(SMALL, "eft", 16) >= 0.9
