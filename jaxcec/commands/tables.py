"""The tables of an evaluation, for a terminal and for a page alike."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from rich.table import Table

from jaxcec.agents import LEARNERS
from jaxcec.commands.console import percent, seconds
from jaxcec.evaluation.rollout import Episodes
from jaxcec.evaluation.statistics import Interval, bootstrap_mean, paired_difference


@dataclasses.dataclass(frozen=True)
class Result:
    """One policy's episodes and how fast they ran."""

    episodes: Episodes
    decisions_per_s: float

    @property
    def moved(self) -> float:
        """Share of decisions for another host than the source's edge node."""
        return float(self.episodes.moved.sum() / self.episodes.decisions.sum())


Results = dict[str, Result]


class Cells(NamedTuple):
    """A table: the first column names, the others are figures."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def for_terminal(self) -> Table:
        """As rich prints it."""
        table = Table(title=self.title)
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def act_table(results: Results, title: str) -> Cells:
    """ACT of each policy, how much it moves, how fast it decides."""
    rows = []
    for name, result in results.items():
        act = bootstrap_mean(result.episodes.act)
        interval = f"{seconds(act.low)} to {seconds(act.high)}"
        figures = [f"{100 * result.moved:.1f} %", f"{result.decisions_per_s:,.0f}"]
        rows.append([name, seconds(act.mean), interval, *figures, f"{int(result.episodes.merges.sum()):,}"])
    return Cells(title, ["policy", "ACT (s)", "95 % interval", "moved", "decisions/s", "merges"], rows)


def difference_table(results: Results) -> Cells | None:
    """ACT of the learned policies against every other; None if there is nothing to compare."""
    learned = [name for name in LEARNERS if name in results]
    if not learned:
        return None
    rows = [
        [baseline, *("" if name == baseline else percent(against(results, name, baseline)) for name in learned)]
        for baseline in results
        if baseline not in learned or len(learned) > 1
    ]
    return Cells("ACT against each baseline, paired over episodes, 95 % interval", ["baseline", *learned], rows)


def against(results: Results, name: str, baseline: str) -> Interval:
    """How much a policy's ACT differs from a baseline's, as a share of it."""
    return paired_difference(results[name].episodes.act, results[baseline].episodes.act)
