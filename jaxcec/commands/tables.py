"""The tables of an evaluation, printed in a terminal and shown on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.table import Table

from jaxcec.agents import LEARNERS
from jaxcec.commands.console import format_interval, format_percent, format_seconds
from jaxcec.evaluation import MEASURES, Interval, Result, bootstrap_mean, bootstrap_means, paired_difference

Results = dict[str, Result]  # by policy
Means = dict[str, dict[str, Interval]]  # by policy and measure
HEADS = {"act": "ACT (s)", "traffic": "traffic (Mbit x links)", "energy": "energy (J)"}
HEADS |= {name: f"{name} (s)" for name in ("p50", "p95", "p99", "makespan")}  # others have their names and no unit


class Cells(NamedTuple):
    """A table; the first column and `sees` contain words, the others numbers."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def for_terminal(self) -> Table:
        """The table as rich prints it."""
        table = Table(title=self.title)
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index and name != "sees" else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def act_table(results: Results, title: str, information: Mapping[str, str]) -> Cells:
    """What each policy sees, its ACT, share of moved microservices, and speed, and the timeline segments merged.

    If the clairvoyant was searched for, also the share of the way from EFT's ACT to its ACT that a policy goes.
    """
    bounds = [results[name].episodes.act.mean() for name in ("eft", "clairvoyant") if name in results]
    has_way = len(bounds) == 2 and bounds[0] > bounds[1]
    rows = []
    for name, result in results.items():
        act = bootstrap_mean(result.episodes.act)
        interval = f"{format_seconds(act.low)} to {format_seconds(act.high)}"
        numbers = [f"{100 * result.moved:.1f} %", f"{result.decisions_per_s:,.0f}"]
        numbers.append(f"{int(result.episodes.merges.sum()):,}")
        way = [f"{100 * (bounds[0] - act.mean) / (bounds[0] - bounds[1]):.0f} %"] if has_way else []
        rows.append([name, information.get(name, ""), format_seconds(act.mean), interval, *numbers, *way])
    head = ["policy", "sees", "ACT (s)", "95 % interval", "moved", "decisions/s", "merges"]
    return Cells(title, [*head, *(["EFT to clairvoyant"] if has_way else [])], rows)


def means_of(results: Results) -> Means:
    """The mean of every measure over the episodes, with its interval."""
    return {
        name: bootstrap_means({measure: getattr(result.episodes, measure) for measure in MEASURES})
        for name, result in results.items()
    }


def measure_table(means: Means, metrics: Sequence[str], *, title: str, information: Mapping[str, str]) -> Cells:
    """What each policy sees, and the mean of each of the metrics with its interval."""
    head = [HEADS.get(metric, metric.replace("_", " ")) for metric in metrics]
    rows = [
        [name, information.get(name, ""), *(format_interval(measured[metric]) for metric in metrics)]
        for name, measured in means.items()
    ]
    return Cells(title, ["policy", "sees", *head], rows)


def difference_table(results: Results) -> Cells | None:
    """Relative ACT of each learned policy against every other policy; None if there is nothing to compare."""
    learned = [name for name in LEARNERS if name in results]
    if not learned:
        return None
    rows = [
        [
            baseline,
            *("" if name == baseline else format_percent(difference(results, name, baseline)) for name in learned),
        ]
        for baseline in results
        if baseline not in learned or len(learned) > 1
    ]
    return Cells("ACT against each baseline, paired over episodes, 95 % interval", ["baseline", *learned], rows)


def difference(results: Results, name: str, baseline: str) -> Interval:
    """Relative difference of a policy's ACT to a baseline's."""
    return paired_difference(results[name].episodes.act, results[baseline].episodes.act)
