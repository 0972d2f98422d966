"""Actions with numbers that are not finite, or of a host that cannot run the microservice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.instances import INSTANCE, ROUTED

from jaxcec.env import INFEASIBLE, Action, build_instance

KEY = jax.random.key(0)
FULL = Action(host=jnp.float32(1.0), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0), postpone=jnp.float32(0.0))


@pytest.fixture(scope="module")
def step():
    env, params = build_instance(**INSTANCE)
    _, state = env.reset(KEY, params)
    return lambda action: env.step_env(KEY, state, action, params)[4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["host", "bandwidth", "hold", "postpone"])
def test_a_number_that_is_not_finite_counts_as_its_default_and_is_reported(step, name, value):
    info = step(FULL.replace(**{name: jnp.float32(value)}))
    expected = step(FULL.replace(host=jnp.float32(0.0)) if name == "host" else FULL)
    assert info["invalid"] and not expected["invalid"]
    assert all(np.isfinite(leaf) for leaf in info.values())
    for key in info:
        assert info[key] == expected[key] or key == "invalid"


def test_a_hold_is_at_most_a_billion_seconds(step):
    info = step(FULL.replace(hold=jnp.float32(1e30)))
    assert info["flow_start"] == pytest.approx(1e9)
    assert not info["invalid"]


def test_a_microservice_goes_only_where_it_can_run():
    """Host 0 is a router, host 1 lacks the gpu of the second microservice, and there is one end device, at node 2."""
    env, params = build_instance(**ROUTED)
    seen, state = env.reset(KEY, params)
    assert seen.nodes.feasible.tolist() == [0, 1, 1]
    assert seen.nodes.finish[0] == seen.nodes.wait[0] == seen.nodes.execution[0] == INFEASIBLE
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(seen))
    went = []
    for host in (0, 1):  # the router, then the node without a gpu
        action = Action(jnp.int32(host), jnp.float32(1.0), jnp.float32(0.0))
        seen, state, _, _, info = env.step_env(KEY, state, action, params)
        went.append((int(info["host"]), bool(info["redirected"])))
    assert went == [(1, True), (2, True)]


@pytest.mark.parametrize("host, went", [(3, 1), (5, 5)])
def test_an_end_device_without_speed_is_no_host(host, went):
    env, params = build_instance(**ROUTED)
    _, state = env.reset(KEY, params)
    info = env.step_env(KEY, state, Action(jnp.int32(host), jnp.float32(1.0), jnp.float32(0.0)), params)[4]
    assert (int(info["host"]), bool(info["redirected"])) == (went, host != went)
    assert np.isfinite(info["finish"])
