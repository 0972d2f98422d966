"""Loads the batch jobs of the Alibaba cluster trace v2018.

Two layouts are read, with or without a header: the official `batch_task.csv`, which
`python -m jaxcec.scenarios.alibaba download` fetches, and the one-hour extract of the PyPI package `spar`. Schema and
terms: https://github.com/alibaba/clusterdata, cluster-trace-v2018.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from jaxcec.readers.task_names import FAULTS, TaskNames
from jaxcec.readers.trace_csv import import_polars, read_blocks
from jaxcec.scenarios.job_table import JobTable

if TYPE_CHECKING:
    import polars as pl

_HEADERS = {
    "batch_task": "task_name,instance_num,job_name,task_type,status,start_time,end_time,plan_cpu,plan_mem",
    "one hour": "arrival,job_name,task_name,duration,plan_cpu,plan_mem,instance_num",
}
LAYOUTS = {layout: tuple(header.split(",")) for layout, header in _HEADERS.items()}
_TEXT = ("task_name", "job_name", "task_type", "status")
Tasks = dict[str, np.ndarray]  # columns by name, with one entry for each row of the file
_DEEPEST = 32  # levels of tasks that are removed for all jobs at once; the shipped hour has 20
_SHORTEST = 0.5  # s; times are whole seconds, so a duration of 0 means less than one second


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """Counts of a trace and of its kept part. A job is dropped whole, for the first reason that applies to it."""

    path: str
    layout: str  # a key of `LAYOUTS`
    rows: int
    jobs: int
    kept_jobs: int
    kept_tasks: int
    raised: int  # kept tasks whose duration was below 0.5 s and is stored as 0.5 s
    dropped: dict[str, int]  # dropped jobs by reason
    dropped_rows: dict[str, int]  # rows of the dropped jobs by reason; with `kept_tasks` they add up to `rows`

    def __str__(self) -> str:
        counts = {
            "rows": self.rows,
            "jobs": self.jobs,
            **{f"  dropped, {reason}": count for reason, count in self.dropped.items()},
            "jobs kept": self.kept_jobs,
            "tasks kept": self.kept_tasks,
            "  shorter than 0.5 s, stored as 0.5 s": self.raised,
            "rows of dropped jobs": sum(self.dropped_rows.values()),
        }
        lines = [f"{name:<44}{count:>12,}" for name, count in counts.items()]
        return "\n".join([f"{self.path} ({self.layout} layout)", *lines])


def load_batch_tasks(path: str | Path) -> tuple[JobTable, LoadReport]:
    """Load the complete DAG jobs of a trace.

    A job is dropped whole, never in part, if any of its rows is an independent task or a MergeTask, has a name that was
    cut or is unknown, repeats a task number, depends on a task that the job does not have, did not terminate, has a
    start or an end of 0 (outside the trace), ends before its start, or lacks a cpu or memory plan. A job is also
    dropped if it has no name, is cyclic or has a single task.

    Args:
        path: csv file in one of `LAYOUTS`; for the time and memory that the whole trace takes see docs/reliability.md.

    Returns:
        The table, with jobs ordered by arrival and name and tasks by number, and the report.

    Raises:
        ImportError: polars is not installed.
        ValueError: the file is damaged (the message names path and line), or no job is left.
    """
    layout, tasks, names = _read(path)
    job = tasks["job"]
    child, parent, missing = _edges(tasks, names)
    sizes = np.bincount(job)
    reasons = {reason: _mask(len(sizes), job[rows]) for reason, rows in _task_faults(tasks, names, layout).items()}
    reasons["dependency missing"] = _mask(len(sizes), job[missing])
    reasons["cyclic"] = _mask(len(sizes), _cyclic_jobs(job, child, parent))
    reasons["single task"] = sizes == 1

    keep, dropped, dropped_rows = np.ones(len(sizes), bool), {}, {}
    for reason, jobs in reasons.items():
        dropped[reason] = int((keep & jobs).sum())
        dropped_rows[reason] = int(sizes[keep & jobs].sum())
        keep &= ~jobs
    if not keep.any():
        raise ValueError(f"{path}: no complete DAG job among {len(sizes)}: dropped {dropped}")
    table = _table(tasks, child, parent, keep=keep, layout=layout)
    return table, LoadReport(
        path=str(path),
        layout=layout,
        rows=len(job),
        jobs=len(sizes),
        kept_jobs=len(table),
        kept_tasks=len(table.duration),
        raised=int((tasks["duration"][keep[job]] < _SHORTEST).sum()),
        dropped=dropped,
        dropped_rows=dropped_rows,
    )


def _read(path: str | Path) -> tuple[str, Tasks, TaskNames]:
    """Return the layout, the columns of all tasks, sorted by job and number, and the parsed task names.

    Text is replaced by codes, and a job's name is kept once per block of the file: the text of 14 million rows would
    fill the memory.
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
        jobs.append(series(distinct.to_list()))  # copied, because a slice would keep all text of its block alive
        for column, values in _numbers(block, layout).items():
            parts[column].append(values)
    tasks = {column: np.concatenate(parts.pop(column)) for column in list(parts)}
    distinct, job = _coded(concat(jobs))
    tasks["job"] = job[tasks["job"]]
    tasks["unnamed"] = (tasks["job"] == 0) & (distinct[0] == "")
    return layout, _sorted(tasks, names), names


def _coded(column: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Return the distinct texts of a column, sorted, and the position among them of each row's text."""
    return column.unique().sort(), column.rank("dense").to_numpy().astype(np.int32) - 1


def _numbers(block: pl.DataFrame, layout: str) -> Tasks:
    """Return the numeric columns that are needed; missing values become values that `_task_faults` rejects."""
    pl = import_polars()
    plan = [pl.col(name).fill_null(0).cast(pl.Float32).alias(name) for name in ("plan_cpu", "plan_mem")]
    if layout == "batch_task":
        start, end = (pl.col(name).fill_null(0) for name in ("start_time", "end_time"))
        spellings = [status for status in block["status"].unique() if status.lower() == "terminated"]
        columns = block.select(*plan, start=start, end=end, terminated=pl.col("status").is_in(spellings))
    else:
        columns = block.select(*plan, start=pl.col("arrival").fill_null(-1), duration=pl.col("duration").fill_null(-1))
    return {name: columns[name].to_numpy() for name in columns.columns}


def _sorted(tasks: Tasks, names: TaskNames) -> Tasks:
    """Number the jobs by first start and then by name, and sort the tasks by job and task number."""
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
    """Return the child row and the parent row of each dependency, and the rows that depend on a missing task."""
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
    """Return an integer for each (job, number) that sorts like the pair; numbers are in [-1, 1e9)."""
    return job * np.int64(2**31) + number + 1


def _task_faults(tasks: Tasks, names: TaskNames, layout: str) -> dict[str, np.ndarray]:
    """Return, by reason, a mask of the rows that make their job unusable; faults of the graph are found elsewhere."""
    fault = names.fault[tasks["name"]]
    faults = {reason: fault == code for code, reason in enumerate(FAULTS) if reason}
    faults["job without name"] = tasks["unnamed"]
    faults["task number repeated"] = np.diff(_key(tasks["job"], tasks["number"]), prepend=-1) == 0
    if layout == "batch_task":
        faults["not terminated"] = ~tasks["terminated"]
        faults["time outside the trace"] = ~((tasks["start"] > 0) & (tasks["end"] > 0))
    else:
        faults["time outside the trace"] = tasks["start"] < 0
    faults["duration negative or missing"] = tasks["duration"] < 0
    faults["plan missing"] = ~((tasks["plan_cpu"] > 0) & (tasks["plan_mem"] > 0))
    return faults


def _cyclic_jobs(job: np.ndarray, child: np.ndarray, parent: np.ndarray) -> list[int]:
    """Return the jobs with a cycle.

    A job in which every task depends on lower numbers only, as in nearly all, has none. In the others, dependencies on
    tasks without dependencies are removed level by level, for all jobs at once. Jobs with more than `_DEEPEST` levels
    go to a search that takes linear time for any depth.
    """
    suspect = _mask(int(job[-1]) + 1, job[child[parent >= child]])[job[child]]
    child, parent = child[suspect], parent[suspect]
    for _ in range(_DEEPEST):
        left = _mask(len(job), child)[parent]
        child, parent = child[left], parent[left]
        if not len(child):
            break
    job_of_edge, cyclic = job[child], []
    for deep_job in np.unique(job_of_edge):
        edges = slice(*np.searchsorted(job_of_edge, [deep_job, deep_job + 1]))
        graph = nx.DiGraph(zip(parent[edges].tolist(), child[edges].tolist(), strict=True))
        if not nx.is_directed_acyclic_graph(graph):
            cyclic.append(int(deep_job))
    return cyclic


def _mask(size: int, index: np.ndarray | list[int]) -> np.ndarray:
    """Return a (size,) mask that is true at `index`."""
    mask = np.zeros(size, bool)
    mask[index] = True
    return mask


def _table(tasks: Tasks, child: np.ndarray, parent: np.ndarray, *, keep: np.ndarray, layout: str) -> JobTable:
    """Build the table of the kept jobs from tasks sorted by job and dependencies sorted by child."""
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
    """Return where each of `counts` groups begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
