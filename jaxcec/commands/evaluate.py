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
from rich.table import Table

from jaxcec.agents.act import act
from jaxcec.agents.checkpoint import PRETRAINED, load_policy, policy_algorithm
from jaxcec.agents.config import ALGORITHMS
from jaxcec.commands.config import guarded, load_config, parse, write_aside
from jaxcec.commands.console import announced_jobs, console, progress_bar
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation.clairvoyant import clairvoyant
from jaxcec.evaluation.plots import act_bars
from jaxcec.evaluation.rollout import Contender, Episodes, episode_keys, timed_rollout
from jaxcec.evaluation.statistics import Interval, bootstrap_mean, paired_difference
from jaxcec.policies import BASELINES, RANDOM_PLANS, PlanConfig, SearchConfig, prefer_priced_finish
from jaxcec.scenarios import Scenario, make_env

BATCH = 256  # episodes side by side
SEARCHED_FROM = ("eft", "eft-priced", "peft", "peft-priced", "eft-rollout")  # the best of those that send at full rate


@dataclasses.dataclass(frozen=True)
class EvalCommand:
    """What `python eval.py` takes."""

    scenario: Scenario
    dataset: Literal["synthetic", "alibaba"] = "synthetic"  # where the services' DAGs come from
    config: str = "default"  # name in configs/ or path of a YAML file; its scenario is used, flags override it
    episodes: int = 256  # of the test split, the same for every policy
    seed: int = 0  # draws the episodes
    checkpoint: Path | None = None  # policy.msgpack or run folder; by default the newest run, else the one shipped
    trace: str | None = None  # your own batch_task.csv, with --dataset alibaba
    clairvoyant: int = 0  # generations of a search that knows the future: one more row, for minutes
    out: Path | None = None  # folder to make for the results; by default runs/<time>-eval-<dataset>

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"--episodes: got {self.episodes}; must be at least 1")
        if self.seed < 0:
            raise ValueError(f"--seed: got {self.seed}; must be at least 0")
        if self.clairvoyant < 0:
            raise ValueError(f"--clairvoyant: got {self.clairvoyant}; must be at least 0")


@dataclasses.dataclass(frozen=True)
class Result:
    """One policy's episodes and how fast they ran."""

    episodes: Episodes
    decisions_per_s: float

    @property
    def moved(self) -> float:
        """Share of decisions for another host than the source's edge node."""
        return float(self.episodes.moved.sum() / self.episodes.decisions.sum())


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> None:
    def base(name: str) -> EvalCommand:
        return EvalCommand(scenario=load_config(name).scenario, config=name)

    command = parse(EvalCommand, arguments, __doc__ or "", base)
    use_compilation_cache()
    scenario = dataclasses.replace(
        command.scenario, dataset=command.dataset, trace=command.trace or command.scenario.trace
    )
    folder = command.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-eval-{command.dataset}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out: {folder} is there and not an empty folder; name another one")
    env, env_params = make_env(scenario, "test", announced_jobs(scenario))
    contenders, checkpoints = _contenders(command.checkpoint, env, env_params)
    results = _play(env, env_params, contenders, command.seed, command.episodes)
    if command.clairvoyant:
        results["clairvoyant"] = _search(env, env_params, contenders, command)
    _print_tables(results, f"{command.dataset}, {scenario.name}, {command.episodes} test episodes")
    _write(folder, command, scenario, results, checkpoints)
    console.print(f"written: {folder} holds act.png, episodes.csv and results.json")


def _contenders(checkpoint: Path | None, env: CECEnv, env_params: EnvParams) -> tuple[list[Contender], dict[str, str]]:
    """Every baseline and every learned policy there is, and where the learned ones come from."""
    observation = jax.eval_shape(env.reset_env, jax.random.key(0), env_params)[0]
    contenders = [Contender.of_rule(name, policy) for name, policy in BASELINES.items()]
    contenders.append(Contender.of_planner("eft-rollout", env, PlanConfig(), prefer_priced_finish))
    contenders.append(Contender.of_random_plans("best-of-random", env, RANDOM_PLANS))
    sources = {}
    for name in reversed(ALGORITHMS):
        for path in _policy_paths(name, checkpoint):
            try:
                config, params, run = load_policy(path, observation)
            except ValueError as error:
                if path.parent == PRETRAINED or checkpoint is not None:
                    raise
                console.print(f"{name}: not used: {error}")
                continue
            console.print(f"{name}: {'the policy shipped' if path.parent == PRETRAINED else path} ({run})")
            contenders.append(Contender.of_agent(name, act(config, env), params))
            sources[name] = str(path)
            break
        else:
            console.print(f"{name}: no policy; train one with: python train.py --agent.algorithm {name}")
    return contenders, sources


def _policy_paths(name: str, checkpoint: Path | None) -> list[Path]:
    """Where a policy of this algorithm may be: the one named; else the newest runs; at last the one shipped."""
    shipped = [path for path in [PRETRAINED / f"{name}.msgpack"] if path.is_file()]
    if checkpoint is not None:
        named = checkpoint / "policy.msgpack" if checkpoint.is_dir() else checkpoint
        return [named] if policy_algorithm(named) == name else shipped
    runs = sorted(Path("runs").glob("*/policy.msgpack"), key=lambda p: p.stat().st_mtime, reverse=True)
    return [path for path in runs if policy_algorithm(path) == name] + shipped


def _play(env: CECEnv, env_params: EnvParams, contenders: list[Contender], seed: int, count: int) -> dict[str, Result]:
    """The same episodes under every policy, batch by batch."""
    batches = _batches(seed, count)
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


def _search(env: CECEnv, env_params: EnvParams, contenders: list[Contender], command: EvalCommand) -> Result:
    """The same episodes for whoever knows their future; its time is that of the search."""
    start = [contender for contender in contenders if contender.name in SEARCHED_FROM]
    config = SearchConfig(generations=command.clairvoyant)
    batches = _batches(command.seed, command.episodes)
    search_keys = jax.random.split(jax.random.key(command.seed), len(batches))
    parts, begin = [], time.perf_counter()
    with progress_bar() as progress:
        task = progress.add_task("searching", total=len(batches) * config.generations, status="clairvoyant")

        def report(act: float) -> None:
            progress.update(task, advance=1, status=f"clairvoyant, ACT {_seconds(act)} s")

        for batch, key in zip(batches, search_keys, strict=True):
            episodes = clairvoyant(env, env_params, start, config, batch, key, report)
            parts.append(jax.tree.map(np.asarray, episodes))
    joined = _joined(parts)
    return Result(joined, float(joined.decisions.sum()) / (time.perf_counter() - begin))


def _batches(seed: int, count: int) -> list[chex.PRNGKey]:
    keys = episode_keys(seed, count)
    return [keys[i : i + BATCH] for i in range(0, count, BATCH)]


def _joined(parts: list[Episodes]) -> Episodes:
    return Episodes(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _print_tables(results: dict[str, Result], title: str) -> None:
    table = Table(title=title)
    for column in ("policy", "ACT (s)", "95 % interval", "moved", "decisions/s", "merges"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name, result in results.items():
        interval = bootstrap_mean(result.episodes.act)
        table.add_row(
            name,
            _seconds(interval.mean),
            f"{_seconds(interval.low)} to {_seconds(interval.high)}",
            f"{100 * result.moved:.1f} %",
            f"{result.decisions_per_s:,.0f}",
            f"{int(result.episodes.merges.sum()):,}",
        )
    console.print(table)
    learned = [name for name in ALGORITHMS if name in results]
    if not learned:
        return
    table = Table(title="ACT against each baseline, paired over episodes, 95 % interval")
    table.add_column("baseline")
    for name in learned:
        table.add_column(name, justify="right")
    for baseline in results:
        cells = ["" if name == baseline else _percent(_against(results, name, baseline)) for name in learned]
        if baseline not in learned or len(learned) > 1:
            table.add_row(baseline, *cells)
    console.print(table)


def _against(results: dict[str, Result], name: str, baseline: str) -> Interval:
    return paired_difference(results[name].episodes.act, results[baseline].episodes.act)


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 10.0 else f"{value:.3f}"


def _percent(interval: Interval) -> str:
    mean, low, high = (100.0 * x for x in interval)
    return f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}]"


def _write(
    folder: Path, command: EvalCommand, scenario: Scenario, results: dict[str, Result], checkpoints: dict[str, str]
) -> None:
    """The figure, the episodes and the summary; each file is written whole."""
    acts = {name: bootstrap_mean(result.episodes.act) for name, result in results.items()}
    summary = {
        "dataset": command.dataset,
        "scenario": scenario.name,
        "seed": command.seed,
        "episodes": command.episodes,
        "checkpoint": checkpoints,
        "policies": {
            name: {
                "act": acts[name].mean,
                "act_ci95": [acts[name].low, acts[name].high],
                "decisions_per_s": result.decisions_per_s,
                "moved": result.moved,
                "merges": int(result.episodes.merges.sum()),
                "difference": {other: _against(results, name, other)._asdict() for other in results if other != name},
            }
            for name, result in results.items()
        },
        "settings": dataclasses.asdict(scenario),
    }
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["episode", "policy", *Episodes._fields])
    for name, result in results.items():
        writer.writerows([i, name, *row] for i, row in enumerate(zip(*result.episodes, strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / "episodes.csv", text.getvalue())
    try:
        act_bars(acts, folder / "act.png", f"{command.dataset}, {scenario.name}, {command.episodes} episodes")
    except ImportError as error:
        console.print(f"no act.png: {error}")
    write_aside(folder / "results.json", json.dumps(summary, indent=2) + "\n")
