"""The timeline against a list of breakpoints kept by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcec.env import timeline

Q, R = 6, 2


def reserve_by_hand(times, free, usage, start, end, now):
    """The same operation on lists: insert, charge, then remove breakpoints before the last one."""
    count = int(np.isfinite(times).sum())
    times, free = list(np.maximum(times[:count], now)), [free[:, k].copy() for k in range(count)]
    while len(times) > 1 and times[1] <= now:
        del times[0], free[0]
    if end > start:
        for point in (start, end):
            if point not in times:
                k = sum(t <= point for t in times)
                times.insert(k, point)
                free.insert(k, free[k - 1].copy())
        free = [f - usage if start <= t < end else f for t, f in zip(times, free, strict=True)]
    merges = 0
    while len(times) > Q:
        free[-3] = np.minimum(free[-3], free[-2])
        del times[-2], free[-2]
        merges += 1
    return times, np.stack(free, axis=-1), merges


@pytest.mark.parametrize("seed", range(5))
def test_reserve_equals_the_lists(seed):
    rng = np.random.default_rng(seed)
    reserve, earliest = jax.jit(timeline.reserve), jax.jit(timeline.earliest_start)
    merged = 0
    for _ in range(10):
        table, now = timeline.empty(R, Q), np.float32(0.0)
        for _ in range(40):
            now = np.float32(now + 2.0 * rng.exponential())
            usage = rng.uniform(0.0, 0.3, R).astype(np.float32)
            not_before = np.float32(now + 5.0 * rng.exponential() * (rng.random() < 0.7))
            start = np.float32(earliest(table, usage, not_before, jnp.float32(8.0 * rng.exponential())))
            end = np.float32(start + 8.0 * rng.exponential())
            times, free, merges = reserve_by_hand(
                np.asarray(table.times), np.asarray(table.free), usage, start, end, now
            )
            table, count = reserve(table, usage, start, end, now)
            live = [k for k in range(Q) if np.isfinite(table.times[k]) and (k == Q - 1 or table.times[k + 1] > now)]
            np.testing.assert_array_equal(np.asarray(table.times)[live], times)
            np.testing.assert_allclose(np.asarray(table.free)[:, live], free, atol=1e-6)
            assert count == merges
            assert np.all(np.asarray(table.free)[:, live[-1]] == 1.0), "past the last breakpoint everything is free"
            merged += merges
    assert merged > 0


def test_shares_that_add_up_to_a_whole_fit_together():
    table = timeline.empty(1, 8)
    for _ in range(10):
        start = timeline.earliest_start(table, jnp.full(1, 0.1), jnp.float32(0.0), jnp.float32(1.0))
        assert start == 0.0
        table, _ = timeline.reserve(table, jnp.full(1, 0.1), start, start + 1.0, jnp.float32(0.0))
    later = timeline.earliest_start(table, jnp.full(1, 0.1), jnp.float32(0.0), jnp.float32(1.0))
    assert later == 1.0


def test_a_gap_is_filled_only_if_it_is_long_enough():
    table = timeline.empty(1, 8)
    whole = jnp.ones(1)
    for start in (0.0, 3.0):
        table, _ = timeline.reserve(table, whole, jnp.float32(start), jnp.float32(start + 1.0), jnp.float32(0.0))
    assert timeline.earliest_start(table, whole, jnp.float32(0.5), jnp.float32(2.0)) == 1.0
    assert timeline.earliest_start(table, whole, jnp.float32(0.5), jnp.float32(2.5)) == 4.0
    assert timeline.earliest_start(table, whole, jnp.float32(0.5), jnp.float32(0.0)) == 0.5
