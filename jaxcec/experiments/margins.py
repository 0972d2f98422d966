"""The margins that section V of the paper states, compared with those measured at the same points."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxcec.evaluation import Interval, paired_reduction
from jaxcec.experiments.grids import Acts, Point

DRL = "ddpg"  # the paper's `DRL without DT`


@dataclasses.dataclass(frozen=True)
class Margin:
    """A relative reduction of DTDRLMO's ACT that the paper states, a mean over baselines and points."""

    figure: str  # of the paper
    dataset: str
    baselines: tuple[str, ...]
    axis: str  # one of `grids.AXES`
    values: tuple[Any, ...]  # of the points on that axis
    stated: float  # reduction as a share of the baselines' ACT
    wording: str = ""  # of the paper, where it states another number that implies this share

    def where(self) -> str:
        """The points in words, such as `10 to 40 services`."""
        unit = {"num_services": "services", "max_microservices": "microservices", "bandwidth": "Mbit/s"}[self.axis]
        shown = [f"{value:g}" for value in self.values]
        return f"{shown[0]} to {shown[-1]} {unit}" if len(shown) > 1 else f"{shown[0]} {unit}"


MARGINS = (
    Margin("4a", "alibaba", ("le",), "num_services", (10,), 0.281),
    Margin("4a", "alibaba", ("le",), "num_services", (40,), 0.834),
    Margin("4a", "alibaba", (DRL, "greedy"), "num_services", (40,), 0.599),
    Margin("4b", "alibaba", ("le",), "max_microservices", (25,), 0.181),
    Margin("4b", "alibaba", ("le",), "max_microservices", (100,), 0.656),
    Margin("4b", "alibaba", (DRL,), "max_microservices", (100,), 0.242),
    Margin("4b", "alibaba", ("greedy",), "max_microservices", (100,), 0.263),
    Margin("4c", "alibaba", (DRL,), "bandwidth", (2.0,), 0.180),
    Margin("4c", "alibaba", ("greedy",), "bandwidth", (2.0,), 0.159),
    Margin("5a", "synthetic", (DRL,), "num_services", (20,), 1.0 - 1.0 / 1.224, "DRL without DT 22.4 % higher"),
    Margin("5a", "synthetic", ("greedy",), "num_services", (10, 20, 30, 40), 0.330),
    Margin("5b", "synthetic", ("greedy",), "max_microservices", (50,), 0.351),
    Margin("5b", "synthetic", (DRL, "greedy"), "max_microservices", (100,), 0.417),
    Margin("5c", "synthetic", ("le",), "bandwidth", (5.0,), 0.501),
    Margin("5c", "synthetic", (DRL,), "bandwidth", (2.0,), 0.662),
    Margin("5c", "synthetic", (DRL,), "bandwidth", (5.0,), 0.310),
    Margin("5c", "synthetic", ("greedy",), "bandwidth", (2.0,), 0.875),
    Margin("5c", "synthetic", ("greedy",), "bandwidth", (5.0,), 0.310),
)


def measured_margin(acts: Acts, base: Point, margin: Margin, *, policy: str) -> Interval | None:
    """Measured reduction of a policy's ACT against the baselines of a margin, a mean over these and the points.

    It is a share with its 95 % interval; None if one of the points, whose other coordinates are those of the base, was
    not played by all of the policies, or the margin is of another dataset.
    """
    points = [base._replace(**{margin.axis: value}) for value in margin.values]
    names = {policy, *margin.baselines}
    if margin.dataset != base.dataset or not all(names <= acts.get(point, {}).keys() for point in points):
        return None
    return paired_reduction([(acts[point][policy], acts[point][name]) for point in points for name in margin.baselines])


def margin_table(acts: Acts, bases: Sequence[Point], policies: Sequence[str]) -> str:
    """Every margin of the datasets played, as stated and as measured, as a Markdown table.

    The bases are one point of each dataset and setting. Each policy has one column in each setting.
    """
    columns = [(policy, setting) for setting in dict.fromkeys(b.setting for b in bases) for policy in policies]
    head = ["figure", "against", "at", "paper", *(f"{policy}, {setting}" for policy, setting in columns)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for margin in MARGINS:
        by_setting = {base.setting: base for base in bases if base.dataset == margin.dataset}
        if not by_setting:
            continue
        measured = [
            measured_margin(acts, by_setting[setting], margin, policy=policy) if setting in by_setting else None
            for policy, setting in columns
        ]
        against = " and ".join("DRL without DT" if name == DRL else name for name in margin.baselines)
        stated = f"{100 * margin.stated:.1f} %" + (f" ({margin.wording})" if margin.wording else "")
        row = [f"{margin.figure}, {margin.dataset}", against, margin.where(), stated]
        lines.append(f"| {' | '.join([*row, *(_cell(share, margin) for share in measured)])} |")
    return "\n".join(lines) + "\n"


def _cell(measured: Interval | None, margin: Margin) -> str:
    """One measured margin in the table."""
    if measured is None:
        return "not played"
    mean, low, high = (100.0 * x for x in measured)
    verdict = "reached" if measured.mean >= margin.stated else "not reached"
    if measured.low < margin.stated < measured.high:
        verdict += ", within the interval"
    return f"{mean:.1f} % [{low:.1f}, {high:.1f}] {verdict}"
