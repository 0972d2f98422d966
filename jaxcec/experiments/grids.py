"""The grids of Fig. 4 and 5: their points, how a point is played, and the table of the results."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation import Contender, clairvoyant
from jaxcec.files import csv_text, write_aside
from jaxcec.policies import SearchConfig
from jaxcec.scenarios import Scenario
from jaxcec.scenarios.scenario import DATASETS, NETWORKS, PAPER_SETTINGS

AXES: dict[str, tuple[Any, ...]] = {
    "num_services": (10, 20, 30, 40),
    "max_microservices": (25, 50, 75, 100),
    "bandwidth": (2.0, 3.0, 4.0, 5.0),
}
SWEEPS = {"services": "num_services", "microservices": "max_microservices", "bandwidth": "bandwidth"}


class Point(NamedTuple):
    """One point of a grid."""

    dataset: str
    setting: str  # name of the scenario, such as `calibrated` or `paper`
    num_services: int
    max_microservices: int
    bandwidth: float  # Mbit/s

    @classmethod
    def of(cls, scenario: Scenario) -> Point:
        """The point of a scenario."""
        return cls(
            scenario.dataset, scenario.name, scenario.num_services, scenario.max_microservices, scenario.bandwidth
        )


Acts = dict[Point, dict[str, np.ndarray]]  # ACT of each policy at each point, (episodes,) s
COLUMNS = (*Point._fields, "policy", "episode", "act")


def with_paper_setting(scenario: Scenario) -> list[Scenario]:
    """A scenario, and the same one in the units that the paper prints, unless its services are those of files.

    Both have the same reward: evaluation does not use it, and equal environments share one compiled program.
    """
    if scenario.dataset not in DATASETS:
        return [scenario]
    changes: dict[str, Any] = PAPER_SETTINGS | {"reward": scenario.reward}
    return [scenario, dataclasses.replace(scenario, **changes)]


def grid(bases: Sequence[Scenario], sweep: str) -> list[Scenario]:
    """All points of a sweep, one of SWEEPS or `all`, each once; points of equal array sizes are consecutive.

    The bases are the settings of everything but the axis that is swept.

    Raises:
        ValueError: services or networks come from files, which set what is swept.
    """
    for base in bases:
        if base.dataset not in DATASETS and sweep in ("microservices", "all"):
            raise ValueError(f"--sweep: got {sweep}; must be services or bandwidth, for {base.dataset} sets the sizes")
        if base.network not in NETWORKS and not base.rescale and sweep in ("bandwidth", "all"):
            raise ValueError(
                f"--sweep: got {sweep}; must be services or microservices, or with --scenario.rescale, for "
                f"{base.network} sets the bandwidths"
            )
    axes = SWEEPS.values() if sweep == "all" else [SWEEPS[sweep]]
    points = {
        Point.of(changed): changed
        for base in bases
        for axis in axes
        for changed in (dataclasses.replace(base, **{axis: value}) for value in AXES[axis])
    }
    return sorted(points.values(), key=lambda s: (s.num_services, s.max_microservices))


def play_point(
    env: CECEnv,
    env_params: EnvParams,
    contenders: Sequence[Contender],
    *,
    keys: chex.PRNGKey,
    search: SearchConfig,
    report: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """ACT of every contender, and of the clairvoyant search, on the same episodes of one point, (episodes,) s each.

    The keys are (episodes,) of `episode_keys`. Without generations the clairvoyant is left out. `report` receives a
    status line after each contender and after each generation of the search.
    """
    played = {}
    for contender in contenders:
        played[contender.name] = jax.tree.map(np.asarray, contender.play(env, env_params, keys))
        report(contender.name)
    if search.generations:
        played["clairvoyant"] = clairvoyant(
            env,
            env_params,
            keys,
            played=list(played.values()),
            config=search,
            search_key=jax.random.key(0),
            report=lambda act: report(f"clairvoyant, ACT {act:.3f} s"),
        )
    return {name: np.asarray(episodes.act) for name, episodes in played.items()}


def acts_along(acts: Acts, base: Point, axis: str) -> dict[Any, dict[str, np.ndarray]]:
    """ACT of each policy at the played points of one axis through a base point, by value on the axis."""
    points = {value: base._replace(**{axis: value}) for value in AXES[axis]}
    return {value: acts[point] for value, point in points.items() if point in acts}


def save_acts(acts: Acts, path: Path) -> None:
    """Write a CSV file with one row per point, policy and episode; points are sorted."""
    rows = (
        [*point, policy, episode, float(act)]
        for point in sorted(acts)
        for policy, values in acts[point].items()
        for episode, act in enumerate(values)
    )
    write_aside(path, csv_text(COLUMNS, rows))


def load_acts(path: Path) -> Acts:
    """Read a file of `save_acts`.

    Raises:
        ValueError: the columns are others, or a row is malformed; the message names the line.
    """
    acts: dict[Point, dict[str, list[float]]] = {}
    with path.open(newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ValueError(f"{path}: got columns {header}; must be {list(COLUMNS)}")
        for row in reader:
            point, policy, act = _parse_row(path, reader.line_num, row)
            acts.setdefault(point, {}).setdefault(policy, []).append(act)
    return {point: {name: np.array(x, np.float32) for name, x in played.items()} for point, played in acts.items()}


def _parse_row(path: Path, line: int, row: Sequence[str]) -> tuple[Point, str, float]:
    try:
        dataset, setting, services, microservices, bandwidth, policy, _, act = row
        return Point(dataset, setting, int(services), int(microservices), float(bandwidth)), policy, float(act)
    except ValueError:
        raise ValueError(f"{path}, line {line}: got {row}; must be {', '.join(COLUMNS)}") from None
