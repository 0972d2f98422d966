"""Reads the instants at which services arrive from a CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxcec.readers.trace_csv import read_rows

LAYOUTS = {"instants": ("time",)}


def read_instants(path: str | Path) -> np.ndarray:
    """Return the instants of a CSV file with the column `time` in s, of which it may be the only one, ascending.

    Raises:
        ImportError: polars is not installed.
        ValueError: see `read_blocks`; a time is missing or negative, or there are fewer than two.
    """
    _, rows = read_rows(path, LAYOUTS, ())
    times = rows["time"].to_numpy()
    if len(times) < 2:
        raise ValueError(f"{path}: got {len(times)} instant; must be at least 2")
    if not (times >= 0.0).all():  # a field that is missing is NaN
        raise ValueError(
            f"{path}, time: got {times[~(times >= 0.0)][0]}; must be a number of at least 0 s in every row"
        )
    return np.sort(times)
