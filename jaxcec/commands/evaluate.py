"""`python eval.py`: every policy on the held-out test split, paired, with intervals."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import time
from pathlib import Path
from typing import Literal

import chex
import jax
import numpy as np
from jax.sharding import Mesh

from jaxcec.agents import LEARNERS
from jaxcec.agents.sharding import replicated, shard_leading_axis
from jaxcec.commands.console import announced_jobs, console, progress_bar, seconds
from jaxcec.commands.contenders import contenders_for
from jaxcec.commands.paper_grids import run_sweep
from jaxcec.commands.runtime import choose_mesh, use_compilation_cache
from jaxcec.commands.settings import guarded, load_config, parse, save_scenario
from jaxcec.commands.show_schedule import record_all, show_schedule
from jaxcec.commands.tables import Result, Results, act_table, against, difference_table
from jaxcec.commands.write_report import repeat, write_report
from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation.clairvoyant import clairvoyant
from jaxcec.evaluation.figures import act_bars
from jaxcec.evaluation.rollout import MEASURES, Contender, Episodes, episode_keys, timed_rollout
from jaxcec.evaluation.statistics import bootstrap_mean
from jaxcec.files import write_aside
from jaxcec.policies import SearchConfig
from jaxcec.scenarios import Scenario, make_env

BATCH = 256  # episodes side by side


@dataclasses.dataclass(frozen=True)
class EvalCommand:
    """What `python eval.py` takes."""

    scenario: Scenario
    dataset: Literal["synthetic", "alibaba"] = "synthetic"  # where the services' DAGs come from
    config: str = "default"  # name in configs/ or path of a YAML file; its scenario is used, flags override it
    sweep: Literal["services", "microservices", "bandwidth", "all"] | None = None  # Fig. 4 and 5; minutes to an hour
    schedule: tuple[Path, ...] = ()  # .html or .png to draw one episode in; by default eft's and dtdrlmo-plan's
    episodes: int | None = None  # of the test split, the same for every policy; 256, or 32 at each point of a sweep
    seed: int = 0  # draws the episodes
    policies: tuple[str, ...] = ()  # which to play; by default all, in a sweep all but the slowest two
    policy: tuple[str, ...] = ()  # your own, as MODULE:FUNCTION, from an observation and a key to an Action
    checkpoint: Path | None = None  # policy.msgpack or run folder; by default the newest run, else the one shipped
    trace: str | None = None  # your own batch_task.csv, with --dataset alibaba
    clairvoyant: int | None = None  # generations of a search that knows the future; 0, or 10 of a small one in a sweep
    devices: str = "1"  # that share the episodes: a number (on CPUs, of cores), or all
    report: Path | None = None  # folder for the results and a page with all of them and a schedule of each policy
    out: Path | None = None  # folder for the results, by default runs/<time>-eval-<dataset>; a sweep goes on there

    def __post_init__(self) -> None:
        asked = [name for name in ("sweep", "schedule", "report") if getattr(self, name)]
        if len(asked) > 1:
            raise ValueError(f"--{asked[0]}, --{asked[1]}: got both; must be given one at a time")
        if self.report and self.out:
            raise ValueError(f"--out: got {self.out}; must be left out with --report, which names the folder")
        for name, least in {"episodes": 1, "seed": 0, "clairvoyant": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name}: got {value}; must be at least {least}")

    @property
    def count(self) -> int:
        """Episodes, at each point if there are several."""
        return self.episodes or (32 if self.sweep else 256)

    @property
    def generations(self) -> int:
        """Of the search that knows the future."""
        return self.clairvoyant if self.clairvoyant is not None else 10 if self.sweep else 0


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> None:
    def base(name: str) -> EvalCommand:
        return EvalCommand(scenario=load_config(name).scenario, config=name)

    command = parse(EvalCommand, arguments, __doc__ or "", base)
    use_compilation_cache()
    mesh = choose_mesh(command.devices)
    scenario = dataclasses.replace(
        command.scenario, dataset=command.dataset, trace=command.trace or command.scenario.trace
    )
    kind = "sweep" if command.sweep else "eval"
    folder = (
        command.report or command.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}-{command.dataset}"
    )
    if command.schedule:
        show_schedule(command, scenario)
    elif command.sweep:
        run_sweep(command, scenario, folder, mesh)
    else:
        evaluate(command, scenario, folder, mesh)


def evaluate(command: EvalCommand, scenario: Scenario, folder: Path, mesh: Mesh | None) -> None:
    """Play one scenario; print the tables and write figure, episodes and summary.

    Args:
        command: what was asked.
        scenario: where.
        folder: made if need be.
        mesh: the devices that share the episodes.

    Raises:
        ValueError: the folder is not empty, or there is no such policy.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{'--report' if command.report else '--out'}: {folder} is there and not an empty folder; name another one"
        )
    env, env_params = make_env(scenario, "test", announced_jobs(scenario))
    contenders, sources = contenders_for(command, env, env_params)
    if mesh is not None:
        env_params = replicated(mesh, env_params)
        contenders = [contender._replace(params=replicated(mesh, contender.params)) for contender in contenders]
    results = _play(env, env_params, contenders, _batches(command, mesh))
    if command.generations:
        results["clairvoyant"] = _search(env, env_params, results, command, mesh)
    title = f"{command.dataset}, {scenario.name}, {command.count} test episodes"
    tables = [table for table in (act_table(results, title), difference_table(results)) if table is not None]
    for table in tables:
        console.print(table.for_terminal())
    _write(folder, command, scenario, results, sources)
    if command.report:
        write_report(folder, command, scenario, tables, sources, record_all(command, env, env_params, contenders))
    console.print(f"written: {folder} holds {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _play(env: CECEnv, env_params: EnvParams, contenders: list[Contender], batches: list[chex.PRNGKey]) -> Results:
    """The same episodes under every policy, batch by batch."""
    count = sum(map(len, batches))
    results = {}
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=len(contenders) * count, status="")
        for contender in contenders:
            progress.update(task, status=contender.name)
            parts, speeds = [], []
            for batch in batches:
                episodes, speed, _ = timed_rollout(env, env_params, contender, batch)
                parts.append(episodes)
                speeds.append((float(episodes.decisions.sum()), speed))
                progress.advance(task, len(batch))
            total = sum(decisions for decisions, _ in speeds)
            seconds = sum(decisions / speed for decisions, speed in speeds)
            results[contender.name] = Result(_joined(parts), total / seconds)
    return results


def _search(env: CECEnv, env_params: EnvParams, results: Results, command: EvalCommand, mesh: Mesh | None) -> Result:
    """The same episodes for whoever knows their future; its time is that of the search."""
    config = SearchConfig(generations=command.generations)
    batches = _batches(command, mesh)
    search_keys = jax.random.split(jax.random.key(command.seed), len(batches))
    parts, begin = [], time.perf_counter()
    with progress_bar() as progress:
        task = progress.add_task("searching", total=len(batches) * config.generations, status="clairvoyant")

        def report(act: float) -> None:
            progress.update(task, advance=1, status=f"clairvoyant, ACT {seconds(act)} s")

        for index, (batch, key) in enumerate(zip(batches, search_keys, strict=True)):
            rows = slice(index * BATCH, (index + 1) * BATCH)
            played = [jax.tree.map(lambda x, rows=rows: x[rows], result.episodes) for result in results.values()]
            episodes = clairvoyant(env, env_params, played, config, batch, key, report)
            parts.append(jax.tree.map(np.asarray, episodes))
    joined = _joined(parts)
    return Result(joined, float(joined.decisions.sum()) / (time.perf_counter() - begin))


def _batches(command: EvalCommand, mesh: Mesh | None) -> list[chex.PRNGKey]:
    keys = episode_keys(command.seed, command.count)
    return [shard_leading_axis(mesh, keys[i : i + BATCH]) for i in range(0, command.count, BATCH)]


def _joined(parts: list[Episodes]) -> Episodes:
    return Episodes(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _write(
    folder: Path, command: EvalCommand, scenario: Scenario, results: Results, checkpoints: dict[str, str]
) -> None:
    """The figure, the episodes and the summary; each file is written whole."""
    acts = {name: bootstrap_mean(result.episodes.act) for name, result in results.items()}
    summary = {
        "dataset": command.dataset,
        "scenario": scenario.name,
        "seed": command.seed,
        "episodes": command.count,
        "checkpoint": checkpoints,
        "repeat": repeat(command, folder),
        "policies": {
            name: {
                "act": acts[name].mean,
                "act_ci95": [acts[name].low, acts[name].high],
                "decisions_per_s": result.decisions_per_s,
                "moved": result.moved,
                "merges": int(result.episodes.merges.sum()),
                "difference": {other: against(results, name, other)._asdict() for other in results if other != name},
            }
            for name, result in results.items()
        },
        "settings": dataclasses.asdict(scenario),
    }
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["episode", "policy", *MEASURES])
    for name, result in results.items():
        writer.writerows([i, name, *row] for i, row in enumerate(zip(*result.episodes[: len(MEASURES)], strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    save_scenario(scenario, folder / "config.yaml")
    write_aside(folder / "episodes.csv", text.getvalue())
    try:
        act_bars(acts, folder / "act.png", f"{command.dataset}, {scenario.name}, {command.count} episodes", LEARNERS)
    except ImportError as error:
        console.print(f"no act.png: {error}")
    write_aside(folder / "results.json", json.dumps(summary, indent=2) + "\n")
