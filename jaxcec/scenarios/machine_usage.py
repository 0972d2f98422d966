"""Reads the loads of machines, your own or `machine_usage.csv` of the Alibaba cluster trace v2018, and fits a process.

In the trace, successive rows of a machine are 10 s or more apart (median 60 s), there are no rows from 141,000 s to
160,600 s, and the values -1 and 101 are invalid: https://github.com/alibaba/clusterdata.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxcec.env.types import Background
from jaxcec.readers.trace_csv import import_polars, read_rows
from jaxcec.scenarios.load_processes import LoadProcess, pack_background
from jaxcec.scenarios.seeds import SPLITS, check_choice, few_split, hash_split

if TYPE_CHECKING:
    import polars as pl

_HEADER = "machine_id,time_stamp,cpu_util_percent,mem_util_percent,mem_gps,mkpi,net_in,net_out,disk_io_percent"
LAYOUTS = {
    "machine_usage": tuple(_HEADER.split(",")),
    "own, share": ("machine or machine_id", "time or time_stamp", "load"),
    "own, per cent": ("machine or machine_id", "time or time_stamp", "load_percent or cpu_util_percent"),
}
_OWN = {"own, share": 1, "own, per cent": 100}  # the load that is all of a machine; only a header tells the unit
_LONGEST_GAP = 300.0  # s between two rows over which the first one's load is held; a longer gap is a hole
_MOST_CELLS = 500_000_000  # machines x frames, 4 GB; the whole trace has 280 million in frames of 10 s
_LONGEST_LAG = 4 * 3600.0  # s, largest lag of the autocorrelation that is fitted
_FEW = 50  # machines; a fifth of fewer is exact, instead of whatever share their hashes give


def usage_grid(path: str | Path, frame: float) -> tuple[list[str], np.ndarray]:
    """Return the mean cpu load of each machine in each frame, NaN for a frame without a valid row.

    Args:
        path: `machine_usage.csv`, or part of it; or your own file, whose header names a machine, a time in s and a
            load, by the names of `LAYOUTS`. In `machine_usage.csv`, rows with an invalid value are left out; in your
            own file only those with an empty load are, and any other invalid value is refused.
        frame: T, duration of a frame, s.

    Returns:
        B machine names, sorted, and (B, F) loads in [0, 1]. The frames begin at time 0, or in your own file at the
        first row, whose time may thus count from any instant.

    Raises:
        ImportError: polars is not installed.
        ValueError: the frame is not positive; the file is damaged (see `read_blocks`) or has no valid row; a value of
            your own file is invalid; or a time is so late that the grid would not fit into memory.
    """
    if not 0 < frame < np.inf:
        raise ValueError(f"frame: got {frame}; must be positive and finite (s)")
    pl = import_polars()
    layout, rows = read_rows(path, LAYOUTS, ("machine", "machine_id"), headed=_OWN)
    machine, time, load = rows.columns[1:4]
    if layout in _OWN:
        _check_own(path, rows, _OWN[layout])
    whole = _OWN.get(layout, 100)
    valid = rows.filter(pl.col(load).is_between(0, whole) & (pl.col(time) >= 0) & (pl.col(machine) != ""))
    if valid.is_empty():
        raise ValueError(f"{path}: no {load} in 0..{whole}")
    times, machines = valid[time].to_numpy(), valid[machine].n_unique()
    start = times.min() // frame if layout in _OWN else 0
    if machines * (times.max() / frame - start + 1) > _MOST_CELLS:
        raise ValueError(
            f"{path}, {time}: got {times.max():g} s and {machines} machines; frames of {frame:g} s allow at most "
            f"{(start + _MOST_CELLS // machines) * frame:g} s"
        )
    means = valid.group_by(machine, frame=(pl.col(time) // frame - start).cast(pl.Int64)).agg(pl.col(load).mean())
    names = means[machine].unique().sort().to_list()
    frames = means["frame"].to_numpy()
    grid = np.full((len(names), frames.max() + 1), np.nan)
    grid[np.searchsorted(names, means[machine].to_list()), frames] = means[load].to_numpy() / whole
    return names, grid


def _check_own(path: str | Path, rows: pl.DataFrame, whole: int) -> None:
    """Raise ValueError for the first invalid value of each column in turn; a load may be missing."""
    pl = import_polars()
    line, machine, time, load = rows.columns
    share = "a share in 0..1; name the column load_percent if these are per cent"
    rules = (
        (machine, pl.col(machine) == "", "a name"),
        (time, pl.col(time).is_null() | (pl.col(time) < 0), "a time of at least 0 s"),
        (load, ~pl.col(load).is_between(0, whole), share if whole == 1 else "a load in 0..100, in per cent"),
    )
    for name, wrong, expected in rules:
        for number, value in rows.filter(wrong).head(1).select(line, name).iter_rows():
            got = "nothing" if value in (None, "") else f"{value:g}"
            raise ValueError(f"{path}, line {number}, {name}: got {got}; expected {expected}")


def real_usage(path: str | Path, split: str, *, num_frames: int, frame: float = 10.0) -> Background:
    """Cut the loads of a file into background traces, loads of shape (B, F).

    A load is held until the next row, for at most 300 s. The stretches between two longer gaps are cut into traces of
    `num_frames`, and what remains of a stretch is left out. If a split has no stretch of so many frames, the traces of
    both are as long as the longest stretch that each of them has: a trace is read cyclically, so a short one repeats.

    The two splits share no machine, unless there are fewer than five, all of which are then in both.

    Args:
        path: a file that `usage_grid` reads.
        split: one of `SPLITS`.
        num_frames: F, most frames per trace.
        frame: T, duration of a frame, s.

    Raises:
        ImportError: polars is not installed.
        ValueError: an unknown split, `num_frames` below 1, or see `usage_grid`.
    """
    check_choice("split", split, SPLITS)
    if num_frames < 1:
        raise ValueError(f"num_frames: got {num_frames}; must be at least 1")
    return usage_traces(*usage_grid(path, frame), split, num_frames=num_frames, frame=frame)


def usage_traces(names: list[str], grid: np.ndarray, split: str, *, num_frames: int, frame: float) -> Background:
    """Cut loads of machines into background traces: `real_usage` of what `usage_grid` returns."""
    held = _hold(grid, int(_LONGEST_GAP // frame))
    members = _machines_of_splits(names)
    length = min(num_frames, *(max(_longest_stretch(held[i]) for i in members[each]) for each in SPLITS))
    return pack_background(np.stack([trace for i in members[split] for trace in _windows(held[i], length)]), frame)


def _machines_of_splits(names: list[str]) -> dict[str, list[int]]:
    """Return the positions of the machines of each split, which is never empty."""
    splits = [hash_split(name.encode()) for name in names]
    if len(names) >= _FEW and set(splits) == set(SPLITS):
        return {split: [i for i, each in enumerate(splits) if each == split] for split in SPLITS}
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return {split: few_split(digests, split) for split in SPLITS}


def _longest_stretch(loads: np.ndarray) -> int:
    """Return the largest number of successive frames without NaN."""
    holes = np.flatnonzero(np.isnan(loads))
    return int(np.diff(holes, prepend=-1, append=len(loads)).max()) - 1


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
        path: a file that `usage_grid` reads, with at least two machines.

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
