"""What the command lines say to a terminal in common."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from jaxcec.evaluation.statistics import Interval
from jaxcec.scenarios import Scenario, load_jobs
from jaxcec.scenarios.job_table import JobTable

console = Console()


def announced_jobs(scenario: Scenario) -> JobTable | None:
    """The jobs of an Alibaba scenario, having said where they come from and what was dropped."""
    if scenario.dataset != "alibaba":
        return None
    jobs, report = load_jobs(scenario)
    if report is None:
        console.print(f"Alibaba cluster trace v2018, one hour of arrivals: {len(jobs):,} DAG jobs")
    else:
        console.print(str(report), markup=False, highlight=False)
    return jobs


def progress_bar() -> Progress:
    """A bar with elapsed time, time left, and a status field."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=10, table_column=Column(min_width=10)),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        TextColumn("{task.fields[status]}", table_column=Column()),  # what is too long is wrapped, the rest stays
        console=console,
    )


def call(command: str, *arguments: str) -> str:
    """What to type for `train` or `eval`: a script, a module or an entry point, as this process was started."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if Path(sys.argv[0]).name.startswith("jaxcec-"):
        words = [f"jaxcec-{command}"]
    elif module is not None and module.name.startswith("jaxcec."):
        words = ["python", "-m", f"jaxcec.{command}"]
    else:
        words = ["python", f"{command}.py"]
    return shlex.join([*words, *arguments])


def seconds(value: float) -> str:
    """A time in s, to four digits or so."""
    return f"{value:.1f}" if value >= 10.0 else f"{value:.3f}"


def percent(share: Interval) -> str:
    """A signed share with its interval."""
    mean, low, high = (100.0 * x for x in share)
    return f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}]"
