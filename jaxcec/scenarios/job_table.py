"""Jobs of a cluster trace as flat arrays, and their conversion to services."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from jaxcec.env.banks import Dag
from jaxcec.scenarios.sampling import truncated_normal
from jaxcec.scenarios.seeds import SPLITS, check_choice, hash_split
from jaxcec.scenarios.synthetic_dags import check_demand

Runtime = Literal["registered", "corrected"]
_HOUR = Path(__file__).parent / "data" / "alibaba_hour.npz"


@dataclasses.dataclass(frozen=True)
class JobTable:
    """J jobs with T tasks and P dependencies in total.

    The tasks of job i are rows `tasks[i]:tasks[i + 1]`. Task t depends on the tasks `pred[preds[t]:preds[t + 1]]`,
    given as positions inside its job.
    """

    tasks: np.ndarray  # (J + 1,) i32
    arrival: np.ndarray  # (J,) f32, s: first start of a task, since the beginning of the trace or of the extract
    preds: np.ndarray  # (T + 1,) i32
    pred: np.ndarray  # (P,) i32
    duration: np.ndarray  # (T,) f32, s: end - start, including the wait for predecessors
    run_time: np.ndarray | None  # (T,) f32, s: end - max(start, latest end of a predecessor); None without start times
    plan_cpu: np.ndarray  # (T,) f32, planned cpu of an instance; 100 is one core
    plan_mem: np.ndarray  # (T,) f32, planned memory of an instance; 100 is a whole machine

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def sizes(self) -> np.ndarray:
        """Number of tasks of each job, (J,)."""
        return np.diff(self.tasks)

    def job_preds(self, job: int) -> list[list[int]]:
        """Return the predecessors of each task of a job, as positions inside the job."""
        rows = range(self.tasks[job], self.tasks[job + 1])
        return [self.pred[self.preds[row] : self.preds[row + 1]].tolist() for row in rows]

    def split(self, split: str) -> np.ndarray:
        """Return the indices of the jobs of a split, (J',); `train` has four fifths of all jobs.

        The split of a job is a hash of its dependencies, durations and plans, so equal jobs share a split, and the
        other jobs of the table do not matter. Recurring jobs with equal dependencies but other durations may be in
        both splits: half of all jobs are short chains, and no split can separate those.

        Raises:
            ValueError: an unknown split.
        """
        check_choice("split", split, SPLITS)
        return np.flatnonzero([hash_split(self._content(job)) == split for job in range(len(self))])

    def _content(self, job: int) -> bytes:
        """Return what the split of a job depends on."""
        rows = slice(self.tasks[job], self.tasks[job + 1])
        numbers = np.concatenate([self.duration[rows], self.plan_cpu[rows], self.plan_mem[rows]]).astype("<f4")
        return repr(self.job_preds(job)).encode() + numbers.tobytes()

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz file; equal tables give equal bytes."""
        arrays = {name: array for name, array in vars(self).items() if array is not None}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> JobTable:
        """Read a file that `save` wrote.

        Raises:
            ValueError: the file is missing or is not a job table.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(**{"run_time": None, **arrays})
        except (OSError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a job table; expected a file written by JobTable.save") from error


def alibaba_hour() -> JobTable:
    """Return the table that ships with the package, one hour of arrivals; see `data/README.md`."""
    return JobTable.load(_HOUR)


def job_dags(
    table: JobTable,
    rng: np.random.Generator,
    split: str,
    *,
    num_dags: int,
    max_microservices: int,
    mean_load: float,
    mean_data: float,
    demand: tuple[float, float],
    runtime: Runtime,
) -> list[Dag]:
    """Draw jobs of a split without repetition and convert them to services, as in section V.A.

    The load of a task is its run time times plan_cpu. The largest hundredth of all tasks is clipped, because the tail
    reaches 60 times the 99th percentile and would dominate the mean; then loads are scaled to the mean `mean_load`.
    The trace has no data sizes, so these are truncated normal with a standard deviation of 80 % of the mean. Demands
    are plan_cpu and plan_mem, each scaled so that its mean is the middle of the range, then clipped to the range. All
    scales are those of the whole table, so both splits and every `max_microservices` use the same units.

    Args:
        table: the jobs.
        rng: source of randomness, which draws the jobs and the data.
        split: one of `SPLITS`.
        num_dags: S, number of jobs drawn.
        max_microservices: N, size of the largest job drawn.
        mean_load: Mcycles.
        mean_data: Mbit.
        demand: range of the share of each resource (cpu, memory).
        runtime: definition of the run time: `registered`, end - start as in the paper, or `corrected`, which leaves out
            the wait for predecessors.

    Raises:
        ValueError: an unknown split or `runtime`; no job of the split fits, or `num_dags` is not between 1 and the jobs
            that do; the table has no corrected run times; or see `check_demand`.
    """
    fitting = table.split(split)
    fitting = fitting[table.sizes[fitting] <= max_microservices]
    if not len(fitting):
        raise ValueError(
            f"max_microservices: got {max_microservices}; none of the {len(table)} jobs of the table is in the split "
            f"{split} and has at most so many microservices"
        )
    if not 1 <= num_dags <= len(fitting):
        raise ValueError(
            f"num_dags: got {num_dags}; must be 1..{len(fitting)}, "
            f"the {split} jobs of at most {max_microservices} microservices"
        )
    load, share = _scaled_loads(table, runtime, mean_load), _scaled_demands(table, demand)
    dags = []
    for job in rng.choice(fitting, num_dags, replace=False):
        rows = slice(table.tasks[job], table.tasks[job + 1])
        data = truncated_normal(rng, mean_data, relative_sd=0.8, size=len(load[rows]))
        dags.append(Dag(preds=table.job_preds(job), load=load[rows], data=data, demand=share[rows]))
    return dags


def _scaled_loads(table: JobTable, runtime: Runtime, mean_load: float) -> np.ndarray:
    """Return the load of each task of the table, (T,) Mcycles."""
    check_choice("runtime", runtime, get_args(Runtime))
    run_time = table.duration if runtime == "registered" else table.run_time
    if run_time is None:
        raise ValueError("runtime: got 'corrected'; must be 'registered', because this table has no start times")
    work = run_time * table.plan_cpu
    work = np.minimum(work, np.percentile(work, 99))
    return work * (mean_load / work.mean())


def _scaled_demands(table: JobTable, demand: tuple[float, float]) -> np.ndarray:
    """Return the share of a host's cpu and memory that each task of the table holds, (T, 2)."""
    check_demand("demand", demand)
    plan = np.stack([table.plan_cpu, table.plan_mem], axis=1)
    return np.clip(plan * (sum(demand) / 2 / plan.mean(axis=0)), *demand)
