"""The tables of an evaluation, printed in a terminal and shown on its page."""

from __future__ import annotations

from typing import NamedTuple

from rich.table import Table

from jaxcec.agents import LEARNERS
from jaxcec.commands.console import format_percent, format_seconds
from jaxcec.evaluation import Interval, Result, bootstrap_mean, paired_difference

Results = dict[str, Result]  # by policy


class Cells(NamedTuple):
    """A table; the first column contains names, the others numbers."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def for_terminal(self) -> Table:
        """The table as rich prints it."""
        table = Table(title=self.title)
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def act_table(results: Results, title: str) -> Cells:
    """ACT of each policy, its share of moved microservices, its speed, and the timeline segments merged."""
    rows = []
    for name, result in results.items():
        act = bootstrap_mean(result.episodes.act)
        interval = f"{format_seconds(act.low)} to {format_seconds(act.high)}"
        numbers = [f"{100 * result.moved:.1f} %", f"{result.decisions_per_s:,.0f}"]
        rows.append([name, format_seconds(act.mean), interval, *numbers, f"{int(result.episodes.merges.sum()):,}"])
    return Cells(title, ["policy", "ACT (s)", "95 % interval", "moved", "decisions/s", "merges"], rows)


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
