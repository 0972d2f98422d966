"""`python eval.py --schedule`: draw one episode under several policies side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from jaxcec.commands.console import console, format_seconds, progress_bar
from jaxcec.commands.contenders import PolicyChoice, contenders_for
from jaxcec.commands.worlds import Opened, open_world, title_of
from jaxcec.evaluation import (
    Contender,
    MeasureConfig,
    Schedule,
    episode_keys,
    record,
    save_page,
    save_schedule,
    schedule_figure,
)
from jaxcec.scenarios import Scenario

WRITERS: dict[str, Callable[..., None]] = {
    ".html": save_page,
    ".png": schedule_figure,
    ".csv": save_schedule,
    ".json": save_schedule,
}
COMPARED = ("eft", "dtdrlmo-plan")
SUMMARY: dict[str, Callable[[Schedule], str]] = {
    "ACT (s)": lambda s: format_seconds(s.act),
    "makespan (s)": lambda s: format_seconds(s.makespan),
    "moved from the service's node": lambda s: f"{s.moved:.0%}",
    "input sent (Mbit x links)": lambda s: f"{s.traffic:,.0f}",
    "mean wait for a node (s)": lambda s: format_seconds(float(np.mean([p.wait for p in s.placed]))),
    "mean time of a flow, hold included (s)": lambda s: format_seconds(
        float(np.mean([p.data_ready - p.decided for p in s.placed if p.links] or [0.0]))
    ),
    "edge nodes busy": lambda s: f"{s.busy:.0%}",
}


def show_schedule(
    paths: Sequence[Path],
    scenario: Scenario,
    *,
    choice: PolicyChoice,
    seed: int,
    measuring: MeasureConfig,
    world: str | None = None,
) -> None:
    """Record the first test episode of a seed under each policy, write it into each file, and print a summary.

    The policies are by default COMPARED.

    Raises:
        ValueError: a policy does not exist, or a path has another suffix or is in a folder that does not exist.
    """
    _check_paths(paths)
    opened = open_world(scenario, "test", world)
    contenders, _ = contenders_for(choice, opened.env, opened.params, by_default=COMPARED.__contains__)
    schedules = record_all(opened, contenders, seed=seed, measuring=measuring)
    print_summary(schedules)
    title = f"{title_of(scenario, world)}: the first test episode of seed {seed}"
    for path in paths:
        WRITERS[path.suffix](schedules, path, title=title)
        console.print(f"written: {path}")


def _check_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.suffix not in WRITERS:
            raise ValueError(f"--schedule: got {path}; must end in one of {', '.join(WRITERS)}")
        if not path.parent.is_dir():
            raise ValueError(f"--schedule: got {path}; there is no folder {path.parent}")


def record_all(
    opened: Opened, contenders: Sequence[Contender], *, seed: int, measuring: MeasureConfig
) -> list[Schedule]:
    """Record the first test episode of a seed under each policy, with a progress bar."""
    env, env_params, names, _ = opened
    key, schedules = episode_keys(seed, 1)[0], []
    with progress_bar() as progress:
        task = progress.add_task("recording", total=len(contenders), status="")
        for contender in contenders:
            progress.update(task, status=contender.name)
            schedules.append(record(env, env_params, contender, key, names=names, measuring=measuring))
            progress.advance(task)
    return schedules


def print_summary(schedules: Sequence[Schedule]) -> None:
    """Print totals of the episode and the completion time of each service, one column per policy."""
    table = Table("", *(schedule.policy for schedule in schedules), title="the episode")
    for name, cell in SUMMARY.items():
        table.add_row(name, *(cell(schedule) for schedule in schedules))
    console.print(table)
    table = Table("service", "released (s)", "at", "microservices", title="completion times (s)")
    for schedule in schedules:
        table.add_column(schedule.policy, justify="right")
    first = schedules[0]
    for service, (release, source) in enumerate(zip(first.releases, first.sources, strict=True)):
        size = sum(placed.service == service for placed in first.placed)
        times = (format_seconds(schedule.completions[service]) for schedule in schedules)
        table.add_row(str(service), f"{release:,.1f}", first.nodes[source], str(size), *times)
    console.print(table)
