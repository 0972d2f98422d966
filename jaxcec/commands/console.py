"""Output that the commands share: the console, progress bars, numbers, and the command line to repeat."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from jaxcec.evaluation import Interval

console = Console()


def progress_bar() -> Progress:
    """A progress bar with elapsed time, remaining time and a status field."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=10, table_column=Column(min_width=10)),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        TextColumn("{task.fields[status]}", table_column=Column()),  # only this column wraps on a narrow terminal
        console=console,
    )


def command_line(command: str, *arguments: str) -> str:
    """The line that runs `train` or `eval` with these arguments as this process was started: by script or module."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if Path(sys.argv[0]).name.startswith("jaxcec-"):
        words = [f"jaxcec-{command}"]
    elif module is not None and module.name.startswith("jaxcec."):
        words = ["python", "-m", f"jaxcec.{command}"]
    else:
        words = ["python", f"{command}.py"]
    return shlex.join([*words, *arguments])


def format_seconds(value: float) -> str:
    """A time in s with about four significant digits."""
    return f"{value:.1f}" if value >= 10.0 else f"{value:.3f}"


def format_percent(share: Interval) -> str:
    """A signed share with its interval, in percent."""
    mean, low, high = (100.0 * x for x in share)
    return f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}]"


def format_interval(interval: Interval) -> str:
    """A number of any size with its interval, about four significant digits each."""
    mean, low, high = (f"{x:,.0f}" if abs(x) >= 1000.0 else f"{x:.4g}" for x in interval)
    return f"{mean} [{low}, {high}]"
