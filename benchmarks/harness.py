"""Shared by the benchmarks: runs in separate processes, a table, a JSON file.

Repeats within one process agree to a per cent, but processes differ by a factor. A row is therefore the median and the
worst of several processes that run in turn.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

Row = dict[str, Any]


def processor() -> str:
    """Return the name of the CPU and the number of cores that this process may use."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{(names or [platform.processor() or platform.machine()])[0]}, {cores} cores"


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of installed packages."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def run_alone(script: str, case: Row) -> Row:
    """Run `script --case JSON` in a separate process; its last line of output must be a JSON object, the figures."""
    command = [sys.executable, script, "--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summarise(case: Row, runs: list[Row]) -> Row:
    """Return the case with the median of every figure and the worst speed over its runs."""
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0] if name != "device"}
    return case | medians | {"worst": min(run["decisions_per_s"] for run in runs), "processes": len(runs)}


def measured(script: str, cases: Iterable[Row], processes: int) -> Iterator[tuple[Row, Row]]:
    """Yield a row for each case, and its last run. The cases take turns, so that a slow minute affects all of them."""
    listed = list(cases)
    runs: list[list[Row]] = [[] for _ in listed]
    order = [index for _ in range(processes) for index in range(len(listed))]
    for index in track(order, "measuring", console=Console(stderr=True)):
        runs[index].append(run_alone(script, listed[index]))
    for case, done in zip(listed, runs, strict=True):
        yield summarise(case, done), done[-1]


def print_table(title: str, rows: list[Row], columns: dict[str, str]) -> None:
    """Print rows as a table; `columns` maps the key of a figure to its format."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(format(row.get(name, ""), spec if name in row else "") for name, spec in columns.items()))
    Console(width=120).print(table)


def report(setting: Row, rows: list[Row], columns: dict[str, str], file: str | None) -> None:
    """Print a table, and write the figures if a file is given.

    Args:
        setting: device and versions.
        rows: figures by name, one row of the table each.
        columns: format of each column by the name of its figure.
        file: JSON file to write the setting and all figures to.
    """
    print_table(f"{setting['device']}, {setting['versions']}", rows, columns)
    if file:
        Path(file).write_text(json.dumps(setting | {"rows": rows}, indent=1, allow_nan=False) + "\n")
