"""Layouts on several devices."""

import jax
import pytest
from jax.sharding import AbstractMesh

from jaxcec.agents.sharding import number_of_groups


@pytest.mark.parametrize(
    "episodes, devices, groups", [(192, 1, 6), (192, 2, 6), (192, 64, 3), (32, 1, 4), (32, 8, 4), (7, 1, 1), (6, 1, 6)]
)
def test_groups_of_episodes_are_equally_large_on_every_device(episodes, devices, groups, monkeypatch):
    mesh = None if devices == 1 else AbstractMesh((devices,), ("x",))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert number_of_groups(episodes, mesh, most=6) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert number_of_groups(episodes, mesh, most=6) == groups
    assert number_of_groups(episodes, mesh, most=0) == 1
