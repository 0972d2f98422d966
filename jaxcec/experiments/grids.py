"""The grids of Fig. 4 and 5: which points there are, and the tidy table of what was played at them."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcec.scenarios import Scenario
from jaxcec.scenarios.scenario import PAPER_SETTINGS

AXES: dict[str, tuple[Any, ...]] = {
    "num_services": (10, 20, 30, 40),
    "max_microservices": (25, 50, 75, 100),
    "bandwidth": (2.0, 3.0, 4.0, 5.0),
}
SWEEPS = {"services": "num_services", "microservices": "max_microservices", "bandwidth": "bandwidth"}


class Point(NamedTuple):
    """One point of the grids."""

    dataset: str
    setting: str  # `calibrated` or `paper`
    num_services: int
    max_microservices: int
    bandwidth: float  # Mbit/s

    @classmethod
    def of(cls, scenario: Scenario) -> Point:
        """The point that a scenario is."""
        return cls(
            scenario.dataset,
            scenario.name,
            scenario.num_services,
            scenario.max_microservices,
            scenario.bandwidth,
        )


Acts = dict[Point, dict[str, np.ndarray]]  # s, (episodes,) of each policy
COLUMNS = (*Point._fields, "policy", "episode", "act")


def with_paper_setting(scenario: Scenario) -> list[Scenario]:
    """A scenario, and it in the units that the paper prints.

    Their reward is one and the same: evaluation does not use it, and equal sizes then share one compiled program.
    """
    changes: dict[str, Any] = PAPER_SETTINGS | {"reward": scenario.reward}
    return [scenario, dataclasses.replace(scenario, **changes)]


def grid(scenarios: Iterable[Scenario], sweep: str) -> list[Scenario]:
    """The points of a sweep around each of some scenarios, each once, those of one shape beside each other.

    Args:
        scenarios: whose other numbers hold at all points.
        sweep: one of SWEEPS, or `all`.
    """
    axes = SWEEPS.values() if sweep == "all" else [SWEEPS[sweep]]
    points = {
        Point.of(changed): changed
        for scenario in scenarios
        for axis in axes
        for changed in (dataclasses.replace(scenario, **{axis: value}) for value in AXES[axis])
    }
    return sorted(points.values(), key=lambda s: (s.num_services, s.max_microservices))


def along(acts: Acts, base: Point, axis: str) -> dict[Any, dict[str, np.ndarray]]:
    """What was played along an axis, all else as at the base: value on the axis to policies' ACT."""
    points = {value: base._replace(**{axis: value}) for value in AXES[axis]}
    return {value: acts[point] for value, point in points.items() if point in acts}


def to_csv(acts: Acts) -> str:
    """A row for each point, policy and episode, in an order that does not tell in which they were played."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for point in sorted(acts):
        for policy, values in acts[point].items():
            writer.writerows([*point, policy, episode, float(act)] for episode, act in enumerate(values))
    return text.getvalue()


def from_csv(path: Path) -> Acts:
    """Read what `to_csv` wrote.

    Raises:
        ValueError: it is another kind of file, or a row is damaged; the message names the row.
    """
    acts: dict[Point, dict[str, list[float]]] = {}
    with path.open(newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ValueError(f"{path}: got columns {header}; must be {list(COLUMNS)}")
        for row in reader:
            point, policy, act = _parsed(path, reader.line_num, row)
            acts.setdefault(point, {}).setdefault(policy, []).append(act)
    return {point: {name: np.array(x, np.float32) for name, x in played.items()} for point, played in acts.items()}


def _parsed(path: Path, line: int, row: Sequence[str]) -> tuple[Point, str, float]:
    try:
        dataset, setting, services, microservices, bandwidth, policy, _, act = row
        return Point(dataset, setting, int(services), int(microservices), float(bandwidth)), policy, float(act)
    except ValueError:
        raise ValueError(f"{path}, line {line}: got {row}; must be {', '.join(COLUMNS)}") from None
