"""The one mechanism of Eq. 8 and 9: cumulative resources reserved over time.

A `Timeline` is a step function of what R resources still have, as shares of their capacity. Both operations are
linear in the number of breakpoints Q.

Tolerance: a usage fits if it exceeds what is free by at most `TOLERANCE` of the capacity, so that shares which add up
to a whole in exact arithmetic also do so in float32.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxcec.env.types import Timeline

TOLERANCE = 1e-5


def empty(num_resources: int, num_breakpoints: int) -> Timeline:
    """Timeline on which everything is free from time 0 on.

    Args:
        num_resources: R.
        num_breakpoints: Q, at least 3.
    """
    times = jnp.where(jnp.arange(num_breakpoints) == 0, 0.0, jnp.inf).astype(jnp.float32)
    return Timeline(times=times, free=jnp.ones((num_resources, num_breakpoints), jnp.float32))


def earliest_start(timeline: Timeline, usage: chex.Array, not_before: chex.Array, duration: chex.Array) -> chex.Array:
    """Earliest start from which `usage` fits for the whole of `duration`; gaps are filled.

    Args:
        timeline: (Q,), (R, Q).
        usage: (R,) share of each resource, at most 1.
        not_before: () s.
        duration: () s. Nothing is asked for no time: then the answer is `not_before`.

    Returns:
        () s, finite: past the last breakpoint everything is free.
    """
    times, ends = timeline.times, _ends(timeline.times)
    conflict = jnp.any(usage[:, None] > timeline.free + TOLERANCE, axis=0)
    # When the first conflict at or after each segment begins: a start is good if it is over by then.
    next_conflict = jax.lax.cummin(jnp.where(conflict, times, jnp.inf), reverse=True)
    start = jnp.maximum(times, not_before)
    fits = (ends > not_before) & (start + duration <= next_conflict)
    return jnp.where(duration > 0.0, jnp.min(jnp.where(fits, start, jnp.inf)), not_before)


def reserve(
    timeline: Timeline, usage: chex.Array, start: chex.Array, end: chex.Array, now: chex.Array
) -> tuple[Timeline, chex.Array]:
    """Take `usage` off what is free in [start, end).

    Breakpoints before `now` are dropped, at most two at a time: as many as a reservation adds, so the past never
    crowds out the future. If more than Q would be live, the segments just before the last breakpoint are merged and
    keep the least free share: later than necessary, never over capacity, nothing lost.

    Args:
        timeline: (Q,), (R, Q).
        usage: (R,) share of each resource.
        start: () s, at least `now`.
        end: () s; if not after `start`, nothing is reserved.
        now: () s, never less than in an earlier call.

    Returns:
        The new timeline and the () int32 number of merges.
    """
    num_breakpoints = timeline.times.shape[0]
    # A segment that began before `now` begins at `now`; those which are over have no length left.
    times = jnp.maximum(timeline.times, now)
    dropped = jnp.minimum(jnp.sum(_ends(times) <= now, dtype=jnp.int32), 2)
    some = end > start
    add_start = some & ~jnp.any(times == start)
    add_end = some & ~jnp.any(times == end)
    at_start = jnp.sum(times <= start, dtype=jnp.int32)
    at_end = jnp.sum(times <= end, dtype=jnp.int32) + add_start.astype(jnp.int32)

    # Index of each entry in the array with the new breakpoints and with the dropped ones still there.
    index = jnp.arange(num_breakpoints + 2, dtype=jnp.int32) + dropped
    source_offset = dropped - jnp.where(add_start & (index >= at_start), 1, 0)
    source_offset = source_offset - jnp.where(add_end & (index >= at_end), 1, 0)
    new_times = _shift(times, source_offset, jnp.inf)
    new_times = jnp.where(add_start & (index == at_start), start, new_times)
    new_times = jnp.where(add_end & (index == at_end), end, new_times)
    inside = some & (new_times >= start) & (new_times < end)
    # A new breakpoint splits a segment: its free share comes from the one before.
    new_free = _shift(timeline.free, source_offset, 1.0) - jnp.where(inside[None, :], usage[:, None], 0.0)
    return _merge_tail(new_times, new_free)


def _ends(times: chex.Array) -> chex.Array:
    return jnp.concatenate([times[1:], jnp.full((1,), jnp.inf, times.dtype)])


def _shift(values: chex.Array, offset: chex.Array, fill: float) -> chex.Array:
    """`values[..., i + offset[i]]` for i in 0..Q+1 and offsets from -2 to 2, by selection: a gather would be slow."""
    size = values.shape[-1] + 2
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(2, 4)], constant_values=fill)
    offset = offset.reshape((1,) * (values.ndim - 1) + offset.shape)
    shifted = padded[..., :size]
    for o in (-1, 0, 1, 2):
        shifted = jnp.where(offset == o, padded[..., o + 2 : o + 2 + size], shifted)
    return shifted


def _merge_tail(times: chex.Array, free: chex.Array) -> tuple[Timeline, chex.Array]:
    """Bring Q + 2 breakpoints back to Q; returns the timeline and how many had to go."""
    size = times.shape[0] - 2
    merges = jnp.maximum(jnp.sum(jnp.isfinite(times), dtype=jnp.int32) - size, 0)

    def of_last(x: chex.Array) -> chex.Array:
        return jnp.where(merges == 0, x[..., size - 1], jnp.where(merges == 1, x[..., size], x[..., size + 1]))

    least = jnp.minimum(free[:, size - 2], jnp.where(merges >= 1, free[:, size - 1], jnp.inf))
    least = jnp.minimum(least, jnp.where(merges >= 2, free[:, size], jnp.inf))
    index = jnp.arange(size)
    kept_times = jnp.where(index == size - 1, of_last(times), times[:size])
    kept_free = jnp.where((index == size - 2)[None, :], least[:, None], free[:, :size])
    kept_free = jnp.where((index == size - 1)[None, :], of_last(free)[:, None], kept_free)
    return Timeline(times=kept_times, free=kept_free), merges
