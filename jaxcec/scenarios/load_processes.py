"""Synthetic load of other tenants on hosts and links."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np

from jaxcec.env.types import Background
from jaxcec.scenarios.seeds import check_choice

LARGEST_LOAD = 0.9  # a host or link never disappears


@dataclasses.dataclass(frozen=True)
class LoadProcess:
    """A stationary load: its mean plus independent AR(1) components, clipped to [0, 0.9].

    A component is (standard deviation, correlation time in s); its autocorrelation at lag t is exp(-t / time). A time
    of infinity is a difference between traces that never changes.
    """

    mean: float
    components: tuple[tuple[float, float], ...]


PROCESSES = {
    "ar1": LoadProcess(mean=0.3, components=((0.15, 120.0),)),
    # `machine_usage.fit_usage` of the first 100,002 rows of machine_usage.csv, Alibaba cluster trace v2018: 16
    # machines, two of them nearly idle, over 8 days. Spread between machines, slow and fast movement in time.
    "alibaba": LoadProcess(mean=0.353, components=((0.120, np.inf), (0.099, 12_300.0), (0.064, 135.0))),
}
Kind = Literal["none", "ar1", "alibaba"]
KINDS: tuple[str, ...] = get_args(Kind)


def draw_background(
    kind: str, rng: np.random.Generator, num_traces: int, num_frames: int, frame: float = 10.0
) -> Background:
    """Draw a bank of background traces.

    Args:
        kind: `none` (one frame of zero), `ar1` or `alibaba` (see `PROCESSES`).
        rng: source of randomness.
        num_traces: B.
        num_frames: F. A trace is read cyclically, and jumps where its end meets its beginning.
        frame: T, s.

    Returns:
        Background with loads of shape (B, F).

    Raises:
        ValueError: for an unknown kind, a count below 1 or a frame that is not positive.
    """
    check_choice("background", kind, KINDS)
    if num_traces < 1 or num_frames < 1:
        raise ValueError(f"num_traces, num_frames: got {num_traces}, {num_frames}; must be at least 1")
    if not frame > 0:
        raise ValueError(f"frame: got {frame}; must be positive (s)")
    if kind == "none":
        return pack_background(np.zeros((1, 1)), frame)
    loads = np.full((num_traces, num_frames), PROCESSES[kind].mean)
    for sd, time in PROCESSES[kind].components:
        loads += sd * _ar1(rng, np.exp(-frame / time), num_traces, num_frames)
    return pack_background(loads, frame)


def pack_background(loads: np.ndarray, frame: float) -> Background:
    """Clip loads of shape (B, F) to [0, 0.9] and pack them with the frame's length in s."""
    return Background(load=np.clip(loads, 0.0, LARGEST_LOAD).astype(np.float32), frame=np.float32(frame))


def _ar1(rng: np.random.Generator, correlation: float, num_traces: int, num_frames: int) -> np.ndarray:
    """Draw stationary AR(1) sequences of unit variance, (B, F)."""
    values = rng.standard_normal((num_frames, num_traces))
    values[1:] *= np.sqrt(1 - correlation**2)
    for k in range(1, num_frames):
        values[k] += correlation * values[k - 1]
    return values.T
