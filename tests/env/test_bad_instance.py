"""Regression tests: instances once built incorrectly, or rejected by an error that named no field."""

import pytest

from jaxcec.env import build_instance

SERVICE = {"release": 0, "source": 0, "preds": [[], [0]], "load": [1, 1], "data": [1, 1], "demand": [[1], [1]]}
INSTANCE = {"links": [(0, 1, 1)], "node_speed": [1, 1], "device_speed": [1, 1], "capacity": [[1], [1]]}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"node_speed": [1e39, 1]}, r"node_speed\[0\]: got 1e\+39; must be finite and 0 or from 1e-06 to 1e\+15"),
        ({"node_speed": [1, 1e-50]}, r"node_speed\[1\]: got 1e-50; must be finite and 0 or from 1e-06 to 1e\+15"),
        ({"node_speed": [10**400, 1]}, r"node_speed: got .*; must be a list of numbers"),
        ({"node_speed": [], "device_speed": [], "capacity": [], "links": []}, "node_speed: got none; at least one"),
        ({"links": None}, "links: got None; must be a list"),
        ({"links": [5]}, r"links\[0\]: got 5; must be a list"),
        ({"links": [("0", 1, 1)]}, r"links\[0\]: got '0'; must be an edge node from 0 to 1"),
        ({"links": [(10**400, 1, 1)]}, r"links\[0\]: got 10.*0; must be an edge node from 0 to 1"),
        ({"links": [(None, 1, 1)]}, r"links\[0\]: got None; must be an edge node"),
        ({"links": [(0, 1, [[], 0])]}, r"links\[0\] bandwidth: got \[\[\], 0\]; must be a list of numbers"),
        ({"services": 3}, "services: got 3; must be a list"),
        ({"services": [None]}, r"services\[0\]: got None; must be a mapping of release"),
        ({"services": [SERVICE | {"preds": 1}]}, r"services\[0\].preds: got 1; must be a list"),
        ({"services": [SERVICE | {"preds": [[], 0]}]}, r"services\[0\].preds\[1\]: got 0; must be a list"),
        ({"services": [SERVICE | {"source": "here"}]}, r"services\[0\].source: got 'here'; must be an edge node"),
        ({"services": [SERVICE | {"load": [1, 1e300]}]}, r"services\[0\].load\[1\]: got 1e\+300; .*0 or from 1e-06"),
        ({"config": 5}, "config: got 5; must be an EnvConfig or None"),
    ],
)
def test_the_error_names_the_field(change, message):
    with pytest.raises(ValueError, match=message):
        build_instance(**{**INSTANCE, "services": [SERVICE], **change})


def test_predecessors_may_be_integral_floats():
    _, params = build_instance(**INSTANCE, services=[SERVICE | {"preds": [[], [0.0]]}])
    assert params.dags.preds[0].tolist() == [[False, False], [True, False]]
