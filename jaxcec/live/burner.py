"""Work that only uses the processor, in a process of its own that imports next to nothing.

Reads lines of two numbers, seconds of processor time and the cores to use, at most 1. Each is answered with a line once
so much processor time has been used, and no sooner than that many cores allow: it works and sleeps in turn, which is
exact to a millisecond, where the kernel's own bounds are coarse. What a busy machine held up is caught up.
"""

from __future__ import annotations

import sys
import time

_SLICE = 0.001  # s of work between two looks at the clock


def burn(cpu_seconds: float, cores: float) -> None:
    """Use so much processor time at this rate."""
    begin, used_before = time.monotonic(), time.process_time()
    used = 0.0
    while used < cpu_seconds:
        until = time.process_time() + min(_SLICE, cpu_seconds - used)
        while time.process_time() < until:
            pass
        used = time.process_time() - used_before
        time.sleep(max(begin + min(used, cpu_seconds) / cores - time.monotonic(), 0.0))


if __name__ == "__main__":
    for line in sys.stdin:
        burn(*map(float, line.split()))
        print("done", flush=True)
