"""`python eval.py --schedule`: one episode to look at, under some policies beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from jaxcec.commands.console import announced_jobs, console, progress_bar, seconds
from jaxcec.commands.contenders import contenders_for
from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation.figures import schedule_figure
from jaxcec.evaluation.rollout import Contender, episode_keys
from jaxcec.evaluation.schedule import Schedule, record
from jaxcec.evaluation.schedule_page import save_page
from jaxcec.scenarios import Scenario, make_env

if TYPE_CHECKING:
    from jaxcec.commands.evaluate import EvalCommand

WRITERS: dict[str, Callable[[Sequence[Schedule], Path, str], None]] = {".html": save_page, ".png": schedule_figure}
COMPARED = ("eft", "dtdrlmo-plan")


def show_schedule(command: EvalCommand, scenario: Scenario) -> None:
    """Record the first episode of the seed under each policy; write the files asked for and print a summary.

    Args:
        command: what was asked.
        scenario: where.

    Raises:
        ValueError: there is no such policy, or a file of that kind or in that place cannot be written.
    """
    _check(command.schedule)
    env, env_params = make_env(scenario, "test", announced_jobs(scenario))
    contenders, _ = contenders_for(command, env, env_params, by_default=COMPARED.__contains__)
    schedules = record_all(command, env, env_params, contenders)
    print_summary(schedules)
    title = f"{scenario.dataset}, {scenario.name}: the first test episode of seed {command.seed}"
    for path in command.schedule:
        WRITERS[path.suffix](schedules, path, title)
        console.print(f"written: {path}")


def _check(paths: Sequence[Path]) -> None:
    """Refuse what no schedule can be written to."""
    for path in paths:
        if path.suffix not in WRITERS:
            raise ValueError(f"--schedule: got {path}; must end in one of {', '.join(WRITERS)}")
        if not path.parent.is_dir():
            raise ValueError(f"--schedule: got {path}; there is no folder {path.parent}")


def record_all(
    command: EvalCommand, env: CECEnv, env_params: EnvParams, contenders: Sequence[Contender]
) -> list[Schedule]:
    """The first episode of the seed under each policy."""
    key, schedules = episode_keys(command.seed, 1)[0], []
    with progress_bar() as progress:
        task = progress.add_task("recording", total=len(contenders), status="")
        for contender in contenders:
            progress.update(task, status=contender.name)
            schedules.append(record(env, env_params, contender, key))
            progress.advance(task)
    return schedules


def print_summary(schedules: Sequence[Schedule]) -> None:
    """What a terminal can show: what each policy did on the whole, and how long each service took."""
    table = Table("", *(schedule.policy for schedule in schedules), title="the episode")
    for name, figure in _FIGURES.items():
        table.add_row(name, *(figure(schedule) for schedule in schedules))
    console.print(table)
    table = Table("service", "released (s)", "at", "microservices", title="completion times (s)")
    for schedule in schedules:
        table.add_column(schedule.policy, justify="right")
    first = schedules[0]
    for service, (release, source) in enumerate(zip(first.releases, first.sources, strict=True)):
        size = sum(placed.service == service for placed in first.placed)
        times = (seconds(schedule.completions[service]) for schedule in schedules)
        table.add_row(str(service), f"{release:,.1f}", f"node {source}", str(size), *times)
    console.print(table)


def _moved(schedule: Schedule) -> float:
    """Share of microservices that ran elsewhere than where their service came to."""
    return float(np.mean([placed.host != f"node {schedule.sources[placed.service]}" for placed in schedule.placed]))


def _busy(schedule: Schedule) -> float:
    """Share of the edge nodes' time until all is done in which something runs."""
    runs = [
        sorted((p.start, p.finish) for p in schedule.placed if p.host == f"node {v}") for v in range(schedule.num_nodes)
    ]
    return sum(map(_covered, runs)) / (schedule.num_nodes * schedule.makespan)


def _covered(stretches: Sequence[tuple[float, float]]) -> float:
    """Length of the union of stretches in the order of their starts."""
    length, until = 0.0, 0.0
    for start, end in stretches:
        length += max(end - max(start, until), 0.0)
        until = max(until, end)
    return length


_FIGURES: dict[str, Callable[[Schedule], str]] = {
    "ACT (s)": lambda s: seconds(s.act),
    "all done after (s)": lambda s: seconds(s.makespan),
    "moved from the service's node": lambda s: f"{_moved(s):.0%}",
    "input sent (Mbit x links)": lambda s: f"{sum(p.data * len(p.links) for p in s.placed):,.0f}",
    "mean wait for a node (s)": lambda s: seconds(float(np.mean([p.wait for p in s.placed]))),
    "mean time of a flow, hold included (s)": lambda s: seconds(
        float(np.mean([p.data_ready - p.decided for p in s.placed if p.links] or [0.0]))
    ),
    "edge nodes busy": lambda s: f"{_busy(s):.0%}",
}
