"""Policy files with random and mutated bytes, headers and networks.

`load_policy` must return a policy or raise a ValueError that names the file.
"""

import copy
import pickle

import jax
import numpy as np
import pytest
from flax import serialization
from helpers.policy_file import CONTENT, GOOD, HEADER, observation, with_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcec.agents.checkpoint import load_policy, policy_algorithm

EXAMPLES = pytest.mark.parametrize("examples", [12, pytest.param(400, marks=pytest.mark.slow)])


def check(path, content):
    """Load a policy file, which must give a policy of finite float32 numbers or a ValueError that names the file."""
    path.write_bytes(content)
    try:
        policy = load_policy(path, observation())
        assert policy_algorithm(path) == policy.config.algorithm
    except ValueError as error:
        assert type(error) is ValueError and str(path) in str(error)
        return
    assert isinstance(policy.origin, str) and all(type(units) is int for units in policy.config.hidden)
    for leaf in jax.tree.leaves(policy.params):
        assert leaf.dtype == np.float32 and np.isfinite(leaf).all()


def replaced(tree, path, value):
    """Copy nested mappings with one entry replaced."""
    tree = copy.copy(tree)
    tree[path[0]] = replaced(tree[path[0]], path[1:], value) if path[1:] else value
    return tree


def leaves(tree, path=()):
    """List the paths to all leaves of nested mappings."""
    return [p for k, v in tree.items() for p in leaves(v, (*path, k))] if isinstance(tree, dict) else [path]


VALUES = (
    st.none() | st.booleans() | st.integers(-2, 70) | st.just(10**30) | st.floats() | st.text(max_size=5)
    | st.lists(st.integers(-1, 10**10) | st.floats(), max_size=3)
)  # fmt: skip
ARRAYS = [
    np.float32(np.nan),
    np.zeros((0, 3), np.float32),
    np.ones((64, 64)),
    np.ones(3, complex),
    b"ab",
    {},
    None,
    "x",
    5,
]
headers = st.tuples(st.sampled_from([("config",), ("origin",), *leaves(HEADER)]), VALUES).map(
    lambda change: with_header(replaced(HEADER, *change))
)
networks = st.tuples(st.sampled_from(leaves(CONTENT)), st.sampled_from(ARRAYS)).map(lambda c: replaced(CONTENT, *c))
poisoned = st.tuples(st.sampled_from(leaves(CONTENT["params"])), st.sampled_from([np.nan, np.inf, np.float64])).map(
    lambda change: CONTENT | {"params": spoiled(CONTENT["params"], *change)}
)
bytes_changed = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=3)


def spoiled(params, path, how):
    """Copy parameters with one array filled with NaN or infinity, or converted to float64."""
    leaf = params
    for key in path:
        leaf = leaf[key]
    leaf = None if leaf is None else leaf.astype(np.float64) if how is np.float64 else np.full_like(leaf, how)
    return replaced(params, path, leaf)


def damaged(cuts):
    """Replace some bytes of the file by others."""
    content = GOOD
    for where, length, new in cuts:
        at = round(where**4 * len(content))  # mostly in the header, which comes first
        content = content[:at] + new + content[at + length :]
    return content


@EXAMPLES
@pytest.mark.parametrize(
    "contents",
    [
        st.binary(max_size=100),
        bytes_changed.map(damaged),
        st.floats(0, 1).map(lambda share: GOOD[: int(share * len(GOOD))]),
        headers.map(serialization.msgpack_serialize),
        networks.map(serialization.msgpack_serialize),
        poisoned.map(serialization.msgpack_serialize),
    ],
    ids=["bytes", "damaged", "cut", "headers", "networks", "numbers"],
)
def test_a_policy_file_is_read_correctly_or_refused(examples, contents, tmp_path):
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(contents)
    def holds(content):
        check(tmp_path / "policy.msgpack", content)

    holds()


class Trap:
    """An object that creates the file `trapped` when it is unpickled."""

    def __reduce__(self):
        return open, ("trapped", "w")


def test_a_pickle_is_refused_and_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = CONTENT | {"params": pickle.dumps(Trap())}
    for content in (pickle.dumps(Trap()), serialization.msgpack_serialize(inside)):
        (tmp_path / "policy.msgpack").write_bytes(content)
        with pytest.raises(ValueError, match=r"policy\.msgpack: "):
            load_policy(tmp_path / "policy.msgpack", observation())
    assert [path.name for path in tmp_path.iterdir()] == ["policy.msgpack"]


def test_the_shipped_policy_is_accepted(tmp_path):
    (tmp_path / "policy.msgpack").write_bytes(GOOD)
    assert load_policy(tmp_path / "policy.msgpack", observation()).config.algorithm == "ddpg"
