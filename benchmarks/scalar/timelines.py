"""Free shares of resources over time, as sorted lists that hold the live breakpoints only."""

from __future__ import annotations

import numba

from scalar.records import ONE, TOLERANCE, ZERO, Float, Requests, Timelines

compiled = numba.njit(error_model="numpy", forceinline=True)


@compiled
def clear(timelines: Timelines) -> None:
    """Free every resource from time 0 on."""
    for row in range(timelines.count.size):
        timelines.count[row] = 1
        timelines.times[row, 0] = ZERO
        timelines.free[row, timelines.slot[row, 0]] = ONE


@compiled
def earliest_start(
    timelines: Timelines, row: int, requests: Requests, asked: int, not_before: Float, duration: Float
) -> Float:
    """Return the earliest time, s, from which request `asked` fits for the whole duration; gaps are filled."""
    if not duration > ZERO:
        return not_before
    last = timelines.count[row] - 1
    k = 0
    while k < last and timelines.times[row, k + 1] <= not_before:
        k += 1
    start = not_before
    # Past the last breakpoint everything is free.
    while k < last and timelines.times[row, k] < start + duration:
        slot = timelines.slot[row, k]
        for i in range(requests.count[asked]):
            if requests.usage[asked, i] > timelines.free[row, slot, requests.resource[asked, i]] + TOLERANCE:
                start = timelines.times[row, k + 1]
                break
        k += 1
    return start


@compiled
def reserve(
    timelines: Timelines, row: int, requests: Requests, asked: int, start: Float, end: Float, now: Float
) -> None:
    """Subtract request `asked` from the free shares in [start, end)."""
    if not end > start:
        return
    drop_past(timelines, row, now)
    first = split(timelines, row, start)
    for k in range(first, split(timelines, row, end)):
        slot = timelines.slot[row, k]
        for i in range(requests.count[asked]):
            timelines.free[row, slot, requests.resource[asked, i]] -= requests.usage[asked, i]
    merge_last(timelines, row)


@compiled
def drop_past(timelines: Timelines, row: int, now: Float) -> None:
    """Release the slots of segments that have ended; the segment that contains `now` then begins at `now`."""
    count, times, slot = timelines.count[row], timelines.times, timelines.slot
    over = 0
    while over + 1 < count and times[row, over + 1] <= now:
        over += 1
    if over > 0:
        for k in range(over, count):
            times[row, k - over] = times[row, k]
            slot[row, k - over], slot[row, k] = slot[row, k], slot[row, k - over]
        timelines.count[row] = count - over
    times[row, 0] = max(times[row, 0], now)


@compiled
def split(timelines: Timelines, row: int, instant: Float) -> int:
    """Make a segment begin at an instant, s; returns the segment's position."""
    count, times, slot = timelines.count[row], timelines.times, timelines.slot
    k = count
    while times[row, k - 1] > instant:
        k -= 1
    if times[row, k - 1] == instant:
        return k - 1
    unused = slot[row, count]
    for i in range(count, k, -1):
        times[row, i], slot[row, i] = times[row, i - 1], slot[row, i - 1]
    times[row, k], slot[row, k] = instant, unused
    for r in range(timelines.free.shape[2]):
        timelines.free[row, unused, r] = timelines.free[row, slot[row, k - 1], r]
    timelines.count[row] = count + 1
    return k


@compiled
def merge_last(timelines: Timelines, row: int) -> None:
    """Merge the segments before the last breakpoint if there are more of them than the array simulator holds."""
    count, times, slot, free = timelines.count[row], timelines.times, timelines.slot, timelines.free
    most = times.shape[1] - 2
    if count <= most:
        return
    into = most - 2
    for k in range(into + 1, count - 1):
        for r in range(free.shape[2]):
            free[row, slot[row, into], r] = min(free[row, slot[row, into], r], free[row, slot[row, k], r])
    times[row, most - 1] = times[row, count - 1]
    slot[row, most - 1], slot[row, count - 1] = slot[row, count - 1], slot[row, most - 1]
    timelines.count[row] = most
