"""Boundary cases: the smallest instances, numbers of every magnitude, long horizons, 64-bit JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracle import Oracle
from helpers.rounding_cases import late, ring

from jaxcec.env import Action, build_instance

KEY = jax.random.key(0)
ROUNDING = 1e-6  # relative to the finish, as for random instances


def service(release=0.0, source=0, size=1, load=100.0, data=10.0, demand=0.5):
    """A chain of microservices."""
    return {
        "release": release,
        "source": source,
        "preds": [[j - 1] if j else [] for j in range(size)],
        "load": [load] * size,
        "data": [data] * size,
        "demand": [[demand, demand]] * size,
    }


def finishes(instance, hosts):
    """Finish of every decision in s, by the simulator and by the oracle, for hosts taken in turn."""
    env, params = build_instance(**instance)
    step = jax.jit(env.step_env)
    _, state = env.reset(KEY, params)
    oracle, found, expected = Oracle(instance), [], []
    while oracle.current() is not None:
        host = hosts[len(found) % len(hosts)]
        action = Action(jnp.int32(host), jnp.float32(1.0), jnp.float32(0.0))
        seen, state, reward, terminated, info = step(KEY, state, action, params)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((seen, reward, info)))
        found.append(float(info["finish"]))
        expected.append(oracle.decide(host, 1.0, 0.0).finish)
    assert terminated
    np.testing.assert_allclose(info["act"], oracle.act(), rtol=ROUNDING, atol=ROUNDING * max(expected))
    return np.array(found), np.array(expected)


ALONE = {"links": [], "node_speed": [10.0], "device_speed": [5.0], "capacity": [[1.0, 1.0]]}
EXTREMES = {
    "one node, no link, one service, one microservice": (ALONE | {"services": [service()]}, [0]),
    "only the end device": (ALONE | {"services": [service(size=3)]}, [1]),
    "zero loads, data and demands": (ring(3, [service(load=0.0, data=0.0, demand=0.0, size=2)]), [0, 1, 2]),
    "all services released together": (ring(3, [service(source=i % 3, size=2) for i in range(20)]), [0, 1, 2]),
    "very small loads": (ring(3, [service(load=1e-6, data=1e-6, size=3) for _ in range(3)]), [1, 2, 0]),
    "very large loads": (ring(3, [service(load=1e12, data=1e9, size=3) for _ in range(3)]), [1, 2, 0]),
    "loads of all magnitudes": (ring(3, [service(load=10.0**k, data=10.0**-k) for k in range(-2, 4)]), [1, 2, 0]),
    "links of minimal bandwidth": (ring(3, [service(size=3)], bandwidth=1e-6), [1, 2, 0]),
    "nodes of minimal speed": (ring(3, [service(size=3)], speed=1e-6), [1, 2, 0]),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_boundary_cases_agree_with_the_oracle(name):
    found, expected = finishes(*EXTREMES[name])
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=0.0)


@pytest.mark.parametrize("release", [1e2, 1e4, 1e6])
def test_long_horizons_lose_at_most_a_few_roundings(release):
    """At 1e6 s, adjacent float32 numbers are 0.0625 s apart: the error is of this size for any number of decisions."""
    found, expected = finishes(late(release), [0, 1, 2, 3])
    rounding = np.spacing(np.float32(expected.max()))
    assert 0.0 < np.abs(found - expected).max() <= 8.0 * rounding


def test_64_bit_jax_computes_the_same_bits():
    """Every array of the simulator has an explicit type, so that enabling 64 bits changes nothing."""
    found, _ = finishes(late(1e4), [0, 1, 2, 3])
    jax.config.update("jax_enable_x64", True)
    try:
        again, _ = finishes(late(1e4), [0, 1, 2, 3])
    finally:
        jax.config.update("jax_enable_x64", False)
    np.testing.assert_array_equal(found, again)
