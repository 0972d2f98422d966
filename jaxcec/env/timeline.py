"""The one mechanism of Eq. 8 and 9: reservations of cumulative resources over time.

A `Timeline` is a step function of the free shares of R resources. Both operations, `earliest_start` and `reserve`, are
linear in the number of columns Q. A timeline has one of two representations:

- without `order`, its columns are in time order, and a reservation moves them: better for small timelines;
- with `order` (see `indexed`), a column never moves. A reservation writes unused columns and shifts only `order`, so
  the table is read and written once; moving its columns would cost three times as much.

Tolerance: a usage fits if it exceeds the free share by at most `TOLERANCE` of the capacity, so that shares which sum to
1 in exact arithmetic also do so in float32.
"""

from __future__ import annotations

import math
from functools import partial, reduce
from operator import or_
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxcec.env.indexing import put, rolled, take
from jaxcec.env.reductions import largest, largest_in_batch, total
from jaxcec.env.types import Timeline

TOLERANCE = 1e-5
_SPARE = 2  # columns unused between reservations: as many as one reservation can add
_WORD = 32  # bits
_UNROLLED = 4  # most segments in one iteration of `first_fit_in_turn`
_LONGEST, _BLOCK = 32, 8  # most resources in one reduction, and the size of its parts if there are more


def empty(num_resources: int, num_breakpoints: int) -> Timeline:
    """Timeline in time order, (Q,), None, (R, Q), on which everything is free from time 0 on.

    Q is two more than the number of breakpoints, the capacity between reservations, which is at least 3.
    """
    columns = jnp.zeros(num_breakpoints + _SPARE, jnp.float32)
    return cleared(Timeline(times=columns, order=None, free=jnp.ones((num_resources, columns.size), jnp.float32)))


def indexed(timeline: Timeline) -> Timeline:
    """The timeline with an explicit `order`, so that reservations do not move its columns."""
    return timeline.replace(order=_order(timeline))


def cleared(timeline: Timeline) -> Timeline:
    """A timeline of the same size and representation on which everything is free from time 0 on."""
    first = jnp.arange(timeline.times.shape[0], dtype=jnp.int16) == _order(timeline)[0]
    zero, never = jnp.zeros_like(timeline.times), jnp.full_like(timeline.times, jnp.inf)
    return timeline.replace(times=jnp.where(first, zero, never), free=jnp.ones_like(timeline.free))


def cleared_unless(touched: chex.Array, timeline: Timeline) -> Timeline:
    """The timeline if () bool `touched`, otherwise an empty one of its size."""
    return jax.tree.map(lambda x, y: jnp.where(touched, x, y), timeline, cleared(timeline))


def earliest_start(
    timeline: Timeline, usage: chex.Array, *, not_before: chex.Array, duration: chex.Array
) -> chex.Array:
    """Earliest start from which a usage fits for the whole of a duration, in gaps between reservations if possible.

    The T requests are answered independently of each other, with (T,) s. These are finite: past the last breakpoint
    everything is free.

    Args:
        timeline: (Q,), (Q,), (R, Q).
        usage: (T, R) share of each resource, at most 1.
        not_before: (T,) s.
        duration: (T,) s. If it is 0, the answer is `not_before`.
    """
    conflict, begins = _conflict(timeline, usage), _in_time_order(timeline)
    if timeline.order is not None:
        conflict = _take_bits(conflict, timeline.order)
    find = partial(jax.lax.platform_dependent, cpu=first_fit_in_turn, default=first_fit_at_once)
    earliest = find(conflict, begins, not_before, duration)
    return jnp.where(duration > 0.0, earliest, not_before)


def first_fit_at_once(
    conflict: chex.Array, begins: chex.Array, not_before: chex.Array, duration: chex.Array
) -> chex.Array:
    """The search of `earliest_start` over all segments at once, with few operations, each of them on (T, Q) numbers.

    Args:
        conflict: (T, Q) bool, whether a segment has less free than each request uses.
        begins: (Q,) s, in time order.
        not_before: (T,) s.
        duration: (T,) s, positive.

    Returns:
        (T,) s, the earliest start of each request, in [start, start + duration) of which there is no conflict.
    """
    # When the first conflict at or after each segment begins: a request that starts in the segment must end by then.
    next_conflict = jax.lax.cummin(jnp.where(conflict, begins[None], jnp.inf), axis=1, reverse=True)
    start = jnp.maximum(begins[None], not_before[:, None])
    fits = (_ends(begins)[None] > not_before[:, None]) & (start + duration[:, None] <= next_conflict)
    return jnp.min(jnp.where(fits, start, jnp.inf), axis=1)


@jax.custom_jvp
def first_fit_in_turn(
    conflict: chex.Array, begins: chex.Array, not_before: chex.Array, duration: chex.Array
) -> chex.Array:
    """The same search, segment after segment: a start that meets a conflict moves to the end of the segment.

    These are many operations on (T,) numbers, and a CPU is faster with them than with a running minimum. Of a batch of
    timelines, only as many segments are visited as the one with the most has, but all of them if there are several
    devices, which would have to agree on the number in every search.
    """
    several = jax.device_count() > 1
    used = begins.size if several else largest_in_batch(jnp.sum(jnp.isfinite(begins), dtype=jnp.int32))
    return _past_conflicts(conflict, begins, not_before, duration, segments=used)


@first_fit_in_turn.defjvp
def _derivatives(primals: tuple[chex.Array, ...], tangents: tuple[chex.Array, ...]) -> tuple[chex.Array, chex.Array]:
    """Those of a visit to all segments: a loop whose length is not known has no reverse derivative."""
    return jax.jvp(partial(_past_conflicts, segments=primals[1].size), primals, tangents)


def _past_conflicts(
    conflict: chex.Array, begins: chex.Array, not_before: chex.Array, duration: chex.Array, *, segments: chex.Numeric
) -> chex.Array:
    """The starts after a visit to at least so many segments, the first ones."""
    block = math.gcd(begins.size, _UNROLLED)
    ends = _ends(begins)

    def past_conflicts(i: chex.Array, start: chex.Array) -> chex.Array:
        columns = (jax.lax.dynamic_slice_in_dim(x, block * i, block, axis=-1) for x in (conflict, begins, ends))
        blocked, begin, end = columns
        for at in range(block):
            meets = blocked[:, at] & (end[at] > start) & (begin[at] < start + duration)
            start = jnp.where(meets, end[at], start)
        return start

    # Without a loop, XLA would search again for every element of what is computed from the result.
    return jax.lax.fori_loop(0, -(-segments // block), past_conflicts, not_before)


def reserve(
    timeline: Timeline, usage: chex.Array, *, start: chex.Array, end: chex.Array, now: chex.Array
) -> tuple[Timeline, chex.Array]:
    """Subtract `usage` from the free shares in [start, end).

    Breakpoints before `now` are dropped, at most two at a time: as many as a reservation adds, so that the past never
    displaces the future. If more would be live than the timeline holds, the segments just before the last breakpoint
    are merged and keep the least free share: a later request may start later than necessary, but no capacity is
    exceeded and no reservation is lost.

    Args:
        timeline: (Q,), (Q,), (R, Q).
        usage: (R,) share of each resource.
        start: () s, at least `now`.
        end: () s; if it is not after `start`, nothing is reserved.
        now: () s, never less than in an earlier call.

    Returns:
        The new timeline and the () int32 number of merges.
    """
    times, order = _drop_past(timeline, now)
    timeline = timeline.replace(times=times)
    nonempty = end > start
    add_start, add_end = nonempty & ~jnp.any(times == start), nonempty & ~jnp.any(times == end)
    # Of the segments in time order, those that have begun by `start` and by `end`; the last of each is to be split.
    begun = jnp.stack([jnp.sum(times <= instant, dtype=jnp.int32) for instant in (start, end)])
    parents = order[begun - 1]
    order, start_column = _insert(order, begun[0], add_start)
    order, end_column = _insert(order, begun[1] + add_start.astype(jnp.int32), add_end)
    split = _Split(start, end, start_column, end_column, parents)
    live = jnp.sum(jnp.isfinite(times), dtype=jnp.int32) + add_start.astype(jnp.int32) + add_end.astype(jnp.int32)
    merges = jnp.maximum(live - (order.size - _SPARE), 0)

    def charge(free: chex.Array, begins: chex.Array) -> chex.Array:
        return free - jnp.where(nonempty & (begins >= start) & (begins < end), usage[:, None], 0.0)

    begins, free = _split_and_gather(timeline, split, order[-2 * _SPARE : -1])
    to_merge = jnp.arange(_SPARE + 1, dtype=jnp.int32) <= merges
    least = jnp.where(to_merge, charge(free, begins), jnp.inf).min(axis=1)
    order, into, merged = _merge_last(order, merges)
    if timeline.order is None:
        column = order
        begins, free = _split_and_gather(timeline, split, column)
    else:
        column = jnp.arange(order.size, dtype=order.dtype)
        begins, free = _split_in_place(timeline, split, column)
    return Timeline(
        times=jnp.where(jnp.any(column[:, None] == merged[None], axis=1), jnp.inf, begins),
        order=None if timeline.order is None else order,
        free=jnp.where(column == into, least[:, None], charge(free, begins)),
    ), merges


class _Split(NamedTuple):
    """The new segments of a reservation, and those that they are split off; a column is -1 if there is none."""

    start: chex.Array  # () s
    end: chex.Array  # () s
    start_column: chex.Array  # () i16, column of the new segment that begins at `start`
    end_column: chex.Array  # () i16, column of the new segment that begins at `end`
    parents: chex.Array  # (2,) i16, columns of the segments that contain `start` and `end`


def _split_and_gather(timeline: Timeline, split: _Split, column: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Begin (C,) and free share (R, C) of the segments in C columns of an order, moved into that order."""
    at_start, at_end = column == split.start_column, column == split.end_column
    begins = jnp.where(at_start, split.start, jnp.where(at_end, split.end, take(timeline.times, column)))
    origin = jnp.where(at_start, split.parents[0], jnp.where(at_end, split.parents[1], column))
    return begins, take(timeline.free, slice(None), origin)


def _split_in_place(timeline: Timeline, split: _Split, column: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Begin (Q,) and free share (R, Q) of all segments; only the two new columns change, and none moves."""
    at_start, at_end = column == split.start_column, column == split.end_column
    begins = jnp.where(at_start, split.start, jnp.where(at_end, split.end, timeline.times))
    parents = take(timeline.free, slice(None), split.parents)
    return begins, jnp.where(at_start, parents[:, :1], jnp.where(at_end, parents[:, 1:], timeline.free))


def free_at(timeline: Timeline, now: chex.Array) -> chex.Array:
    """(R,) free share in the segment that contains an instant, at least 0."""
    segment = jnp.maximum(jnp.sum(timeline.times <= now, dtype=jnp.int32) - 1, 0)
    column = segment if timeline.order is None else take(timeline.order, segment)
    return jnp.maximum(take(timeline.free, slice(None), column), 0.0)


def reserved_ahead(timeline: Timeline, now: chex.Array) -> chex.Array:
    """(R,) s, how long each resource would be busy from now on if its reservations were packed without gaps."""
    begins = jnp.maximum(_in_time_order(timeline), now)
    lasts = jnp.where(jnp.isfinite(begins[1:]), begins[1:] - begins[:-1], 0.0)  # the last segment lasts for ever
    lasts = _at_columns(timeline, lasts)
    return total((1.0 - timeline.free[:, : lasts.size]) * lasts[None])


def busy_until(timeline: Timeline) -> chex.Array:
    """(R,) s, when the last reservation of each resource ends; 0 if it has none."""
    ends = _in_time_order(timeline)[1:]
    ends = _at_columns(timeline, jnp.where(jnp.isfinite(ends), ends, 0.0))
    return largest(jnp.where(timeline.free[:, : ends.size] < 1.0 - TOLERANCE, ends[None], 0.0))


def compacted(timeline: Timeline, num_breakpoints: int) -> Timeline:
    """The timeline in fewer columns, in time order, for planning simulations that need not be exact far ahead.

    Segments that do not fit are merged as by `reserve`: those before the last breakpoint keep the least free share.
    The new timeline has an `order` if the old one had.

    Args:
        timeline: (Q,), (Q,), (R, Q).
        num_breakpoints: the new capacity, at least 3. A timeline without more columns is returned as it is.
    """
    order, size = _order(timeline), timeline.times.shape[0]
    if num_breakpoints + _SPARE >= size:
        return timeline
    live = jnp.sum(jnp.isfinite(timeline.times), dtype=jnp.int32)
    last, place = num_breakpoints - 1, jnp.arange(num_breakpoints + _SPARE, dtype=jnp.int32)
    column = order[jnp.where(place < last, place, jnp.where(place == last, jnp.maximum(live - 1, last), size - 1))]
    times = jnp.where(place <= last, timeline.times[column], jnp.inf)
    merged = (live > num_breakpoints) & (timeline.times >= times[last - 1]) & (timeline.times < times[last])
    least = jnp.min(jnp.where(merged, timeline.free, jnp.inf), axis=1)
    free = timeline.free[:, column]
    free = jnp.where(place == last - 1, jnp.minimum(free, least[:, None]), free)
    new = Timeline(times=times, order=None, free=free)
    return new if timeline.order is None else indexed(new)


def _conflict(timeline: Timeline, usage: chex.Array) -> chex.Array:
    """(T, Q) bool: some resource has less free in a segment than each of T requests uses."""

    def of_some(resources: slice) -> chex.Array:
        return jnp.any(least[:, resources, None] > timeline.free[None, resources], axis=1)

    least, resources = usage - TOLERANCE, usage.shape[1]
    # XLA's CPU compiler would write the operand of a longer reduction, here (T, R, Q), to memory.
    block = resources if resources <= _LONGEST else _BLOCK
    return reduce(or_, [of_some(slice(at, at + block)) for at in range(0, resources, block)])


def _order(timeline: Timeline) -> chex.Array:
    """(Q,) i16, the columns in time order, unused ones last."""
    return jnp.arange(timeline.times.shape[0], dtype=jnp.int16) if timeline.order is None else timeline.order


def _in_time_order(timeline: Timeline) -> chex.Array:
    """(Q,) s, when the segments begin, in time order."""
    return timeline.times if timeline.order is None else take(timeline.times, timeline.order)


def _at_columns(timeline: Timeline, of_segments: chex.Array) -> chex.Array:
    """Numbers of the segments in time order but the last, (Q - 1,), at their columns.

    The last one has 0, or is left out where it is in the last column.
    """
    if timeline.order is None:
        return of_segments
    return put(jnp.zeros_like(timeline.times), timeline.order[:-1], of_segments)


def _ends(begins: chex.Array) -> chex.Array:
    """When segments in time order end."""
    return jnp.concatenate([begins[1:], jnp.full((1,), jnp.inf, begins.dtype)])


def _take_bits(rows: chex.Array, order: chex.Array) -> chex.Array:
    """`rows[:, order]` of (T, Q) bool, gathered as words of 32 rows because a gather of each row would be slow."""
    parts = []
    for at in range(0, rows.shape[0], _WORD):
        part = rows[at : at + _WORD]
        bits = [row.astype(jnp.uint32) << i for i, row in enumerate(part)]
        if len(bits) == 1:
            # A second reader of the row at another index keeps XLA from computing the row inside the gather.
            bits.append(jnp.roll(bits[0], 1) << 1)
        words = take(reduce(or_, bits), order)
        parts.append((words[None] >> jnp.arange(part.shape[0], dtype=jnp.uint32)[:, None]) & 1 > 0)
    return jnp.concatenate(parts)


def _drop_past(timeline: Timeline, now: chex.Array) -> tuple[chex.Array, chex.Array]:
    """(Q,) times and (Q,) order without up to two segments that have ended; unused columns are last in the order.

    A segment that began before `now` begins at `now` instead; further segments that have ended get length 0.
    """
    order, begins = _order(timeline), jnp.maximum(_in_time_order(timeline), now)
    dropped = jnp.minimum(jnp.sum(_ends(begins) <= now, dtype=jnp.int32), _SPARE)
    column = jnp.arange(order.size, dtype=order.dtype)
    gone = ((dropped >= 1) & (column == order[0])) | ((dropped >= 2) & (column == order[1]))
    order = jnp.where(dropped == 0, order, jnp.where(dropped == 1, rolled(order, -1), rolled(order, -2)))
    return jnp.where(gone, jnp.inf, jnp.maximum(timeline.times, now)), order


def _insert(order: chex.Array, position: chex.Array, add: chex.Array) -> tuple[chex.Array, chex.Array]:
    """(Q,) order with its last column, an unused one, moved to a position if () bool `add`; and that column, or -1."""
    index = jnp.arange(order.size, dtype=jnp.int32)
    moved = jnp.where(index == position, order[-1], rolled(order, 1))
    return jnp.where(add & (index >= position), moved, order), jnp.where(add, order[-1], -1)


def _merge_last(order: chex.Array, merges: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Merge the `merges` (0 to 2) segments before the last breakpoint into the one before them.

    Of the last four columns, the first takes in the merged ones, the next `merges` are merged, and the one after them
    is that of the last breakpoint. The merged columns become unused and so move to the end.

    Returns:
        (Q,) order afterwards, () the column that took in others, and (2,) the columns merged; -1 for none.
    """
    into, a, b, c = (order[i] for i in range(-2 * _SPARE, 0))
    after_none, after_one, after_two = (jnp.stack(last) for last in ((a, b, c), (b, c, a), (c, a, b)))
    merged = jnp.where(jnp.arange(_SPARE, dtype=jnp.int32) < merges, after_none[:_SPARE], -1)
    last = jnp.where(merges == 0, after_none, jnp.where(merges == 1, after_one, after_two))
    return jnp.concatenate([order[: -2 * _SPARE], into[None], last]), jnp.where(merges > 0, into, -1), merged
