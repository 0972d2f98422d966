"""Rows of cluster traces for tests.

Real rows are read from `../shared/alibaba`, next to the repository; tests that need them are skipped where that folder
is missing. Other tests take the same paths on rows that are written here from what ships with the package: the table of
an hour of real jobs, and the random process that was fitted to real machine usage.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from jaxcec.scenarios.job_table import alibaba_hour
from jaxcec.scenarios.load_processes import draw_background

SHARED = Path(__file__).parents[2] / ".." / "shared" / "alibaba"
HOUR = SHARED / "hour_tasks.csv"
BATCH = SHARED / "batch_task_sample.csv"
USAGE = SHARED / "machine_usage_sample.csv"
EXPORTS = SHARED.parent / "worlds" / "traces"  # small files as people export them
needs_real_rows = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/alibaba with rows of the trace is missing")

HOUR_START = 203_040  # s, trace time of the shipped hour's beginning
# By the reason for which a job is dropped: the name of its only task, and the task's status.
UNUSABLE = {
    "independent task": ("task_MTIzNDU2Nzg5MA==", "Terminated"),
    "name cut": ("R28_1_2_3_4_5_6_7_8_9_10_11_12_13_14_15_16_17_18_1", "Terminated"),
    "not terminated": ("M1", "Failed"),
    "single task": ("M1", "Terminated"),
}


def write_hour(path: Path) -> Path:
    """Write the shipped jobs, with as many unusable ones as the real extract has, in the layout `one hour`."""
    dropped = {"independent task": 1271, "name cut": 7, "single task": 3471}
    lines = [f"{arrival},{job},{task},{duration},{plan},1" for job, task, _, arrival, duration, plan in _rows(dropped)]
    return _write_shuffled(path, lines)


def write_batch(path: Path) -> Path:
    """Write the shipped jobs, with as many unusable ones as the real sample has, in the layout of `batch_task.csv`.

    The shipped table has no start times. In the trace, nearly every task starts (is registered) when its job arrives,
    and so does every task here.
    """
    lines = []
    for job, task, status, arrival, duration, plan in _rows({"name cut": 209, "not terminated": 30, "single task": 1}):
        start = HOUR_START + arrival
        lines.append(f"{task},1,{job},1,{status},{start},{start + duration},{plan}")
    return _write_shuffled(path, lines)


def _rows(dropped: Mapping[str, int]) -> Iterator[tuple[str, str, str, int, int, str]]:
    """Job, task, status, arrival and duration in whole seconds, and plans of each task."""
    table = alibaba_hour()
    durations = np.floor(table.duration).astype(int).tolist()  # the trace's 0 s are stored as 0.5 s
    plans = [f"{cpu},{memory}" for cpu, memory in zip(table.plan_cpu.tolist(), table.plan_mem.tolist(), strict=True)]
    for job, first in enumerate(table.tasks[:-1].tolist()):
        for k, preds in enumerate(table.job_preds(job)):
            task = "_".join([f"M{k + 1}", *(str(pred + 1) for pred in preds)])
            yield f"j_{job:05}", task, "Terminated", int(table.arrival[job]), durations[first + k], plans[first + k]
    for reason, count in dropped.items():
        for i in range(count):
            yield f"{reason} {i}", *UNUSABLE[reason], 0, 1, "100.0,0.5"


def _write_shuffled(path: Path, lines: list[str]) -> Path:
    """Write lines in random order, since the rows of a trace are not sorted by job."""
    order = np.random.default_rng(0).permutation(len(lines))
    path.write_text("".join(f"{lines[k]}\n" for k in order))
    return path


def write_usage(path: Path) -> Path:
    """Write `machine_usage.csv` with the fitted process's loads of 40 machines over two days, as rows of the trace.

    A machine has a row every 60 s on average, none in the trace's hole, and some invalid values.
    """
    rng = np.random.default_rng(0)
    loads = draw_background("alibaba", rng, num_traces=40, num_frames=17_280, frame=10.0).load
    values = np.where(rng.random(loads.shape) < 0.01, rng.choice([-1, 101], loads.shape), np.round(100 * loads))
    time = 10 * np.arange(loads.shape[1])
    kept = (rng.random(loads.shape) < 1 / 6) & ((time < 141_000) | (time > 160_600))
    with path.open("w") as file:
        for machine, frame in np.argwhere(kept).tolist():
            file.write(f"m_{machine},{time[frame]},{values[machine, frame]:.0f},90,,,43.0,33.1,5\n")
    return path
