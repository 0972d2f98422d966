"""The replay buffer: a ring of blocks, and returns over several decisions."""

import operator

import jax
import numpy as np
import pytest
from helpers.transitions import COLUMNS, KEY, V, features_of, numbered, step_of

from jaxcec.agents import replay

sample = jax.jit(replay.sample, static_argnames=("size", "steps"))


def stored(buffer) -> list[list[int]]:
    return np.asarray(buffer.blocks.reward).astype(int).tolist()


def empty(num_envs: int, size: int):
    return replay.create(numbered(*[0] * num_envs), size)


def test_the_buffer_is_a_ring_of_blocks():
    buffer = empty(num_envs=2, size=3)
    assert stored(buffer) == [[0, 0]] * 3, "rounded up to whole blocks, and one more"
    assert buffer.filled == 0
    for count, block in enumerate([(1, 2), (3, 4), (5, 6)], start=1):
        buffer = jax.jit(replay.add)(buffer, numbered(*block))
        assert buffer.filled == count
    assert stored(buffer) == [[1, 2], [3, 4], [5, 6]]
    buffer = jax.jit(replay.add)(buffer, numbered(7, 8))
    assert stored(buffer) == [[7, 8], [3, 4], [5, 6]]
    assert (buffer.filled, buffer.next) == (3, 1)


@pytest.mark.parametrize(("steps", "first"), [(3, 0), (4, 0), (6, 2)], ids=["filling", "full", "overwritten"])
@pytest.mark.parametrize("size", [800, 801, 2])
def test_every_transition_whose_next_state_is_known_is_equally_likely(steps, first, size):
    """Four blocks of two environments: decision t of environment e is numbered 2 t + e + 1."""
    buffer = empty(num_envs=2, size=6)
    for t in range(steps):
        buffer = jax.jit(replay.add)(buffer, numbered(2 * t + 1, 2 * t + 2))
    batches = [sample(buffer, key, size=size, steps=1) for key in jax.random.split(KEY, max(1, 400 // size))]
    batch = jax.tree.map(lambda *x: np.concatenate(x), *batches)
    assert batch.features.nodes.shape == (len(batch.node), V, COLUMNS)
    np.testing.assert_array_equal(batch.reward, batch.node, err_msg="one transition stays together")
    np.testing.assert_array_equal(batch.next_features.context[:, 0], batch.features.context[:, 0] + 2)
    counts = np.bincount(batch.node, minlength=2 * steps + 1)
    known = slice(2 * first + 1, 2 * steps - 1)
    assert counts[known].sum() == len(batch.node), "the next states of the newest block are not known"
    expected = len(batch.node) / len(counts[known])
    assert np.abs(counts[known] - expected).max() < 5 * np.sqrt(expected)


def test_returns_stop_where_an_episode_ends_or_is_truncated_and_where_the_ring_ends():
    """One environment, rewards 1 to 6; the third decision ends an episode, the fifth is truncated."""
    features = features_of(np.random.default_rng(0), 6)
    features = features.replace(context=np.broadcast_to(np.arange(6, dtype=np.float32)[:, None], (6, 12)))
    discounts, weights = [0.5, 0.5, 0.0, 0.5, 0.5, 0.5], [1, 1, 1, 1, 0, 1]
    buffer = None
    for t in range(6):
        of_t = jax.tree.map(operator.itemgetter(t), features)
        one = step_of(of_t, t, t + 1.0, discount=discounts[t], weight=weights[t])
        one = jax.tree.map(lambda x: np.asarray(x)[None], one)
        buffer = replay.create(one, size=6) if buffer is None else buffer
        buffer = replay.add(buffer, one)
    batch = jax.tree.map(np.asarray, sample(buffer, KEY, size=200, steps=3))
    expected = {  # by first decision: return, discount of the next state, number of that state
        0: (1 + 0.5 * 2 + 0.25 * 3, 0.0, None),
        1: (2 + 0.5 * 3, 0.0, None),
        2: (3, 0.0, None),
        3: (4, 0.5, 4),  # the state after the fifth decision is unknown: the fifth's own state is the last known one
        4: None,
    }
    assert set(batch.node) == set(expected), "the next state of the newest decision is not known"
    for i, first in enumerate(batch.node):
        if expected[first] is None:
            assert batch.weight[i] == 0
            continue
        total, discount, after = expected[first]
        assert (batch.weight[i], batch.discount[i]) == (1, discount)
        np.testing.assert_allclose(batch.reward[i], total, rtol=1e-6)
        assert after is None or batch.next_features.context[i, 0] == after


def test_the_newest_steps_are_read_in_order_across_the_end_of_the_ring():
    buffer = empty(num_envs=2, size=6)
    for t in range(6):
        buffer = jax.jit(replay.add)(buffer, numbered(2 * t, 2 * t + 1))
    np.testing.assert_array_equal(replay.newest(buffer, 3).reward, [[6, 7], [8, 9], [10, 11]])


def test_summed_rewards_equal_their_plain_definition():
    rng = np.random.default_rng(0)
    reward = rng.normal(size=(500, 9)).astype(np.float32)
    discount = np.where(rng.random(reward.shape) < 0.1, 0, 0.9).astype(np.float32)
    weight = (rng.random(reward.shape) > 0.1).astype(np.float32)
    known = rng.integers(0, 12, 500).astype(np.int32)
    expected = []
    for i in range(500):
        length, total, rest = 0, 0.0, 1.0
        while length < min(9, known[i]) and weight[i, length] and rest:
            total += rest * reward[i, length]
            rest *= discount[i, length]
            length += 1
        expected.append((length, total, rest))
    found = np.stack(replay.summed_rewards(reward, discount, weight, known), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert len(set(found[:, 0])) == 10, "every number of decisions occurs"
