"""`python train.py`: train an agent, show the progress, and write a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import chex
import filelock
import jax
import jax.numpy as jnp
import tyro
from jax.sharding import Mesh

from jaxcec.agents import NotFiniteError, Report, RunFolder, train
from jaxcec.agents.sharding import check_divisible, is_main_process, replicated
from jaxcec.agents.training import validation_keys
from jaxcec.commands.console import command_line, console, progress_bar
from jaxcec.commands.runtime import choose_mesh, join_processes, use_compilation_cache
from jaxcec.commands.settings import TrainConfig, guarded, load_config, parse, save_config
from jaxcec.commands.worlds import open_world
from jaxcec.env import Action, CECEnv, EnvParams, Observation, World
from jaxcec.evaluation import rollout
from jaxcec.files import check_empty_folder
from jaxcec.policies import BASELINES

REFERENCES = ("local", "eft")


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """The command line of `python train.py`."""

    run: Annotated[TrainConfig, tyro.conf.arg(name="")]
    config: str = "default"  # name in configs/ or path of a YAML file; flags override it
    out: Path | None = None  # run folder to make; by default runs/<time>-<algorithm>
    resume: Path | None = None  # run folder to continue; its settings hold, except for --total-decisions
    save_every: float = 300.0  # s between checkpoints
    devices: str = "1"  # that share the environments: a number (on CPUs, of cores), or all
    coordinator: str | None = None  # HOST:PORT of the first of several processes; auto under Slurm and similar systems
    num_processes: int | None = None  # with --coordinator: how many there are
    process_id: int | None = None  # with --coordinator: which of them this is, from 0


@guarded()
def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    command = parse(TrainCommand, arguments, __doc__ or "", lambda name: TrainCommand(load_config(name), name))
    if command.coordinator is not None and command.out is None and command.resume is None:
        raise ValueError("--coordinator: needs --out or --resume, the same folder for every process")
    use_compilation_cache()
    join_processes(command.coordinator, command.num_processes, command.process_id)
    mesh = choose_mesh(command.devices)
    if command.resume is not None:
        config, folder = _resumed(command), command.resume
    else:
        config = command.run
        folder = command.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{config.agent.algorithm}"
        if is_main_process():
            check_empty_folder("--out", folder, f", or --resume {folder}")
    check_divisible(config.num_envs, mesh)
    console.quiet = not is_main_process()
    with _StopFlag() as stop:
        run(config, folder, resume=command.resume is not None, stop=stop, mesh=mesh, save_every=command.save_every)


def _resumed(command: TrainCommand) -> TrainConfig:
    """The run's own settings; only its length may be changed."""
    saved, asked, default = load_config(f"{command.resume}/config.yaml"), command.run, load_config(command.config)
    if dataclasses.replace(asked, total_decisions=default.total_decisions) != default or command.config != "default":
        raise ValueError("--resume: the run's own settings hold; only --total-decisions may be given with it")
    if asked.total_decisions != default.total_decisions:
        return dataclasses.replace(saved, total_decisions=asked.total_decisions)
    return saved


def run(
    config: TrainConfig, folder: Path, *, resume: bool, stop: _StopFlag, mesh: Mesh | None, save_every: float
) -> None:
    """Train into a run folder: config.yaml, metrics.csv, curves.png, policy.msgpack, checkpoints/.

    To resume is to continue from the folder's newest checkpoint, or from the start if it has none. Checkpoints are
    `save_every` s apart; once `stop` is set, training saves and ends.

    Raises:
        ValueError: a checkpoint is damaged or does not fit; or training diverged.
    """
    env, params, *_ = open_world(config.trained_on, "train", config.world)
    key = jax.random.key(config.seed)
    if mesh is not None:
        params, key = replicated(mesh, (params, key))
    with _locked(folder):
        networks = " on varied networks" if config.trained_on.network == "varied" else ""
        scenario = config.world or f"{config.scenario.dataset}/{config.scenario.name}{networks}"
        origin = f"train.py, {scenario}, seed {config.seed}"
        keeper = RunFolder(folder, config.agent, env.config, origin=origin, save_every=save_every, exist_ok=True)
        state = None
        if resume:
            state = keeper.load(env, params, num_envs=config.num_envs, mesh=mesh, report=console.print)
            console.print(f"resuming {folder} at {keeper.step * config.num_envs:,} decisions")
        if is_main_process():
            save_config(config, folder / "config.yaml")
        keeper.references = _references(env, params, validation_keys(key))
        known = ", ".join(f"{name} {act:.1f} s" for name, act in keeper.references.items())
        console.print(f"{config.agent.algorithm} on {scenario}; validation ACT: {known}")
        with _Display(keeper, steps=-(-config.total_decisions // config.num_envs)) as display:

            def callback(report: Report) -> bool:
                keeper(report)
                display(report)
                return stop.requested

            try:
                train(
                    env,
                    params,
                    config.agent,
                    num_envs=config.num_envs,
                    total_decisions=config.total_decisions,
                    key=key,
                    callback=callback,
                    resume=state,
                    mesh=mesh,
                )
            except NotFiniteError as error:
                raise ValueError(f"{error}; {folder} holds the policy and the checkpoints from before") from None
            keeper.save()
    if display.finished:
        console.print(f"done: {folder} holds config.yaml, metrics.csv, curves.png, policy.msgpack and checkpoints/")
    else:
        console.print(f"stopped and saved; continue with: {command_line('train', '--resume', str(folder))}")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a run folder, and lock it against other runs as long as this process lives."""
    if not is_main_process():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", blocking=False):
            yield
    except filelock.Timeout:
        raise ValueError(f"{folder}: another run is using it; wait for it, or name another folder") from None


def _references(env: CECEnv, params: EnvParams, keys: chex.PRNGKey) -> dict[str, float]:
    """ACT of the reference policies on the validation episodes, s."""
    return {
        name: float(rollout(env, params, apply=_reference, params=jnp.int32(i), keys=keys).act.mean())
        for i, name in enumerate(REFERENCES)
    }


def _reference(which: chex.Array, observation: Observation, _: World, key: chex.PRNGKey) -> Action:
    """One of REFERENCES by its index, so that they share one compiled program."""
    return jax.lax.switch(which, [BASELINES[name] for name in REFERENCES], observation, key)


class _Display:
    """A callback that shows reports: a bar for each stage, or in a file a line for a tenth of it or a validation."""

    def __init__(self, keeper: RunFolder, *, steps: int):
        self.finished = keeper.step >= steps
        self._keeper = keeper
        self._progress = progress_bar()
        self._task = self._progress.add_task("compiling", total=steps, completed=keeper.step, status="")
        self._stage = ""

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._keeper.warning:
            console.print(self._keeper.warning)

    def __call__(self, report: Report) -> None:
        if self._stage not in ("", report.stage):
            self._task = self._progress.add_task(report.stage, status="")
        self._stage = report.stage
        self.finished = report.stage == "training" and report.done >= report.total
        status = _status(self._keeper) if report.stage == "training" else _evolving(report.metrics)
        self._progress.update(
            self._task, description=report.stage, completed=report.done, total=report.total, status=status
        )
        tenth = report.stage == "evolution" and report.done % max(report.total // 10, 1) == 0
        if (tenth or "validation_act" in report.metrics) and not console.is_terminal:
            console.print(f"{report.stage} {min(report.done / report.total, 1.0):4.0%}  {status}")


def _evolving(metrics: dict[str, float | None]) -> str:
    """ACT of the episodes of a generation, and the error of a learned twin's predicted waits in them."""
    twin = [f"twin off by {metrics['twin_error']:.1f} s"] if "twin_error" in metrics else []
    return " ".join([f"ACT {metrics['act']:.0f} s", *twin])


def _status(keeper: RunFolder) -> str:
    """Speed, validation ACT and losses of the newest row, in a line."""
    row = keeper.rows[-1]
    acts = [r["validation_act"] for r in keeper.rows if r.get("validation_act") is not None]
    speed = [f"{row['decisions_per_s']:,.0f}/s"] if row.get("decisions_per_s") else []
    shown = {"critic": "critic_loss", "actor": "actor_loss", "twin": "twin_error"}
    losses = [f"{name} {row[column]:.2f}" for name, column in shown.items() if column in row]
    return " ".join([*speed, f"ACT {acts[-1]:.0f} s" if acts else "ACT -", *losses])


class _StopFlag:
    """Turns Ctrl-C and SIGTERM into a request to stop after the current chunk; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> _StopFlag:
        self._before = {s: signal.signal(s, self._request) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, _: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        console.print("stopping after this chunk; saving")
