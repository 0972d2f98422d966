"""The one mechanism of Eq. 8 and 9: cumulative resources reserved over time.

A `Timeline` is a step function of what R resources still have, as shares of their capacity. Both operations are
linear in the number of columns Q. In a large timeline, `indexed`, no segment ever moves: `reserve` splits one by
writing an unused column, and only `order` is shifted. So the table is read and written once; shifting it costs thrice.

Tolerance: a usage fits if it exceeds what is free by at most `TOLERANCE` of the capacity, so that shares which add up
to a whole in exact arithmetic also do so in float32.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

import chex
import jax
import jax.numpy as jnp

from jaxcec.env.types import Timeline

TOLERANCE = 1e-5
_SPARE = 2  # columns unused between reservations: as many as one can add
_WORD = 32  # bits
_LONGEST, _BLOCK = 32, 8  # resources in one reduction, and in each where there are more


def empty(num_resources: int, num_breakpoints: int) -> Timeline:
    """Timeline on which everything is free from time 0 on, its columns in the order of time.

    Args:
        num_resources: R.
        num_breakpoints: how many it holds between reservations, at least 3; Q is two more.
    """
    columns = jnp.zeros(num_breakpoints + _SPARE, jnp.float32)
    return cleared(Timeline(times=columns, order=None, free=jnp.ones((num_resources, columns.size), jnp.float32)))


def indexed(timeline: Timeline) -> Timeline:
    """The same, with `order`: from here on its columns stay where they are."""
    return timeline.replace(order=_order(timeline))


def cleared(timeline: Timeline) -> Timeline:
    """The same columns with everything free from time 0 on."""
    first = jnp.arange(timeline.times.shape[0], dtype=jnp.int16) == _order(timeline)[0]
    zero, never = jnp.zeros_like(timeline.times), jnp.full_like(timeline.times, jnp.inf)
    return timeline.replace(times=jnp.where(first, zero, never), free=jnp.ones_like(timeline.free))


def cleared_unless(touched: chex.Array, timeline: Timeline) -> Timeline:
    """The timeline if () bool `touched`, else one of its size without reservations."""
    return jax.tree.map(lambda x, y: jnp.where(touched, x, y), timeline, cleared(timeline))


def earliest_start(timeline: Timeline, usage: chex.Array, not_before: chex.Array, duration: chex.Array) -> chex.Array:
    """Earliest start from which a usage fits for the whole of a duration; gaps are filled. T requests, each for itself.

    Args:
        timeline: (Q,), (Q,), (R, Q).
        usage: (T, R) share of each resource, at most 1.
        not_before: (T,) s.
        duration: (T,) s. Nothing is asked for no time: then the answer is `not_before`.

    Returns:
        (T,) s, finite: past the last breakpoint everything is free.
    """
    conflict = _conflict(timeline, usage)
    begins = timeline.times
    if timeline.order is not None:
        conflict, begins = _take_bits(conflict, timeline.order), begins[timeline.order]
    # When the first conflict at or after each segment begins: a start is good if it is over by then.
    next_conflict = jax.lax.cummin(jnp.where(conflict, begins[None], jnp.inf), axis=1, reverse=True)
    start = jnp.maximum(begins[None], not_before[:, None])
    fits = (_ends(begins)[None] > not_before[:, None]) & (start + duration[:, None] <= next_conflict)
    earliest = jnp.min(jnp.where(fits, start, jnp.inf), axis=1)
    return jnp.where(duration > 0.0, earliest, not_before)


def reserve(
    timeline: Timeline, usage: chex.Array, start: chex.Array, end: chex.Array, now: chex.Array
) -> tuple[Timeline, chex.Array]:
    """Take `usage` off what is free in [start, end).

    Breakpoints before `now` are dropped, at most two at a time: as many as a reservation adds, so the past never
    crowds out the future. If more would be live than the timeline holds, the segments just before the last breakpoint
    are merged and keep the least free share: later than necessary, never over capacity, nothing lost.

    Args:
        timeline: (Q,), (Q,), (R, Q).
        usage: (R,) share of each resource.
        start: () s, at least `now`.
        end: () s; if not after `start`, nothing is reserved.
        now: () s, never less than in an earlier call.

    Returns:
        The new timeline and the () int32 number of merges.
    """
    times, order = _drop_past(timeline.times, _order(timeline), now)
    some = end > start
    add_start, add_end = some & ~jnp.any(times == start), some & ~jnp.any(times == end)
    begun = jnp.stack([jnp.sum(times <= instant, dtype=jnp.int32) for instant in (start, end)])
    parents = order[begun - 1]  # columns of the segments that hold start and end
    order, for_start = _insert(order, begun[0], add_start)
    order, for_end = _insert(order, begun[1] + add_start.astype(jnp.int32), add_end)
    live = jnp.sum(jnp.isfinite(times), dtype=jnp.int32) + add_start.astype(jnp.int32) + add_end.astype(jnp.int32)
    merges = jnp.maximum(live - (order.size - _SPARE), 0)

    def split(column: chex.Array, begin: chex.Array) -> tuple[chex.Array, chex.Array]:
        """When segments begin now, and from which column each has its free share."""
        begin = jnp.where(column == for_start, start, jnp.where(column == for_end, end, begin))
        return begin, jnp.where(column == for_start, parents[0], jnp.where(column == for_end, parents[1], column))

    def charge(free: chex.Array, begin: chex.Array) -> chex.Array:
        return free - jnp.where(some & (begin >= start) & (begin < end), usage[:, None], 0.0)

    last = order[-2 * _SPARE : -1]
    begin, origin = split(last, times[last])
    least = jnp.where(
        jnp.arange(_SPARE + 1, dtype=jnp.int32) <= merges, charge(timeline.free[:, origin], begin), jnp.inf
    ).min(axis=1)
    order, into, gone = _merge_last(order, merges)
    if timeline.order is None:
        column = order
        begin, origin = split(column, times[column])
        free = charge(timeline.free[:, origin], begin)
    else:
        column = jnp.arange(order.size, dtype=order.dtype)
        begin, _ = split(column, times)
        halves = timeline.free[:, parents]
        free = jnp.where(column == for_start, halves[:, :1], jnp.where(column == for_end, halves[:, 1:], timeline.free))
        free = charge(free, begin)
    return Timeline(
        times=jnp.where(jnp.any(column[:, None] == gone[None], axis=1), jnp.inf, begin),
        order=None if timeline.order is None else order,
        free=jnp.where(column == into, least[:, None], free),
    ), merges


def free_at(timeline: Timeline, now: chex.Array) -> chex.Array:
    """(R,) share free in the segment that holds an instant, at least 0."""
    segment = jnp.maximum(jnp.sum(timeline.times <= now, dtype=jnp.int32) - 1, 0)
    column = segment if timeline.order is None else timeline.order[segment]
    return jnp.maximum(timeline.free[:, column], 0.0)


def reserved_ahead(timeline: Timeline, now: chex.Array) -> chex.Array:
    """(R,) s, how long each resource would be busy from now on, were what is reserved of it packed without gaps."""
    order = _order(timeline)
    begins = jnp.maximum(timeline.times[order], now)
    lasts = jnp.where(jnp.isfinite(_ends(begins)), jnp.maximum(_ends(begins) - begins, 0.0), 0.0)
    lasts = lasts if timeline.order is None else jnp.zeros_like(lasts).at[order].set(lasts)
    return jnp.sum((1.0 - timeline.free) * lasts[None], axis=1)


def compacted(timeline: Timeline, num_breakpoints: int) -> Timeline:
    """The same in fewer columns, in the order of time: for a simulation ahead that need not be exact to the end.

    What does not fit is merged as by `reserve`: the segments before the last breakpoint keep the least free share.

    Args:
        timeline: (Q,), (Q,), (R, Q).
        num_breakpoints: how many it shall hold, at least 3.
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
    """(T, Q): does some resource have less free in a segment than each of T requests uses."""

    def of_some(resources: slice) -> chex.Array:
        return jnp.any(least[:, resources, None] > timeline.free[None, resources], axis=1)

    least, resources = usage - TOLERANCE, usage.shape[1]
    # XLA's CPU compiler writes what a longer reduction reads, here (T, R, Q), to memory first.
    block = resources if resources <= _LONGEST else _BLOCK
    return reduce(or_, [of_some(slice(at, at + block)) for at in range(0, resources, block)])


def _order(timeline: Timeline) -> chex.Array:
    return jnp.arange(timeline.times.shape[0], dtype=jnp.int16) if timeline.order is None else timeline.order


def _ends(begins: chex.Array) -> chex.Array:
    """When segments in order end."""
    return jnp.concatenate([begins[1:], jnp.full((1,), jnp.inf, begins.dtype)])


def _take_bits(rows: chex.Array, order: chex.Array) -> chex.Array:
    """`rows[:, order]` of (T, Q) bool: 32 rows are gathered as one word, as gathering each would be slow."""
    parts = []
    for at in range(0, rows.shape[0], _WORD):
        part = rows[at : at + _WORD]
        bits = [row.astype(jnp.uint32) << i for i, row in enumerate(part)]
        if len(bits) == 1:
            # A second reader of the row, elsewhere, keeps XLA from computing it element by element in the gather.
            bits.append(jnp.roll(bits[0], 1) << 1)
        words = reduce(or_, bits)[order]
        parts.append((words[None] >> jnp.arange(part.shape[0], dtype=jnp.uint32)[:, None]) & 1 > 0)
    return jnp.concatenate(parts)


def _drop_past(times: chex.Array, order: chex.Array, now: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Give up to two columns of segments that are over to the unused ones, which stand last in `order`.

    A segment that began before `now` begins at `now`; those which are over have no length left.
    """
    begins = jnp.maximum(times[order], now)
    dropped = jnp.minimum(jnp.sum(_ends(begins) <= now, dtype=jnp.int32), _SPARE)
    column = jnp.arange(order.size, dtype=order.dtype)
    gone = ((dropped >= 1) & (column == order[0])) | ((dropped >= 2) & (column == order[1]))
    order = jnp.where(dropped == 0, order, jnp.where(dropped == 1, jnp.roll(order, -1), jnp.roll(order, -2)))
    return jnp.where(gone, jnp.inf, jnp.maximum(times, now)), order


def _insert(order: chex.Array, position: chex.Array, add: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Move the last column, an unused one, to a position; returns the order and that column, or -1 if not to `add`."""
    index = jnp.arange(order.size, dtype=jnp.int32)
    moved = jnp.where(index == position, order[-1], jnp.roll(order, 1))
    return jnp.where(add & (index >= position), moved, order), jnp.where(add, order[-1], -1)


def _merge_last(order: chex.Array, merges: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Take the `merges` segments before the last breakpoint into the one before them.

    Returns:
        The order without them, the column of the one that took them in, and (2,) their columns; -1 where there is none.
    """
    into, *rest = (order[i] for i in range(-2 * _SPARE, 0))
    # the last breakpoint first, then what is unused
    turns = [jnp.stack([rest[i % 3] for i in range(first, first + 3)]) for first in range(3)]
    gone = jnp.where(jnp.arange(_SPARE, dtype=jnp.int32) < merges, turns[0][:_SPARE], -1)
    last = jnp.where(merges == 0, turns[0], jnp.where(merges == 1, turns[1], turns[2]))
    return jnp.concatenate([order[: -2 * _SPARE], into[None], last]), jnp.where(merges > 0, into, -1), gone
