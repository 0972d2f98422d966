"""`python eval.py --sweep`: play the grids of Fig. 4 and 5, point by point; a sweep that was stopped can continue."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from rich.progress import Progress, TaskID

from jaxcec.agents.sharding import shard_leading_axis
from jaxcec.commands.console import console, progress_bar
from jaxcec.commands.contenders import IF_NAMED, ROLLOUTS, PolicyChoice, contenders_for
from jaxcec.commands.runtime import replicate_policies
from jaxcec.commands.worlds import in_file_name, report_sources
from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation import Contender, bootstrap_mean, episode_keys
from jaxcec.experiments import MARGINS, draw_grid, margin_table, measured_margin
from jaxcec.experiments.grids import Acts, Point, grid, load_acts, play_point, save_acts
from jaxcec.files import open_or_continue, write_aside, write_json
from jaxcec.policies import SearchConfig
from jaxcec.scenarios import Scenario, Sources, make_env
from jaxcec.scenarios.scenario import DATASETS
from jaxcec.scenarios.sources import rescaled

CSV = "sweep.csv"
SEARCH = SearchConfig(population=16, generations=10)
COMPARED = ("dtdrlmo", "dtdrlmo-plan", "clairvoyant")  # with the baselines, in the margins; if they were played


def run_sweep(
    bases: Sequence[Scenario],
    folder: Path,
    *,
    sweep: str,
    choice: PolicyChoice,
    seed: int,
    episodes: int,
    generations: int,
    mesh: Mesh | None,
) -> None:
    """Play the points of a sweep that its folder does not have yet, and write the table, figures and margins.

    The bases are the settings of everything but the axis that is swept. The policies are by default all but ROLLOUTS,
    which are slow, and IF_NAMED. Without generations the clairvoyant is left out.

    Raises:
        ValueError: the folder contains a sweep with other settings, or something else.
    """
    keys = shard_leading_axis(mesh, episode_keys(seed, episodes))
    points, files = grid(bases, sweep), report_sources(dataclasses.replace(bases[0], rescale=False))
    # The largest point shows whether there are enough jobs and instants for all of them.
    contenders, sources = contenders_for(choice, *_environment(points[-1], files), by_default=_is_fast)
    settings = {
        "seed": seed,
        "episodes": episodes,
        "clairvoyant": generations,
        "policies": {contender.name: sources.get(contender.name, "") for contender in contenders},
        "plan_steps": choice.plan_steps,
        "networks": {network.name: network.digest.hex() for network in files.networks},
        "workflows": {workflow.name: workflow.digest.hex() for workflow in files.workflows},
        "scenarios": json.loads(json.dumps([dataclasses.asdict(base) for base in bases])),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("jax", "jaxcec")},
    }
    open_or_continue("--out", folder, settings, what="sweep")
    acts = load_acts(folder / CSV) if (folder / CSV).is_file() else {}
    missing = [point for point in points if Point.of(point) not in acts]
    if len(missing) < len(points):
        console.print(f"{folder} has {len(points) - len(missing)} of {len(points)} points")
    search = dataclasses.replace(SEARCH, generations=generations)
    try:
        for point, played in _play_points(missing, files, choice=choice, keys=keys, search=search, mesh=mesh):
            acts[point] = played
            save_acts(acts, folder / CSV)
            if not console.is_terminal:
                count = sum(Point.of(each) in acts for each in points)
                console.print(f"{count} of {len(points)} points: {', '.join(map(str, point))}")
    except KeyboardInterrupt:
        console.print(f"stopped; to continue, give the same command with --out {folder}")
        raise SystemExit(130) from None
    _write_results(folder, acts, bases)
    console.print(f"written: {folder} holds {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _environment(point: Scenario, files: Sources) -> tuple[CECEnv, EnvParams]:
    """The environment of a point; files as they were read are rescaled to its own means."""
    return make_env(point, "test", rescaled(files, point) if point.rescale else files)


def _is_fast(name: str) -> bool:
    return name not in (*ROLLOUTS, *IF_NAMED)


def _play_points(
    points: Sequence[Scenario],
    files: Sources,
    *,
    choice: PolicyChoice,
    keys: jax.Array,
    search: SearchConfig,
    mesh: Mesh | None,
) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
    """Play the points in turn, and yield each with the ACT of every policy."""
    config, contenders = None, list[Contender]()
    with progress_bar() as progress:
        task = progress.add_task("sweeping", total=sum(map(_work, points)), status="")
        for index, point in enumerate(points):
            env, env_params = _environment(point, files)
            if env.config != config:
                if config is not None:
                    jax.clear_caches()  # programs compiled for other array sizes are not used again
                config = env.config
                contenders, _ = contenders_for(choice, env, env_params, by_default=_is_fast, report=lambda _: None)
            env_params, replicas = replicate_policies(mesh, env_params, contenders)
            report = _reporter(progress, task, point, parts=len(contenders) + search.generations)
            yield Point.of(point), play_point(env, env_params, replicas, keys=keys, search=search, report=report)
            progress.update(task, completed=sum(map(_work, points[: index + 1])))


def _work(point: Scenario) -> int:
    """Relative duration of a point, for the progress bar: the largest number of decisions of an episode."""
    return point.num_services * point.max_microservices


def _reporter(progress: Progress, task: TaskID, point: Scenario, *, parts: int) -> Callable[[str], None]:
    """A function that advances the progress bar by one of the equal parts of a point, with a status."""
    where = f"{point.name} M {point.num_services} N {point.max_microservices} {point.bandwidth:g} Mbit/s"

    def report(status: str) -> None:
        progress.update(task, advance=_work(point) / parts, status=f"{where}: {status}")

    return report


def _write_results(folder: Path, acts: Acts, bases: Sequence[Scenario]) -> None:
    """Write the mean ACT of every policy at every point, the figures, and the margins if the worlds are the paper's."""
    of_paper = [Point.of(base) for base in bases if base.dataset in DATASETS and base.network == "generated"]
    compared = [name for name in COMPARED if any(name in played for played in acts.values())]
    means = []
    for point, played in sorted(acts.items()):
        for name, values in played.items():
            act = bootstrap_mean(values)
            means.append(point._asdict() | {"policy": name, "act": act.mean, "act_ci95": [act.low, act.high]})
    measured = [
        dataclasses.asdict(margin) | {"setting": base.setting, "policy": policy, "measured": interval._asdict()}
        for base in of_paper
        for margin in MARGINS
        for policy in compared
        if (interval := measured_margin(acts, base, margin, policy=policy)) is not None
    ]
    write_json(folder / "results.json", {"acts": means, "margins": measured})
    if of_paper:
        write_aside(folder / "margins.md", margin_table(acts, of_paper, compared))
    try:
        for base in map(Point.of, bases):
            draw_grid(acts, base, folder / f"sweep-{in_file_name(base.dataset)}-{base.setting}")
    except ImportError as error:
        console.print(f"no figures: {error}")
