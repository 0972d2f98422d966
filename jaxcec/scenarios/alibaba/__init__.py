"""Loads the batch jobs of the Alibaba cluster trace v2018.

Schema and terms: https://github.com/alibaba/clusterdata, cluster-trace-v2018. Two layouts are read, with or without a
header: the official `batch_task.csv`, which `python -m jaxcec.scenarios.alibaba download` fetches, and the one-hour
extract of the PyPI package `spar`.
"""

from __future__ import annotations

import dataclasses
import graphlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxcec.scenarios.job_table import JobTable
from jaxcec.scenarios.task_names import FAULTS, TaskNames
from jaxcec.scenarios.trace_csv import import_polars, read_blocks

if TYPE_CHECKING:
    import polars as pl

LAYOUTS = {
    "batch_task": (
        "task_name",
        "instance_num",
        "job_name",
        "task_type",
        "status",
        "start_time",
        "end_time",
        "plan_cpu",
        "plan_mem",
    ),
    "one hour": ("arrival", "job_name", "task_name", "duration", "plan_cpu", "plan_mem", "instance_num"),
}
_TEXT = ("task_name", "job_name", "task_type", "status")
Tasks = dict[str, np.ndarray]  # columns by name, one entry for each row of the file
_DEEPEST = 32  # levels of tasks, one after the other; the shipped hour has 20
_SHORTEST = 0.5  # s: times are whole seconds, so a duration of 0 is anything below one second


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a trace held and what was kept. A job is dropped whole, and counted under the first reason that applies."""

    path: str
    layout: str
    rows: int
    jobs: int
    kept_jobs: int
    kept_tasks: int
    raised: int  # kept tasks shorter than half a second, such as those of 0 s, which were raised to it
    dropped: dict[str, int]  # jobs by reason
    dropped_rows: dict[str, int]  # rows of those jobs, likewise: with the kept tasks they are all rows

    def __str__(self) -> str:
        counts = {
            "rows": self.rows,
            "jobs": self.jobs,
            **{f"  dropped, {reason}": count for reason, count in self.dropped.items()},
            "jobs kept": self.kept_jobs,
            "tasks kept": self.kept_tasks,
            "  shorter than 0.5 s, raised to it": self.raised,
            "rows of the jobs dropped": sum(self.dropped_rows.values()),
        }
        lines = [f"{name:<44}{count:>12,}" for name, count in counts.items()]
        return "\n".join([f"{self.path} ({self.layout} layout)", *lines])


def load_batch_tasks(path: str | Path, max_microservices: int | None = None) -> tuple[JobTable, LoadReport]:
    """Load the complete DAG jobs of a trace.

    A job is dropped whole, never in part, if any of its rows is an independent task or a MergeTask, has a name that was
    cut or is unknown, repeats a task number, depends on a task that is not there, did not terminate, has an end or
    start of 0 (outside the trace) or an end before its start, or no cpu or memory plan; and if the job has no name, is
    cyclic, is a single task or has more than `max_microservices`.

    Args:
        path: csv file in one of `LAYOUTS`. What the whole trace takes stands in docs/reliability.md.
        max_microservices: tasks of the largest job kept; None keeps all.

    Returns:
        The table, its jobs ordered by arrival and name and their tasks by number, and the report.

    Raises:
        ImportError: without polars.
        ValueError: with path and line, for a damaged file; or if no job is left.
    """
    layout, tasks, names = _read(path)
    job = tasks["job"]
    num_jobs = int(job[-1]) + 1
    child, parent, missing = _edges(tasks, names)
    reasons = {reason: _mask(num_jobs, job[rows]) for reason, rows in _task_faults(tasks, names, layout).items()}
    reasons["dependency missing"] = _mask(num_jobs, job[missing])
    reasons["cyclic"] = _mask(num_jobs, _cyclic_jobs(job, child, parent))
    sizes = np.bincount(job, minlength=num_jobs)
    reasons["single task"] = sizes == 1
    if max_microservices is not None:
        reasons[f"more than {max_microservices} tasks"] = sizes > max_microservices

    keep, dropped, dropped_rows = np.ones(num_jobs, bool), {}, {}
    for reason, jobs in reasons.items():
        dropped[reason] = int((keep & jobs).sum())
        dropped_rows[reason] = int(sizes[keep & jobs].sum())
        keep &= ~jobs
    if not keep.any():
        raise ValueError(f"{path}: no complete DAG job among {num_jobs}: dropped {dropped}")
    table = _table(tasks, child, parent, keep, layout)
    raised = int((tasks["duration"][keep[job]] < _SHORTEST).sum())
    report = LoadReport(
        str(path), layout, len(job), num_jobs, len(table), len(table.duration), raised, dropped, dropped_rows
    )
    return table, report


def _read(path: str | Path) -> tuple[str, Tasks, TaskNames]:
    """Return the layout, the columns of all tasks, sorted by job and number, and what their names say.

    Of text only codes are kept, and job names once per block of the file: of 14 million rows they would fill memory.
    """
    layout, blocks = read_blocks(path, LAYOUTS, _TEXT)
    series, concat = import_polars().Series, import_polars().concat
    names = TaskNames()
    jobs: list[pl.Series] = []  # distinct names of each block
    parts = defaultdict(list)
    num_jobs = 0
    for block in blocks:
        distinct, name = _coded(block["task_name"])
        parts["name"].append(names.codes(distinct.to_list())[name])
        distinct, job = _coded(block["job_name"])
        parts["job"].append(job + num_jobs)
        num_jobs += len(distinct)
        jobs.append(series(distinct.to_list()))  # made anew: a slice of text keeps all text it was cut from
        for column, values in _numbers(block, layout).items():
            parts[column].append(values)
    tasks = {column: np.concatenate(parts.pop(column)) for column in list(parts)}
    distinct, job = _coded(concat(jobs))
    tasks["job"] = job[tasks["job"]]
    tasks["unnamed"] = (tasks["job"] == 0) & (distinct[0] == "")
    return layout, _sorted(tasks, names), names


def _coded(column: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Return the distinct texts of a column, sorted, and which of them each row has."""
    return column.unique().sort(), column.rank("dense").to_numpy().astype(np.int32) - 1


def _numbers(block: pl.DataFrame, layout: str) -> Tasks:
    """Return the columns of numbers that are needed, with a value that `_task_faults` finds in place of none."""
    pl = import_polars()
    plan = [pl.col(name).fill_null(0).cast(pl.Float32).alias(name) for name in ("plan_cpu", "plan_mem")]
    if layout == "batch_task":
        start, end = (pl.col(name).fill_null(0) for name in ("start_time", "end_time"))
        columns = block.select(*plan, start=start, end=end, terminated=pl.col("status") == "Terminated")
    else:
        columns = block.select(*plan, start=pl.col("arrival").fill_null(-1), duration=pl.col("duration").fill_null(-1))
    return {name: columns[name].to_numpy() for name in columns.columns}


def _sorted(tasks: Tasks, names: TaskNames) -> Tasks:
    """Number the jobs by their first start, then by name, and sort the tasks by job and by their own number."""
    arrival = np.full(tasks["job"].max() + 1, np.inf)
    np.minimum.at(arrival, tasks["job"], tasks["start"])
    position = np.empty(len(arrival), np.int32)
    position[np.argsort(arrival, kind="stable")] = np.arange(len(arrival))
    tasks["job"] = position[tasks["job"]]
    tasks["number"] = names.number[tasks["name"]]
    order = np.argsort(_key(tasks["job"], tasks["number"])).astype(np.int32)
    ordered = {column: tasks.pop(column)[order] for column in list(tasks)}
    if "end" in ordered:
        ordered["duration"] = ordered["end"] - ordered["start"]
    return ordered


def _edges(tasks: Tasks, names: TaskNames) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return child row and parent row of each dependency, and the rows that depend on a task that is not there."""
    counts = names.num_preds[tasks["name"]]
    child = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    within = np.arange(len(child), dtype=np.int32) - np.repeat(np.cumsum(counts, dtype=np.int32) - counts, counts)
    pred = names.preds[np.repeat(names.first_pred[tasks["name"]], counts) + within]
    key = _key(tasks["job"], tasks["number"])
    wanted = _key(tasks["job"][child], pred)
    parent = np.minimum(np.searchsorted(key, wanted), len(key) - 1).astype(np.int32)
    found = key[parent] == wanted
    return child[found], parent[found], child[~found]


def _key(job: np.ndarray, number: np.ndarray) -> np.ndarray:
    """One integer per (job, number), in the same order; numbers lie in [-1, 1e9)."""
    return job * np.int64(2**31) + number + 1


def _task_faults(tasks: Tasks, names: TaskNames, layout: str) -> dict[str, np.ndarray]:
    """Return, by reason, which rows make their job unusable, apart from faults of the graph."""
    fault = names.fault[tasks["name"]]
    faults = {reason: fault == code for code, reason in enumerate(FAULTS) if reason}
    faults["job without name"] = tasks["unnamed"]
    same = np.diff(_key(tasks["job"], tasks["number"]), prepend=-1) == 0
    faults["task number repeated"] = same
    if layout == "batch_task":
        faults["not terminated"] = ~tasks["terminated"]
        faults["time outside the trace"] = ~((tasks["start"] > 0) & (tasks["end"] > 0))
    else:
        faults["time outside the trace"] = tasks["start"] < 0
    faults["duration negative or missing"] = tasks["duration"] < 0
    faults["plan missing"] = ~((tasks["plan_cpu"] > 0) & (tasks["plan_mem"] > 0))
    return faults


def _cyclic_jobs(job: np.ndarray, child: np.ndarray, parent: np.ndarray) -> list[int]:
    """Return the jobs with a cycle. Where every task depends on lower numbers alone, as nearly everywhere, is none.

    In the others, dependencies on a task that depends on none are removed level by level, of all jobs at once; what is
    deeper than any job of the trace is left to a search that takes time in proportion, whatever the depth.
    """
    suspect = _mask(int(job[-1]) + 1, job[child[parent >= child]])[job[child]]
    child, parent = child[suspect], parent[suspect]
    for _ in range(_DEEPEST):
        left = _mask(len(job), child)[parent]
        child, parent = child[left], parent[left]
        if not len(child):
            break
    job_of_edge, cyclic = job[child], []
    for deep in np.unique(job_of_edge):
        edges = slice(*np.searchsorted(job_of_edge, [deep, deep + 1]))
        graph: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
        for after, before in zip(child[edges].tolist(), parent[edges].tolist(), strict=True):
            graph.add(after, before)
        try:
            graph.prepare()
        except graphlib.CycleError:
            cyclic.append(int(deep))
    return cyclic


def _mask(size: int, index: np.ndarray | list[int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[index] = True
    return mask


def _table(tasks: Tasks, child: np.ndarray, parent: np.ndarray, keep: np.ndarray, layout: str) -> JobTable:
    """Gather the kept jobs; tasks are sorted by job, edges by child."""
    job, start = tasks["job"], tasks["start"]
    kept = keep[job]
    sizes = np.bincount(job)
    first = (np.cumsum(sizes) - sizes).astype(np.int32)  # row of each job's first task
    edge = kept[child]
    run_time = None
    if layout == "batch_task":
        ready = start.copy()
        np.maximum.at(ready, child, tasks["end"][parent])
        run_time = np.maximum(tasks["end"] - ready, _SHORTEST)[kept].astype(np.float32)
    return JobTable(
        tasks=_offsets(sizes[keep]),
        arrival=np.minimum.reduceat(start, first)[keep].astype(np.float32),
        preds=_offsets(np.bincount(child[edge], minlength=len(job))[kept]),
        pred=parent[edge] - first[job[parent[edge]]],
        duration=np.maximum(tasks["duration"][kept], _SHORTEST).astype(np.float32),
        run_time=run_time,
        plan_cpu=tasks["plan_cpu"][kept],
        plan_mem=tasks["plan_mem"][kept],
    )


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
