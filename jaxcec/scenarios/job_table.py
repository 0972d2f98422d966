"""Jobs of a cluster trace as flat arrays, and how they become services."""

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
    """J jobs of T tasks in all, with P dependencies in all.

    Tasks of job i are rows `tasks[i]:tasks[i + 1]`. Task t depends on `pred[preds[t]:preds[t + 1]]`, each a position
    inside its own job.
    """

    tasks: np.ndarray  # (J + 1,) i32
    arrival: np.ndarray  # (J,) f32, s: first start in the trace, or since the extract's beginning
    preds: np.ndarray  # (T + 1,) i32
    pred: np.ndarray  # (P,) i32
    duration: np.ndarray  # (T,) f32, s, end - start, waiting included
    run_time: (
        np.ndarray | None
    )  # (T,) f32, s, end - max(start, latest end of a predecessor); None where starts are unknown
    plan_cpu: np.ndarray  # (T,) f32, 100 is one core, per instance
    plan_mem: np.ndarray  # (T,) f32, 100 is a machine, per instance

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def sizes(self) -> np.ndarray:
        """(J,) tasks per job."""
        return np.diff(self.tasks)

    def job_preds(self, job: int) -> list[list[int]]:
        """Return the predecessors of each task of a job, as positions in the job."""
        rows = range(self.tasks[job], self.tasks[job + 1])
        return [self.pred[self.preds[row] : self.preds[row + 1]].tolist() for row in rows]

    def split(self, split: str) -> np.ndarray:
        """Return the jobs of a split, (J',), four in five of them for training.

        A job's split is a hash of its dependencies and numbers, so two jobs equal in all of them share a split, and a
        job keeps its split whatever else the table holds. Recurring jobs with the same dependencies but other run
        times may fall on both sides: half of all jobs are short chains, and no split can keep those apart.

        Raises:
            ValueError: for an unknown split.
        """
        check_choice("split", split, SPLITS)
        return np.flatnonzero([hash_split(self._content(job)) == split for job in range(len(self))])

    def _content(self, job: int) -> bytes:
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
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is missing or is no job table.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(**{"run_time": None, **arrays})
        except (OSError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a job table; expected a file written by JobTable.save") from error


def alibaba_hour() -> JobTable:
    """Return the table that ships with the package: one hour of arrivals, see `data/README.md`."""
    return JobTable.load(_HOUR)


def job_dags(
    table: JobTable,
    rng: np.random.Generator,
    num_dags: int,
    split: str,
    max_microservices: int,
    mean_load: float = 500.0,
    mean_data: float = 500.0,
    demand: tuple[float, float] = (0.25, 0.75),
    runtime: str = "registered",
) -> list[Dag]:
    """Draw jobs without repeats and turn them into services, as section V.A does.

    Load is duration x plan_cpu: the largest hundredth of the table's tasks is clipped (the tail reaches 60 times the
    99th percentile and would set the mean alone), then the mean of the whole table is scaled to `mean_load`. Data are
    N(mean, 80 %), truncated, for the trace has none. Demands are plan_cpu and plan_mem, each scaled so that its mean
    is the middle of the range, then clipped to the range. Scales come from the whole table, so both splits and every
    `max_microservices` use the same units.

    Args:
        table: the jobs.
        rng: draws the jobs and the data.
        num_dags: S, jobs drawn.
        split: one of `SPLITS`.
        max_microservices: N, larger jobs are left out.
        mean_load: Mcycles.
        mean_data: Mbit.
        demand: range of the share of each resource (cpu, memory).
        runtime: `registered`, end - start as in the paper, or `corrected` for the wait for predecessors.

    Raises:
        ValueError: for an impossible argument, if the split has too few jobs that fit, or if the corrected run time is
            asked for of a table without start times.
    """
    check_choice("runtime", runtime, get_args(Runtime))
    check_demand(demand)
    fitting = table.split(split)
    fitting = fitting[table.sizes[fitting] <= max_microservices]
    if not 1 <= num_dags <= len(fitting):
        raise ValueError(
            f"num_dags: got {num_dags}; must be 1..{len(fitting)}, "
            f"the {split} jobs of at most {max_microservices} microservices"
        )
    duration = table.duration if runtime == "registered" else table.run_time
    if duration is None:
        raise ValueError("runtime: got 'corrected'; must be 'registered', for this table has no start times")
    work = duration * table.plan_cpu
    work = np.minimum(work, np.percentile(work, 99))
    load = work * (mean_load / work.mean())
    plan = np.stack([table.plan_cpu, table.plan_mem], axis=1)
    share = np.clip(plan * (sum(demand) / 2 / plan.mean(axis=0)), *demand)
    dags = []
    for job in rng.choice(fitting, num_dags, replace=False):
        rows = slice(table.tasks[job], table.tasks[job + 1])
        data = truncated_normal(rng, mean_data, 0.8, len(load[rows]))
        dags.append(Dag(preds=table.job_preds(job), load=load[rows], data=data, demand=share[rows]))
    return dags
