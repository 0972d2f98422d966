"""Reads `machine_usage.csv` of the Alibaba cluster trace v2018: the load of real machines, and its statistics.

Successive rows of a machine are 10 s or more apart (median 60 s), the trace has no rows from 141,000 s to 160,600 s,
and the values -1 and 101 are invalid: https://github.com/alibaba/clusterdata.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from jaxcec.env.types import Background
from jaxcec.scenarios.load_processes import LoadProcess, pack_background
from jaxcec.scenarios.seeds import SPLITS, check_choice, hash_split
from jaxcec.scenarios.trace_csv import import_polars, read_rows

_HEADER = "machine_id,time_stamp,cpu_util_percent,mem_util_percent,mem_gps,mkpi,net_in,net_out,disk_io_percent"
LAYOUTS = {"machine_usage": tuple(_HEADER.split(","))}
_LONGEST_GAP = 300.0  # s between two rows over which the first one's load is held; a longer gap is a hole
_MOST_CELLS = 500_000_000  # machines x frames, 4 GB; the whole trace has 280 million in frames of 10 s
_LONGEST_LAG = 4 * 3600.0  # s, largest lag of the autocorrelation that is fitted


def usage_grid(path: str | Path, frame: float) -> tuple[list[str], np.ndarray]:
    """Return the mean cpu load of each machine in each frame, NaN for a frame without a valid row.

    Args:
        path: `machine_usage.csv`, or part of it.
        frame: T, duration of a frame, s.

    Returns:
        B machine names, sorted, and (B, F) loads in [0, 1].

    Raises:
        ImportError: polars is not installed.
        ValueError: the frame is not positive; the file is damaged (see `read_blocks`) or has no valid row; or a time is
            so late that the grid would not fit into memory.
    """
    if not 0 < frame < np.inf:
        raise ValueError(f"frame: got {frame}; must be positive and finite (s)")
    pl = import_polars()
    _, rows = read_rows(path, LAYOUTS, ("machine_id",))
    valid = rows.filter(
        pl.col("cpu_util_percent").is_between(0, 100) & (pl.col("time_stamp") >= 0) & (pl.col("machine_id") != "")
    )
    if valid.is_empty():
        raise ValueError(f"{path}: no cpu_util_percent in 0..100")
    latest, machines = float(valid["time_stamp"].to_numpy().max()), valid["machine_id"].n_unique()
    if machines * (latest / frame + 1) > _MOST_CELLS:
        raise ValueError(
            f"{path}, time_stamp: got {latest:g} s and {machines} machines; frames of {frame:g} s allow at most "
            f"{_MOST_CELLS // machines * frame:g} s"
        )
    means = valid.group_by("machine_id", frame=(pl.col("time_stamp") // frame).cast(pl.Int64)).agg(
        pl.col("cpu_util_percent").mean()
    )
    names = means["machine_id"].unique().sort().to_list()
    frames = means["frame"].to_numpy()
    grid = np.full((len(names), frames.max() + 1), np.nan)
    grid[np.searchsorted(names, means["machine_id"].to_list()), frames] = means["cpu_util_percent"].to_numpy() / 100
    return names, grid


def real_usage(path: str | Path, split: str, *, num_frames: int, frame: float = 10.0) -> Background:
    """Cut your own copy of `machine_usage.csv` into background traces, loads of shape (B, F).

    No field of `Scenario` selects these traces: put them into the params of an environment yourself, with
    `params.replace(background=jax.tree.map(jnp.asarray, real_usage(...)))`.

    A load is held until the next row, for at most 300 s. The stretches between two longer gaps are cut into traces of
    `num_frames`, and what remains of a stretch is left out. The two splits share no machine.

    Args:
        path: `machine_usage.csv`, or part of it.
        split: one of `SPLITS`.
        num_frames: F, frames per trace.
        frame: T, duration of a frame, s.

    Raises:
        ImportError: polars is not installed.
        ValueError: an unknown split, `num_frames` below 1, no machine of the split with so many successive frames, or
            see `usage_grid`.
    """
    check_choice("split", split, SPLITS)
    if num_frames < 1:
        raise ValueError(f"num_frames: got {num_frames}; must be at least 1")
    names, grid = usage_grid(path, frame)
    held = _hold(grid, int(_LONGEST_GAP // frame))
    traces = [
        trace
        for name, loads in zip(names, held, strict=True)
        if hash_split(name.encode()) == split
        for trace in _windows(loads, num_frames)
    ]
    if not traces:
        raise ValueError(f"{path}: no {split} machine of {len(names)} has {num_frames} frames of {frame} s in a row")
    return pack_background(np.stack(traces), frame)


def _hold(grid: np.ndarray, longest: int) -> np.ndarray:
    """Replace each NaN by the last value of its row, if that is at most `longest` frames old."""
    index = np.arange(grid.shape[1])
    last = np.maximum.accumulate(np.where(np.isnan(grid), -1, index), axis=1)
    held = np.take_along_axis(grid, np.maximum(last, 0), axis=1)
    return np.where((last >= 0) & (index - last <= longest), held, np.nan)


def _windows(loads: np.ndarray, num_frames: int) -> list[np.ndarray]:
    """Cut a row into disjoint windows without NaN, from left to right."""
    stretches = [(s.start, s.stop) for s in np.ma.clump_unmasked(np.ma.masked_invalid(loads))]
    starts = [at for start, stop in stretches for at in range(start, stop - num_frames + 1, num_frames)]
    return [loads[at : at + num_frames] for at in starts]


def fit_usage(path: str | Path) -> LoadProcess:
    """Fit a random process to machine usage; `PROCESSES["alibaba"]` was obtained in this way.

    The deviations of the machines from their means are modelled as a sum of two AR(1) processes, whose autocorrelation
    is fitted to the pooled one at lags from 10 s to 4 h: the correlation times by a grid search, the shares of the
    variance by least squares. The third component is the spread of the means.

    Args:
        path: `machine_usage.csv`, or part of it, with at least two machines.

    Raises:
        ImportError: polars is not installed.
        ValueError: too few rows or machines to fit, or see `usage_grid`.
    """
    frame = 10.0
    names, grid = usage_grid(path, frame)
    means = np.nanmean(grid, axis=1)
    variance, lags, correlation = _autocorrelation(grid - means[:, None], frame)
    if not np.isfinite(correlation).all():
        raise ValueError(f"{path}: too few rows; expected pairs of rows at every lag from 10 s to 4 h")
    if len(names) < 2:
        raise ValueError(f"{path}: one machine; expected at least two, whose means differ")
    fits = []
    for fast, slow in itertools.product(np.geomspace(20, 1000, 40), np.geomspace(2000, 50_000, 40)):
        share, residual, *_ = np.linalg.lstsq(np.exp(-lags[:, None] / [fast, slow]), correlation)
        if (share >= 0).all():
            fits.append((float(residual.sum()), fast, slow, share))
    if not fits:
        raise ValueError(f"{path}: the autocorrelation is not that of two AR(1) processes; expected more rows")
    _, fast, slow, share = min(fits, key=lambda fit: fit[0])
    sd = np.sqrt(variance * share)
    components = ((means.std(), np.inf), (sd[1], slow), (sd[0], fast))
    return LoadProcess(float(means.mean()), tuple((float(s), float(t)) for s, t in components))


def _autocorrelation(deviations: np.ndarray, frame: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the pooled variance, lags in s, and the autocorrelation at each, NaN if no two rows are that far apart."""
    variance = float(np.nanmean(deviations**2))
    steps = np.unique(np.geomspace(1, _LONGEST_LAG / frame, 40).astype(int))
    products = (deviations[:, k:] * deviations[:, :-k] for k in steps)
    with np.errstate(invalid="ignore"):
        correlation = np.array([np.nansum(p) / np.isfinite(p).sum() for p in products]) / variance
    return variance, steps * frame, correlation
