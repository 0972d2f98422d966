"""The timeline against a plain list of breakpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcec.env import timeline

Q, R = 6, 2


def reserve_in_lists(times, free, usage, start, end, now):
    """`timeline.reserve` on lists: insert breakpoints, subtract usage, then merge the segments before the last one."""
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


def in_time_order(table):
    """Times and free shares of a timeline, segment by segment, as numpy arrays."""
    order = np.arange(table.times.size) if table.order is None else np.asarray(table.order)
    assert sorted(order) == list(range(table.times.size)), "the order is a permutation of the columns"
    return np.asarray(table.times)[order], np.asarray(table.free)[:, order]


@jax.jit
def earliest(table, usage, not_before, duration):
    """`timeline.earliest_start` of one request."""
    return timeline.earliest_start(table, usage[None], not_before=not_before[None], duration=duration[None])[0]


@pytest.mark.parametrize("kind", [lambda table: table, timeline.indexed], ids=["in time order", "indexed"])
@pytest.mark.parametrize("seed", range(5))
def test_reserve_equals_the_list_implementation(seed, kind):
    rng = np.random.default_rng(seed)
    reserve = jax.jit(timeline.reserve)
    merged = 0
    for _ in range(10):
        table, now = kind(timeline.empty(R, Q)), np.float32(0.0)
        for _ in range(40):
            now = np.float32(now + 2.0 * rng.exponential())
            usage = rng.uniform(0.0, 0.3, R).astype(np.float32)
            not_before = np.float32(now + 5.0 * rng.exponential() * (rng.random() < 0.7))
            start = np.float32(earliest(table, usage, not_before, jnp.float32(8.0 * rng.exponential())))
            end = np.float32(start + 8.0 * rng.exponential())
            times, free, merges = reserve_in_lists(*in_time_order(table), usage, start, end, now)
            table, count = reserve(table, usage, start=start, end=end, now=now)
            assert (table.order is None) == (kind is not timeline.indexed)
            begins, shares = in_time_order(table)
            live = [k for k in range(Q) if np.isfinite(begins[k]) and not begins[k + 1] <= now]
            np.testing.assert_array_equal(begins[live], times)
            np.testing.assert_allclose(shares[:, live], free, atol=1e-6)
            assert count == merges
            assert np.all(shares[:, live[-1]] == 1.0), "past the last breakpoint everything is free"
            merged += merges
    assert merged > 0


@pytest.mark.parametrize("size", [20, Q + 3])
@pytest.mark.parametrize("kind", [lambda table: table, timeline.indexed], ids=["in time order", "indexed"])
def test_compacted_merges_like_the_list_implementation(kind, size):
    rng = np.random.default_rng(0)
    reserve, merged = jax.jit(timeline.reserve), 0
    for episode in range(6):
        table = kind(timeline.empty(R, size))
        for now in np.arange(3 * episode, dtype=np.float32):
            start = now + np.float32(8.0 * rng.random())
            usage = rng.uniform(0.0, 0.05, R).astype(np.float32)
            lasts = np.float32(rng.random() * (rng.random() < 0.7))  # a duration of 0 only drops the past
            table, _ = reserve(table, usage, start=start, end=start + lasts, now=now)
        times, free = in_time_order(table)
        times, free = list(times[np.isfinite(times)]), list(free[:, np.isfinite(times)].T)
        while len(times) > Q:
            free[-3] = np.minimum(free[-3], free[-2])
            del times[-2], free[-2]
            merged += 1
        few = jax.jit(timeline.compacted, static_argnums=1)(table, Q)
        assert (few.order is None) == (table.order is None)
        assert few.times.size == Q + 2
        few_times, few_free = in_time_order(few)
        np.testing.assert_array_equal(few_times[np.isfinite(few_times)], times)
        np.testing.assert_array_equal(few_free[:, : len(times)], np.stack(free, axis=-1))
    assert merged > 3


def test_shares_that_sum_to_one_fit_together():
    table = timeline.empty(1, 8)
    for _ in range(10):
        start = earliest(table, jnp.full(1, 0.1), jnp.float32(0.0), jnp.float32(1.0))
        assert start == 0.0
        table, _ = timeline.reserve(table, jnp.full(1, 0.1), start=start, end=start + 1.0, now=jnp.float32(0.0))
    later = earliest(table, jnp.full(1, 0.1), jnp.float32(0.0), jnp.float32(1.0))
    assert later == 1.0


def test_a_gap_is_used_only_if_it_is_long_enough():
    table = timeline.empty(1, 8)
    whole = jnp.ones(1)
    for start in (0.0, 3.0):
        table, _ = timeline.reserve(
            table, whole, start=jnp.float32(start), end=jnp.float32(start + 1.0), now=jnp.float32(0.0)
        )
    assert earliest(table, whole, jnp.float32(0.5), jnp.float32(2.0)) == 1.0
    assert earliest(table, whole, jnp.float32(0.5), jnp.float32(2.5)) == 4.0
    assert earliest(table, whole, jnp.float32(0.5), jnp.float32(0.0)) == 0.5


@pytest.mark.parametrize("kind", [lambda table: table, timeline.indexed], ids=["in time order", "indexed"])
def test_reserved_ahead_and_free_at(kind):
    table, zero = kind(timeline.empty(2, 8)), jnp.float32(0.0)
    for usage, start, end in (([0.5, 0.25], 2.0, 6.0), ([0.25, 0.0], 4.0, 8.0), ([1.0, 0.5], 10.0, 11.0)):
        table, _ = timeline.reserve(table, jnp.array(usage), start=jnp.float32(start), end=jnp.float32(end), now=zero)
    # Of the first resource half for 4 s, a quarter for 4 s and all for 1 s; of the second a quarter, nothing and half.
    for now, ahead, free in (
        (0.0, [4.0, 1.5], [1.0, 1.0]),
        (5.0, [0.5 + 0.75 + 1.0, 0.25 + 0.5], [0.25, 0.75]),
        (8.0, [1.0, 0.5], [1.0, 1.0]),
        (10.5, [0.5, 0.25], [0.0, 0.5]),
        (20.0, [0.0, 0.0], [1.0, 1.0]),
    ):
        np.testing.assert_allclose(timeline.reserved_ahead(table, jnp.float32(now)), ahead, atol=1e-6)
        np.testing.assert_allclose(timeline.free_at(table, jnp.float32(now)), free, atol=1e-6)
    later = jnp.float32(8.0)
    table, _ = timeline.reserve(table, jnp.ones(2), start=later, end=later, now=later)  # only drops the past
    np.testing.assert_allclose(timeline.reserved_ahead(table, later), [1.0, 0.5], atol=1e-6)


@pytest.mark.parametrize("requests", [1, 3, 40])
def test_requests_are_answered_independently(requests):
    """For any number of requests, and in both representations."""
    rng = np.random.default_rng(requests)
    tables = [timeline.empty(R, 20), timeline.indexed(timeline.empty(R, 20))]
    for _ in range(8):
        usage = rng.uniform(0.1, 0.5, R).astype(np.float32)
        start = np.float32(earliest(tables[0], usage, np.float32(20.0 * rng.random()), np.float32(3.0)))
        tables = [
            timeline.reserve(table, usage, start=start, end=start + np.float32(3.0), now=np.float32(0.0))[0]
            for table in tables
        ]
    usage = rng.uniform(0.1, 1.0, (requests, R)).astype(np.float32)
    not_before, duration = (20.0 * rng.random((2, requests))).astype(np.float32)
    answers = [
        jax.jit(timeline.earliest_start)(table, usage, not_before=not_before, duration=duration) for table in tables
    ]
    one_by_one = [earliest(tables[0], *request) for request in zip(usage, not_before, duration, strict=True)]
    np.testing.assert_array_equal(answers[0], one_by_one)
    np.testing.assert_array_equal(answers[1], one_by_one)
    assert requests < 40 or 0 < np.sum(np.asarray(one_by_one) > not_before) < 40, "some requests wait, some do not"


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(("size", "most"), [(1, 1), (2, 2), (7, 7), (24, 24), (24, 10), (24, 12), (24, 1)])
def test_both_searches_find_the_same_start(monkeypatch, size, most, devices):
    """For any number of segments, at most so many used, some of length 0, and times that coincide.

    On one device, the search in turn ends with the last segment that is used in the batch.
    """
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    rng, requests, forms = np.random.default_rng(size), 50, (timeline.first_fit_at_once, timeline.first_fit_in_turn)
    at_once, in_turn = (jax.jit(jax.vmap(form)) for form in forms)
    begins = np.sort(rng.integers(0, size, (200, size)), axis=1).astype(np.float32)
    begins[:, 0] = 0.0
    used = rng.integers(1, most + 1, (200, 1))
    begins = np.where(np.arange(size) < used, begins, np.inf)
    conflict = rng.random((200, requests, size)) < rng.random((200, 1, 1))
    conflict &= np.arange(size) < used[..., None] - 1  # everything is free past the last breakpoint
    not_before, duration = rng.integers(0, 2 * size, (2, 200, requests)).astype(np.float32) / 2.0
    found = at_once(conflict, begins, not_before, duration + 0.5)
    np.testing.assert_array_equal(found, in_turn(conflict, begins, not_before, duration + 0.5))
    assert np.all(np.isfinite(found))
    assert most < 3 or np.any(found > not_before), "some requests wait"
    loops = str(jax.make_jaxpr(jax.vmap(timeline.first_fit_in_turn))(conflict, begins, not_before, duration))
    assert ("while" in loops) == (devices == 1)
