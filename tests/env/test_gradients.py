"""Derivatives of an episode's finishes by every number that is documented as differentiable, padding included."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.instances import INSTANCE

from jaxcec.env import Action, EnvConfig, build_instance

KEY = jax.random.key(0)
STEPS = 4  # microservices of INSTANCE
SIZES = EnvConfig(3, max_links=4, num_services=2, max_microservices=5)  # links and microservices with padding
THRESHOLDS = ["network.capacity", "dags.demand"]  # they decide what fits, in steps
LEAVES = [
    *THRESHOLDS,
    "network.bandwidth",
    "network.bottleneck",
    "network.latency",
    "network.speed",
    "dags.load",
    "dags.data",
    "dags.sent",
    "arrivals.release",
    "background.load",
]
ACTIONS = Action(
    host=jnp.array([0, 1, 4, 1]), bandwidth=jnp.array([0.7, 0.9, 0.8, 0.6]), hold=jnp.array([0.5, 1.0, 0.25, 2.0])
)


def total(env, params, actions):
    """Weighted sum of all finishes and rewards, s, and the sum of all leaves of all observations."""
    _, state = env.reset_env(KEY, params)

    def step(state, action):
        seen = env.observe(KEY, state, None, params)
        _, state, reward, _, info = env.step_env(KEY, state, action, params)
        return state, (info["finish"], reward, sum(jnp.sum(leaf) for leaf in jax.tree.leaves(seen)))

    finish, reward, seen = jax.lax.scan(step, state, actions)[1]
    return jnp.sum(finish * jnp.arange(1.0, STEPS + 1)) + 0.1 * jnp.sum(reward), jnp.sum(seen)


def with_leaves(params, leaves):
    for path, leaf in leaves.items():
        bank, name = path.split(".")
        params = params.replace(**{bank: getattr(params, bank).replace(**{name: leaf})})
    return params


class Differentiated(NamedTuple):
    """The values of all numbers, `total` as a function of them, and its derivatives by them."""

    values: dict[str, Any]
    function: Callable[[dict[str, Any]], tuple[Any, Any]]
    by_value: dict[str, Any]
    seen_by_value: dict[str, Any]


@pytest.fixture(scope="module")
def differentiated():
    links = [(0, 1, (10, 6), 0.5), (1, 2, 5, 0.25)]
    service = {name: value for name, value in INSTANCE["services"][0].items() if name not in ("preds", "data")}
    service |= {"inputs": [{}, {0: 20}, {0: 10, 1: 15}], "external": [10, 5, 8]}
    services = [service, INSTANCE["services"][1]]
    env, params = build_instance(**INSTANCE | {"links": links, "services": services}, config=SIZES)
    params = params.replace(background=params.background.replace(load=jnp.full((1, 1), 0.2)))
    values = {path: getattr(getattr(params, path.split(".")[0]), path.split(".")[1]) for path in LEAVES}
    values |= {name: getattr(ACTIONS, name) for name in ("bandwidth", "hold")}

    @jax.jit
    def function(values):
        leaves = {path: values[path] for path in LEAVES}
        actions = ACTIONS.replace(bandwidth=values["bandwidth"], hold=values["hold"])
        return total(env, with_leaves(params, leaves), actions)

    return Differentiated(values, function, *jax.jit(jax.jacrev(function))(values))


def by_differences(function, values, name, step):
    """Central differences of the first result by every positive and finite number of a leaf; NaN elsewhere."""
    leaf = np.asarray(values[name], np.float32)
    slopes = np.full(leaf.size, np.nan)
    for i in np.flatnonzero(np.isfinite(leaf) & (leaf > 0.0)):
        results = []
        for change in (step, -step):
            flat = leaf.ravel().copy()
            flat[i] += change
            results.append((float(function(values | {name: jnp.asarray(flat.reshape(leaf.shape))})[0]), float(flat[i])))
        (high, above), (low, below) = results
        slopes[i] = (high - low) / (above - below)
    return slopes.reshape(leaf.shape)


@pytest.mark.parametrize("name", [*LEAVES, "bandwidth", "hold"])
def test_derivatives_are_finite_and_right(differentiated, name):
    """Only finiteness is checked of a number that is 0, and of a threshold, which a difference may cross."""
    values, function, by_value, seen_by_value = differentiated
    assert np.isfinite(by_value[name]).all()
    if name != "network.bottleneck":  # infinite from a node to itself, and observations divide by it
        assert np.isfinite(seen_by_value[name]).all()
    if name in THRESHOLDS:
        return
    expected = by_differences(function, values, name, step=2.0**-9 if name == "background.load" else 2.0**-7)
    there = np.isfinite(expected)
    np.testing.assert_allclose(np.asarray(by_value[name])[there], expected[there], rtol=0.03, atol=0.05)
    if name not in ("network.bottleneck", "arrivals.release"):
        assert np.abs(expected[there]).max() > 0.1, "the number matters"
