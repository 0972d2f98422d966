"""`python eval.py --sweep`: the grids of Fig. 4 and 5, point by point; one that was stopped goes on where it was."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh
from rich.progress import Progress, TaskID

from jaxcec.agents.sharding import replicated, shard_leading_axis
from jaxcec.commands.console import announced_jobs, console, progress_bar, seconds
from jaxcec.commands.contenders import contenders_for
from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation.clairvoyant import clairvoyant
from jaxcec.evaluation.rollout import Contender, episode_keys, rollout
from jaxcec.evaluation.statistics import bootstrap_mean
from jaxcec.experiments import margins
from jaxcec.experiments.grid_figure import sweep_figure
from jaxcec.experiments.grids import Acts, Point, from_csv, grid, to_csv, with_paper_setting
from jaxcec.files import write_aside
from jaxcec.policies import SearchConfig
from jaxcec.scenarios import Scenario, make_env
from jaxcec.scenarios.job_table import JobTable

if TYPE_CHECKING:
    from jaxcec.commands.evaluate import EvalCommand

CSV = "sweep.csv"
SEARCH = SearchConfig(population=16, generations=10)
SLOW = ("best-of-random", "eft-rollout")  # they take longer than all others together: only where they are named
COMPARED = ("dtdrlmo", "dtdrlmo-plan")


def run_sweep(command: EvalCommand, scenario: Scenario, folder: Path, mesh: Mesh | None) -> None:
    """Play what is missing of a sweep, and write its table, figures and margins.

    Args:
        command: what was asked.
        scenario: what holds at all points, but for the axis.
        folder: where sweep.csv, with the settings it was played with, may stand already.
        mesh: the devices that share the episodes.

    Raises:
        ValueError: the folder holds a sweep of other settings, or something else.
    """
    bases = with_paper_setting(scenario) if command.config == "default" else [scenario]
    points, jobs = grid(bases, command.sweep or "all"), announced_jobs(scenario)
    contenders, sources = contenders_for(command, *make_env(points[0], "test", jobs), _quick)
    acts = _begun(folder, _settings(command, bases, contenders, sources))
    missing = [point for point in points if Point.of(point) not in acts]
    if len(missing) < len(points):
        console.print(f"{folder} has {len(points) - len(missing)} of {len(points)} points")
    try:
        for point, played in _play_points(command, missing, jobs, mesh):
            acts[point] = played
            write_aside(folder / CSV, to_csv(acts))
            if not console.is_terminal:
                there = sum(Point.of(each) in acts for each in points)
                console.print(f"{there} of {len(points)} points: {', '.join(map(str, point))}")
    except KeyboardInterrupt:
        console.print(f"stopped; to go on, give the same command again with --out {folder}")
        raise SystemExit(130) from None
    _write_results(folder, acts, [Point.of(base) for base in bases])
    console.print(f"written: {folder} holds {CSV}, results.json, margins.md and figures")


def _play_points(
    command: EvalCommand, points: Sequence[Scenario], jobs: JobTable | None, mesh: Mesh | None
) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
    """Points with what was played there, one after the other."""
    keys = episode_keys(command.seed, command.count)
    search = dataclasses.replace(SEARCH, generations=command.generations)
    shape, contenders = None, []
    with progress_bar() as progress:
        task = progress.add_task("sweeping", total=sum(map(_work, points)), status="")
        for index, point in enumerate(points):
            env, env_params = make_env(point, "test", jobs)
            if env.config != shape:
                jax.clear_caches()  # what is compiled for one shape does not serve the next
                shape, contenders = env.config, contenders_for(command, env, env_params, _quick, lambda _: None)[0]
            report = _reporter(progress, task, point, len(contenders) + search.generations)
            yield Point.of(point), play_point(env, env_params, contenders, search, keys, mesh, report)
            progress.update(task, completed=sum(map(_work, points[: index + 1])))


def play_point(
    env: CECEnv,
    env_params: EnvParams,
    contenders: Sequence[Contender],
    search: SearchConfig,
    keys: jax.Array,
    mesh: Mesh | None,
    report: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """ACT of every contender, and of whoever knows the future, on the same episodes: (episodes,) s each."""
    keys = shard_leading_axis(mesh, keys)
    if mesh is not None:
        env_params = replicated(mesh, env_params)
    played = {}
    for contender in contenders:
        params = contender.params if mesh is None else replicated(mesh, contender.params)
        played[contender.name] = jax.tree.map(
            np.asarray, rollout(env, env_params, apply=contender.apply, params=params, keys=keys)
        )
        report(contender.name)
    if search.generations:

        def found(act: float) -> None:
            report(f"clairvoyant {seconds(act)} s")

        start, key = list(played.values()), jax.random.key(0)
        played["clairvoyant"] = clairvoyant(env, env_params, start, search, keys, key, found)
    return {name: np.asarray(episodes.act) for name, episodes in played.items()}


def _quick(name: str) -> bool:
    return name not in SLOW


def _settings(
    command: EvalCommand, bases: Sequence[Scenario], contenders: Sequence[Contender], sources: dict[str, str]
) -> dict[str, Any]:
    """Everything that determines the figures at a point."""
    return {
        "seed": command.seed,
        "episodes": command.count,
        "clairvoyant": command.generations,
        "policies": {contender.name: sources.get(contender.name, "") for contender in contenders},
        "scenarios": json.loads(json.dumps([dataclasses.asdict(base) for base in bases])),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("jax", "jaxcec")},
    }


def _begun(folder: Path, settings: dict[str, Any]) -> Acts:
    """What a folder has of the sweep with these settings; they are written there if nothing is."""
    file = folder / "settings.json"
    if file.is_file():
        there = json.loads(file.read_text())
        for name, value in settings.items():
            if there.get(name) != value:
                raise ValueError(f"--out: the sweep in {folder} has {name} {there.get(name)}, not {value}")
        return from_csv(folder / CSV) if (folder / CSV).is_file() else {}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out: {folder} holds something else than a sweep; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(file, json.dumps(settings, indent=2) + "\n")
    return {}


def _work(point: Scenario) -> int:
    """How long a point takes, in units of its own: it has about half as many decisions."""
    return point.num_services * point.max_microservices


def _reporter(progress: Progress, task: TaskID, point: Scenario, parts: int) -> Callable[[str], None]:
    """Says what of a point is done."""
    where = f"{point.name} M {point.num_services} N {point.max_microservices} {point.bandwidth:g} Mbit/s"

    def report(status: str) -> None:
        progress.update(task, advance=_work(point) / parts, status=f"{where}: {status}")

    return report


def _write_results(folder: Path, acts: Acts, bases: list[Point]) -> None:
    """The figures, the margins and the means; each file is written whole."""
    rows = []
    for point, played in sorted(acts.items()):
        for name, values in played.items():
            act = bootstrap_mean(values)
            rows.append(point._asdict() | {"policy": name, "act": act.mean, "act_ci95": [act.low, act.high]})
    found = [
        dataclasses.asdict(margin) | {"setting": base.setting, "policy": policy, "ours": ours._asdict()}
        for base in bases
        for margin in margins.MARGINS
        for policy in COMPARED
        if (ours := margins.reached(acts, base, margin, policy)) is not None
    ]
    write_aside(folder / "results.json", json.dumps({"acts": rows, "margins": found}, indent=1) + "\n")
    write_aside(folder / "margins.md", margins.markdown(acts, bases, COMPARED))
    try:
        for base in bases:
            sweep_figure(acts, base, folder / f"sweep-{base.dataset}-{base.setting}")
    except ImportError as error:
        console.print(f"no figures: {error}")
