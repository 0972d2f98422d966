"""`build_instance` with random and mutated arguments: exactly the instance, or a ValueError that names the field."""

import copy
import math

import jax
import numpy as np
import pytest
from helpers.instances import INSTANCE
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcec.env import build_instance
from jaxcec.env.banks import upward_rank

EXAMPLES = pytest.mark.parametrize("examples", [150, pytest.param(5000, marks=pytest.mark.slow)])
ARGUMENTS = ("links", "node_speed", "device_speed", "capacity", "services")
numbers = st.integers(-2, 5) | st.floats() | st.sampled_from(
    [0.0, 1.0, True, 1e-50, 1e38, 1e39, 1e300, 10**400, 2**40, 1e15, 1e-6, np.float32(2), np.int8(1), np.array(1), 1j]
)  # fmt: skip
others = st.none() | st.text(max_size=3) | st.just({}) | st.just(object) | st.just(np.zeros(2)) | st.just(b"ab")
anything = st.recursive(numbers | others, lambda inner: st.lists(inner, max_size=4), max_leaves=6)


def places(tree):
    """List the paths to all entries of nested lists and mappings."""
    if isinstance(tree, dict | list | tuple):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield (key,)
            yield from ((key, *rest) for rest in places(tree[key]))


def put(tree, path, value):
    """Copy nested lists and mappings with one entry replaced."""
    if not path:
        return value
    tree = list(tree) if isinstance(tree, tuple) else copy.copy(tree)
    tree[path[0]] = put(tree[path[0]], path[1:], value)
    return tree


PLACES = list(places(INSTANCE))
mutated = st.lists(st.tuples(st.sampled_from(PLACES), numbers | anything), min_size=1, max_size=2)


def check(arguments):
    """Build an instance, whose banks must hold exactly the arguments, or which must be refused with the field named."""
    try:
        env, params = build_instance(**arguments)
    except ValueError as error:
        assert type(error) is ValueError and len(str(error)) < 1000
        assert str(error).startswith((*ARGUMENTS, "config", "EnvConfig")), str(error)
        return
    for leaf in jax.tree.leaves(params.replace(network=params.network.replace(bottleneck=np.zeros(1)))):
        assert np.isfinite(leaf).all() and (np.asarray(leaf, np.float64) >= -1).all()
    speed = np.concatenate([np.asarray(arguments[name], np.float32) for name in ("node_speed", "device_speed")])
    assert np.array_equal(params.network.speed[0], speed)
    for s, service in enumerate(arguments["services"]):
        size = int(params.dags.size[s])
        assert size == len(service["preds"]) <= env.config.max_microservices
        given = {name: np.asarray(service[name], np.float32) for name in ("load", "data", "demand")}
        for name, values in given.items():
            assert np.array_equal(getattr(params.dags, name)[s, :size], values), name
        preds = [np.flatnonzero(row).tolist() for row in np.asarray(params.dags.preds[s, :size])]
        assert preds == [sorted({int(k) for k in row}) for row in service["preds"]]
        assert np.array_equal(upward_rank(preds, given["load"], ""), params.dags.rank[s, :size])
        assert float(params.arrivals.release[0, s]) == np.float32(service["release"])
        assert int(params.arrivals.source[0, s]) == service["source"]
    bandwidth = [np.float32(rate) for link in arguments["links"] for rate in np.ravel(link[2])]
    assert params.network.bandwidth[0, : len(bandwidth)].tolist() == bandwidth and math.isfinite(sum(bandwidth))


@EXAMPLES
def test_a_mutated_instance_is_built_correctly_or_refused(examples):
    @settings(max_examples=examples, deadline=None, database=None)
    @given(mutated)
    def holds(changes):
        arguments = INSTANCE
        for path, value in changes:
            try:
                arguments = put(arguments, path, value)
            except (TypeError, KeyError, IndexError):
                continue  # the first change removed this entry
        check(arguments)

    holds()


@EXAMPLES
def test_an_instance_of_random_objects_is_built_correctly_or_refused(examples):
    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.fixed_dictionaries(dict.fromkeys(ARGUMENTS, anything)))
    def holds(arguments):
        check(arguments)

    holds()
