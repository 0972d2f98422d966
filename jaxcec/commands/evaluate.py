"""`python eval.py`: every policy on the same held-out test episodes, with paired differences and intervals."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Literal

import chex
import jax
import numpy as np
from jax.sharding import Mesh

from jaxcec.agents import LEARNERS
from jaxcec.agents.sharding import number_of_groups, shard_leading_axis
from jaxcec.checks import check_numbers
from jaxcec.commands.console import command_line, console, format_seconds, progress_bar
from jaxcec.commands.contenders import IF_NAMED, PolicyChoice, contenders_for
from jaxcec.commands.paper_grids import run_sweep
from jaxcec.commands.play_suite import run_suite
from jaxcec.commands.runtime import choose_mesh, replicate_policies, use_compilation_cache
from jaxcec.commands.settings import guarded, load_config, parse, save_config
from jaxcec.commands.show_schedule import record_all, show_schedule
from jaxcec.commands.tables import (
    Cells,
    Means,
    Results,
    act_table,
    difference,
    difference_table,
    means_of,
    measure_table,
)
from jaxcec.commands.worlds import Opened, in_file_name, open_world, title_of
from jaxcec.commands.write_report import write_report
from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation import MeasureConfig, act_bars, clairvoyant
from jaxcec.evaluation.rollout import MEASURES, Contender, Result, decisions_of, episode_keys, timed_rollout
from jaxcec.experiments import with_paper_setting
from jaxcec.files import check_empty_folder, csv_text, write_aside, write_json
from jaxcec.policies import SearchConfig
from jaxcec.scenarios import Scenario

BATCH = 256  # episodes that are searched, or divided into groups, together
GROUPS = 4  # at most, of episodes with similar numbers of decisions, which are played one after the other
LEAST = 32  # episodes in a group, at least


@dataclasses.dataclass(frozen=True)
class EvalCommand:
    """Options of `python eval.py`."""

    scenario: Scenario
    # Source of the services' DAGs: synthetic, alibaba, or whatever --scenario.dataset takes; by default that of the
    # configuration, or synthetic if that trains on both.
    dataset: str | None = None
    world: str | None = None  # your own environment: MODULE:FUNCTION, from a split (train, test) to (env, params)
    config: str = "default"  # name in configs/ or path of a YAML file whose scenario is used; flags override it
    sweep: Literal["services", "microservices", "bandwidth", "all"] | None = None  # play a grid of Fig. 4 and 5 instead
    suite: tuple[str, ...] = ()  # play named worlds with published episodes instead: their names, or all
    schedule: tuple[Path, ...] = ()  # one episode into .html, .png, .csv or .json files instead; eft and dtdrlmo-plan
    episodes: int | None = None  # number of test episodes; by default 256, or 32 at each point of a sweep
    seed: int = 0  # of the episodes
    policies: tuple[
        str, ...
    ] = ()  # names of the policies to play; by default all but twin-plan, dtdrlmo-exact and, in a sweep, the slow
    policy: tuple[str, ...] = ()  # your own policies, MODULE:FUNCTION each: from an observation and a key to an Action
    checkpoint: Path | None = None  # policy.msgpack or run folder; by default the newest run, else the policy shipped
    plan_steps: int | None = None  # decisions that planners simulate ahead; by default what their settings say
    trace: str | None = None  # path of your own batch_task.csv, with --dataset alibaba
    clairvoyant: int | None = None  # generations of a search that knows the future; by default 0, or 10 in a sweep
    metrics: tuple[str, ...] = ()  # measures that are the columns of the table; by default ACT, moved, speed and merges
    deadline: float = MeasureConfig.deadline  # of each service, as a multiple of its lower bound; for `missed`
    devices: str = "1"  # number of devices (on CPUs, of cores) that share the episodes, or all
    report: Path | None = None  # folder for the results, with a page of all tables, figures and schedules
    out: Path | None = None  # folder for the results; by default runs/<time>-eval-<dataset>; a sweep continues there

    def __post_init__(self) -> None:
        modes = [name for name in ("sweep", "suite", "schedule", "report") if getattr(self, name)]
        if len(modes) > 1:
            raise ValueError(f"--{modes[0]}, --{modes[1]}: got both; must be given one at a time")
        if self.report and self.out:
            raise ValueError(f"--out: got {self.out}; must be left out with --report, which names the folder")
        if self.sweep and self.world:
            raise ValueError(
                "--sweep, --world: got both; a sweep changes settings of the scenario, which a world has not"
            )
        for name in ("dataset", "world", "trace", "episodes"):
            if self.suite and getattr(self, name) is not None:
                raise ValueError(f"--suite, --{name}: got both; the suite has worlds and episodes of its own")
        if self.metrics and (self.sweep or self.suite or self.schedule):
            raise ValueError(
                f"--metrics: got {' '.join(self.metrics)}; must be left out with --sweep, --suite and --schedule"
            )
        unknown = [name for name in self.metrics if name not in MEASURES]
        if unknown:
            raise ValueError(f"--metrics: got {unknown[0]!r}; must be of {', '.join(MEASURES)}")
        check_numbers(
            self, "--", least={"episodes": 1, "seed": 0, "clairvoyant": 0, "plan_steps": 0}, positive=("deadline",)
        )

    @property
    def count(self) -> int:
        """Number of episodes, at each point of a sweep."""
        return self.episodes or (32 if self.sweep else 256)

    @property
    def generations(self) -> int:
        """Generations of the search that knows the future."""
        return self.clairvoyant if self.clairvoyant is not None else 10 if self.sweep else 0

    @property
    def played(self) -> Scenario:
        """The scenario with the dataset and the trace of the command line."""
        trained = self.scenario.dataset
        dataset = self.dataset or ("synthetic" if trained == "both" else trained)
        return dataclasses.replace(self.scenario, dataset=dataset, trace=self.trace or self.scenario.trace)

    @property
    def measuring(self) -> MeasureConfig:
        """The numbers that the measures depend on."""
        return MeasureConfig(deadline=self.deadline)

    @property
    def choice(self) -> PolicyChoice:
        """The policies to play."""
        return PolicyChoice(
            names=self.policies, own=self.policy, checkpoint=self.checkpoint, plan_steps=self.plan_steps
        )

    def repeated(self, folder: Path) -> str:
        """The command line that repeats this evaluation with the settings that it saved in its folder."""
        words = ["--config", str(folder / "config.yaml"), *(["--world", self.world] if self.world else [])]
        words += ["--episodes", str(self.count), "--seed", str(self.seed), "--clairvoyant", str(self.generations)]
        words += ["--deadline", str(self.deadline), *(["--metrics", *self.metrics] if self.metrics else [])]
        return command_line("eval", *words, *self.choice.words)


@guarded()
def main(arguments: list[str] | None = None) -> None:
    """Entry point."""

    def base(name: str) -> EvalCommand:
        config = load_config(name)
        return EvalCommand(config.scenario, config=name, world=config.world)

    command = parse(EvalCommand, arguments, __doc__ or "", base)
    use_compilation_cache()
    mesh = choose_mesh(command.devices)
    scenario = command.played
    kind = "sweep" if command.sweep else "suite" if command.suite else "eval"
    source = in_file_name(command.world or "-".join(command.suite) or scenario.dataset)
    default = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}-{source}"
    folder = command.report or command.out or default
    if command.schedule:
        show_schedule(
            command.schedule,
            scenario,
            choice=command.choice,
            seed=command.seed,
            measuring=command.measuring,
            world=command.world,
        )
    elif command.suite:
        run_suite(command.suite, folder, choice=command.choice, generations=command.generations)
    elif command.sweep:
        run_sweep(
            with_paper_setting(scenario) if command.config == "default" else [scenario],
            folder,
            sweep=command.sweep,
            choice=command.choice,
            seed=command.seed,
            episodes=command.count,
            generations=command.generations,
            mesh=mesh,
        )
    else:
        evaluate(command, scenario, folder, mesh=mesh)


def evaluate(command: EvalCommand, scenario: Scenario, folder: Path, *, mesh: Mesh | None) -> None:
    """Evaluate the policies in one scenario, print the tables, and write the results.

    Raises:
        ValueError: the folder is not empty, or a policy does not exist.
    """
    check_empty_folder("--report" if command.report else "--out", folder)
    opened = open_world(scenario, "test", command.world)
    env, env_params = opened.env, opened.params
    contenders, sources = contenders_for(command.choice, env, env_params, by_default=lambda name: name not in IF_NAMED)
    env_params, contenders = replicate_policies(mesh, env_params, contenders)
    keys = episode_keys(command.seed, command.count)
    batches = [shard_leading_axis(mesh, keys[i : i + BATCH]) for i in range(0, command.count, BATCH)]
    results = _play(env, env_params, contenders, keys, mesh=mesh, measuring=command.measuring)
    if command.generations:
        results["clairvoyant"] = _search(env, env_params, results, batches, command=command)
    title = f"{title_of(scenario, command.world)}, {command.count} test episodes"
    if command.plan_steps is not None:
        title += f", plans of {command.plan_steps} decisions"
    information = {contender.name: contender.information for contender in contenders} | {"clairvoyant": "future"}
    means = means_of(results)
    tables = _tables(command, results, means, title=title, information=information)
    for table in tables:
        console.print(table.for_terminal())
    _write(
        folder, command, scenario, results=results, means=means, information=information, sources=sources, opened=opened
    )
    if command.report:
        write_report(
            folder,
            title=title_of(scenario, command.world),
            command=command.repeated(folder),
            seed=command.seed,
            episodes=command.count,
            tables=[*tables, measure_table(means, MEASURES, title="all measures", information=information)],
            sources=sources,
            remarks=opened.remarks,
            schedules=record_all(opened, contenders, seed=command.seed, measuring=command.measuring),
        )
    console.print(f"written: {folder} holds {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _tables(
    command: EvalCommand, results: Results, means: Means, *, title: str, information: dict[str, str]
) -> list[Cells]:
    """The table of the policies, and the one of differences if there is something to compare."""
    if command.metrics:
        table = measure_table(means, command.metrics, title=title, information=information)
    else:
        table = act_table(results, title, information)
    return list(filter(None, (table, difference_table(results))))


def _play(
    env: CECEnv,
    env_params: EnvParams,
    contenders: list[Contender],
    keys: chex.PRNGKey,
    *,
    mesh: Mesh | None,
    measuring: MeasureConfig,
) -> Results:
    """Play the same episodes under every policy, in batches of similar numbers of decisions."""
    together = min(len(keys), BATCH)
    size = together // number_of_groups(together, mesh, most=min(GROUPS, together // LEAST))
    order = np.argsort(jax.jit(decisions_of, static_argnums=0)(env, env_params, keys), kind="stable")
    batches = [shard_leading_axis(mesh, keys[order[i : i + size]]) for i in range(0, len(keys), size)]
    results = {}
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=len(contenders) * len(keys), status="")
        for contender in contenders:
            progress.update(task, status=contender.name)
            parts = []
            for batch in batches:
                parts.append(timed_rollout(env, env_params, contender, batch, measuring=measuring))
                progress.advance(task, len(batch))
            results[contender.name] = Result.joined(parts).in_order(np.argsort(order))
    return results


def _search(
    env: CECEnv, env_params: EnvParams, results: Results, batches: list[chex.PRNGKey], *, command: EvalCommand
) -> Result:
    """Search for the best timetables of the same episodes; its time is that of the search."""
    config = SearchConfig(generations=command.generations)
    search_keys = jax.random.split(jax.random.key(command.seed), len(batches))
    parts = []
    with progress_bar() as progress:
        task = progress.add_task("searching", total=len(batches) * config.generations, status="clairvoyant")

        def report(act: float) -> None:
            progress.update(task, advance=1, status=f"clairvoyant, ACT {format_seconds(act)} s")

        for index, (batch, key) in enumerate(zip(batches, search_keys, strict=True)):
            rows = slice(index * BATCH, (index + 1) * BATCH)
            played = [jax.tree.map(lambda x, rows=rows: x[rows], result.episodes) for result in results.values()]
            begin = time.perf_counter()
            found = clairvoyant(
                env,
                env_params,
                batch,
                played=played,
                config=config,
                search_key=key,
                report=report,
                measuring=command.measuring,
            )
            parts.append(Result(jax.tree.map(np.asarray, found), time.perf_counter() - begin))
    return Result.joined(parts)


def _write(
    folder: Path,
    command: EvalCommand,
    scenario: Scenario,
    *,
    results: Results,
    means: Means,
    information: dict[str, str],
    sources: dict[str, str],
    opened: Opened,
) -> None:
    """Write the settings, every episode and service, the figure and a summary."""
    acts = {name: measured["act"] for name, measured in means.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_config(scenario, folder / "config.yaml")
    write_aside(folder / "episodes.csv", _episodes_csv(results))
    write_aside(folder / "services.csv", _services_csv(results, opened, deadline=command.deadline))
    try:
        title = f"{title_of(scenario, command.world)}, {command.count} episodes"
        act_bars(acts, folder / "act.png", title=title, highlighted=LEARNERS)
    except ImportError as error:
        console.print(f"no act.png: {error}")
    summary = {
        "dataset": scenario.dataset,
        "world": command.world,
        "sources": list(opened.remarks),
        "scenario": scenario.name,
        "seed": command.seed,
        "episodes": command.count,
        "plan_steps": command.plan_steps,
        **dataclasses.asdict(command.measuring),
        "checkpoint": sources,
        "repeat": command.repeated(folder),
        "policies": {
            name: {
                "information": information[name],
                "act": acts[name].mean,
                "act_ci95": [acts[name].low, acts[name].high],
                "decisions_per_s": result.decisions_per_s,
                "moved": result.moved,
                "merges": int(result.episodes.merges.sum()),
                "measures": {
                    measure: {"mean": interval.mean, "ci95": [interval.low, interval.high]}
                    for measure, interval in means[name].items()
                },
                "difference": {other: difference(results, name, other)._asdict() for other in results if other != name},
            }
            for name, result in results.items()
        },
        "settings": dataclasses.asdict(scenario),
    }
    write_json(folder / "results.json", summary)


def _episodes_csv(results: Results) -> str:
    """The measures of every episode under each policy."""
    rows = (
        [episode, name, *measures]
        for name, result in results.items()
        for episode, measures in enumerate(zip(*result.episodes[: len(MEASURES)], strict=True))
    )
    return csv_text(["episode", "policy", *MEASURES], rows)


def _services_csv(results: Results, opened: Opened, *, deadline: float) -> str:
    """The measures of every service under each policy, with its workflow and the node at which it arrived."""
    names, num_nodes = opened.names, opened.env.config.num_nodes
    dags, sources = (np.asarray(x).tolist() for x in (opened.params.arrivals.dag, opened.params.arrivals.source))
    columns = ("topology", "arrivals", "completion", "slowdown")
    rows = (
        [episode, policy, service, names.workflow(dag), nodes[source], completion, slowdown, int(slowdown > deadline)]
        for policy, result in results.items()
        for episode, (topology, pattern, *measured) in enumerate(
            zip(*(getattr(result.episodes, name) for name in columns), strict=True)
        )
        for nodes in [names.nodes(topology, num_nodes)]
        for service, (dag, source, completion, slowdown) in enumerate(
            zip(dags[pattern], sources[pattern], *measured, strict=True)
        )
    )
    header = ["episode", "policy", "service", "workflow", "source", "completion", "slowdown", "missed"]
    return csv_text(header, rows)
