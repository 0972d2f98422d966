"""Time and memory needed to load a trace of full size: 14,295,731 generated rows in a temporary folder.

    python benchmarks/full_trace.py --runs 3

The file has the format of the official `batch_task.csv`; its jobs resemble those of the hour that ships with the
package. Each run is a separate process, so that the peak memory is that of one run.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness import Row, processor, versions

from jaxcec.scenarios.alibaba import load_batch_tasks
from jaxcec.scenarios.job_table import JobTable, alibaba_hour

ROWS = 14_295_731  # in the official file
_SPAN = 691_200  # s, eight days
_SHUFFLED = 1000  # jobs whose rows are shuffled together


def write_trace(path: Path, rows: int, seed: int = 0) -> None:
    """Write a file in the format of `batch_task.csv`.

    Of every hundred jobs 59 are DAGs, which gives 3.4 rows per job as in the official file, 33 have a single task and 8
    are independent tasks, half of which share one name. One DAG in a hundred is still running, and one task in a
    hundred began before the trace.
    """
    rng = random.Random(seed)
    jobs, names = _templates(alibaba_hour()), 0
    left = rows
    with path.open("w") as file:
        while left:
            lines: list[str] = []
            for _ in range(_SHUFFLED):
                names += 1
                lines += _job(rng, f"j_{names}", jobs)
            rng.shuffle(lines)
            file.writelines(lines[:left])
            left -= min(left, len(lines))


def _templates(table: JobTable) -> list[list[tuple[str, int, str]]]:
    """Return the name, duration and planned resources of each task of each job."""
    jobs = []
    for job in range(len(table)):
        first = table.tasks[job]
        tasks = []
        for number, preds in enumerate(table.job_preds(job)):
            name = "_".join([f"{'R' if preds else 'M'}{number + 1}", *(str(pred + 1) for pred in preds)])[:50]
            row = first + number
            plan = f"{table.plan_cpu[row]:.2f},{table.plan_mem[row]:.2f}"
            tasks.append((name, int(table.duration[row]), plan))
        jobs.append(tasks)
    return jobs


def _job(rng: random.Random, name: str, jobs: list[list[tuple[str, int, str]]]) -> Iterator[str]:
    """Yield the rows of one job, drawn from the kinds that `write_trace` names."""
    kind, start = rng.random(), rng.randrange(1, _SPAN)
    if kind < 0.33:
        tasks = [("M1", rng.randrange(60), "100.00,0.30")]
    elif kind < 0.41:
        number = rng.randrange(10**18, 10**19) if kind < 0.37 else 10**18
        tasks = [(f"task_{base64.b64encode(str(number).encode()).decode()}", rng.randrange(60), "50.00,0.20")]
    else:
        tasks = jobs[int(rng.random() * len(jobs))]
    status = "Running" if 0.41 < kind < 0.416 else "Terminated"
    for task, duration, plan in tasks:
        began = 0 if rng.random() < 0.01 else start
        instances, kind_of_task = rng.randrange(1, 99), rng.randrange(1, 13)
        yield f"{task},{instances},{name},{kind_of_task},{status},{began},{start + duration},{plan}\n"


def measure(path: Path) -> Row:
    """Load a trace in a separate process and return its figures."""
    done = subprocess.run([sys.executable, __file__, "--load", str(path)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _load(path: Path) -> Row:
    """Load a trace and return the time, s, the peak memory, GB, and the size of the table."""
    start, busy = time.perf_counter(), time.process_time()
    table, report = load_batch_tasks(path)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - busy,
        "peak_gb": peak / 1e9,
        "rows": report.rows,
        "jobs": len(table),
        "tasks": report.kept_tasks,
    }


def main() -> None:
    """Write the trace, measure its loading and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--load", type=Path, help="load this file in this process and print the figures")
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(_load(arguments.load)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch_task.csv"
        write_trace(path, arguments.rows)
        runs = [measure(path) for _ in range(arguments.runs)]
        print(
            json.dumps(
                {"machine": processor(), **versions("numpy", "polars"), "bytes": path.stat().st_size, "runs": runs},
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
