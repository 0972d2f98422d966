"""Background load: random processes of the load that other tenants put on hosts and links."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcec.env.types import MOST_LOAD, Background
from jaxcec.scenarios.seeds import check_choice


@dataclasses.dataclass(frozen=True)
class LoadProcess:
    """A stationary load: its mean plus independent AR(1) components, clipped to [0, 0.9].

    The autocorrelation of a component at lag t is exp(-t / time). A component with an infinite correlation time is a
    constant difference between traces.
    """

    mean: float  # share of the capacity
    components: tuple[tuple[float, float], ...]  # (standard deviation, correlation time in s) each


PROCESSES = {
    "ar1": LoadProcess(mean=0.3, components=((0.15, 120.0),)),
    # `machine_usage.fit_usage` of the first 100,002 rows of machine_usage.csv, Alibaba cluster trace v2018: 16
    # machines, two of them nearly idle, over 8 days. The components: spread between machines, slow and fast variation.
    "alibaba": LoadProcess(mean=0.353, components=((0.120, np.inf), (0.099, 12_300.0), (0.064, 135.0))),
}
BACKGROUNDS = ("none", *PROCESSES)


def draw_background(
    kind: str, rng: np.random.Generator, *, num_traces: int, num_frames: int, frame: float
) -> Background:
    """Draw a bank of background traces, loads of shape (B, F).

    Args:
        kind: `none` (a single trace of one frame without load), or a process of `PROCESSES`: `ar1` or `alibaba`.
        rng: source of randomness.
        num_traces: B.
        num_frames: F. A trace is read cyclically, and jumps from its last frame to its first.
        frame: T, duration of a frame, s.

    Raises:
        ValueError: an unknown kind, a count below 1 or a frame that is not positive.
    """
    check_choice("background", kind, BACKGROUNDS)
    if num_traces < 1 or num_frames < 1:
        raise ValueError(f"num_traces, num_frames: got {num_traces}, {num_frames}; must be at least 1")
    if not frame > 0:
        raise ValueError(f"frame: got {frame}; must be positive (s)")
    if kind == "none":
        return pack_background(np.zeros((1, 1)), frame)
    loads = np.full((num_traces, num_frames), PROCESSES[kind].mean)
    for sd, time in PROCESSES[kind].components:
        loads += sd * _ar1(rng, np.exp(-frame / time), loads.shape)
    return pack_background(loads, frame)


def pack_background(loads: np.ndarray, frame: float) -> Background:
    """Clip loads of shape (B, F) to [0, 0.9], and store them in float32 with the duration of a frame in s."""
    return Background(load=np.clip(loads, 0.0, MOST_LOAD).astype(np.float32), frame=np.float32(frame))


def _ar1(rng: np.random.Generator, correlation: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draw stationary AR(1) sequences of unit variance, (B, F); `correlation` is that of two adjacent frames."""
    values = rng.standard_normal(shape[::-1])
    values[1:] *= np.sqrt(1 - correlation**2)
    for k in range(1, len(values)):
        values[k] += correlation * values[k - 1]
    return values.T
