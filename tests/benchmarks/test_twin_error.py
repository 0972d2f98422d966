"""The error measures of the twins, on worlds and rankings with known answers."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcec.agents.features import Features
from jaxcec.agents.networks import flat_features
from jaxcec.agents.types import RelaxedAction


@pytest.fixture
def twin_error(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import twin_error

    return twin_error


def drawn(rng: np.random.Generator, count: int) -> tuple[Features, RelaxedAction]:
    """Draw features of three nodes and two links, and a node at random."""
    shapes = {"nodes": (3, 4), "links": (2, 2), "context": (5,)}
    features = Features(**{name: jnp.float32(rng.normal(size=(count, *shape))) for name, shape in shapes.items()})
    ones = jnp.ones((count, 3))
    return features, RelaxedAction(jax.nn.one_hot(rng.integers(3, size=count), 3), ones, 0.0 * ones)


def test_the_linear_model_recovers_a_linear_world(twin_error):
    rng = np.random.default_rng(0)
    weights = jnp.float32(rng.normal(size=(21 + 3, 21)))

    def world(features: Features, action: RelaxedAction) -> Features:
        change = flat_features(features, action.nodes) @ weights + 0.5
        nodes, links, context = jnp.split(change, [12, 16], axis=-1)
        change = Features(nodes.reshape(-1, 3, 4), links.reshape(-1, 2, 2), context)
        return jax.tree.map(jnp.add, features, change)

    features, action = drawn(rng, 500)
    model = twin_error.fit_linear(features, world(features, action), action)
    unseen = drawn(rng, 50)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3), model(*unseen), world(*unseen))


def test_windows_do_not_cross_episodes(twin_error):
    features, action = jax.tree.map(lambda x: x.reshape(2, 6, *x.shape[1:]), drawn(np.random.default_rng(0), 12))
    active = jnp.arange(6)[None] < jnp.array([[6], [3]])
    before, after, actions = twin_error.windows(features, action, active, horizon=2)
    np.testing.assert_array_equal(before.context, jnp.concatenate([features.context[0, :4], features.context[1, :1]]))
    np.testing.assert_array_equal(after.context, jnp.concatenate([features.context[0, 2:], features.context[1, 2:3]]))
    np.testing.assert_array_equal(actions[1].nodes, jnp.concatenate([action.nodes[0, 1:5], action.nodes[1, 1:2]]))


@pytest.mark.parametrize(
    ("one", "other", "correlation"),
    [
        ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 400.0], 1.0),
        ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], -1.0),
        ([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0], 0.6),
        ([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], 0.9486833),  # Pearson's of 1.5 1.5 3 4 and 1 2 3 4
        ([5.0, 5.0, 5.0, 5.0], [1.0, 2.0, 3.0, 4.0], 0.0),
    ],
)
def test_spearman_of_known_rankings(twin_error, one, other, correlation):
    np.testing.assert_allclose(twin_error.spearman(np.array([one]), np.array([other])), [correlation], atol=1e-6)
