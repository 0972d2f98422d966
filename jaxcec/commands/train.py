"""`python train.py`: train an agent, show how it goes, and leave a run folder behind."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import chex
import filelock
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.sharding import Mesh
from rich.progress import Progress

from jaxcec.agents.act import act
from jaxcec.agents.checkpoint import load_runner, save_policy, save_runner
from jaxcec.agents.sharding import env_mesh, placed, replicated
from jaxcec.agents.training import RunnerState, evolve_prices, init_runner, train_chunk, warm_up
from jaxcec.commands.console import command_line, console, load_and_report_jobs, progress_bar
from jaxcec.commands.runtime import any_process, choose_mesh, is_main_process, join_processes, use_compilation_cache
from jaxcec.commands.settings import TrainConfig, guarded, load_config, parse, save_config
from jaxcec.env import Action, CECEnv, EnvParams, Observation, World
from jaxcec.evaluation import episode_keys, rollout, training_curves
from jaxcec.files import write_aside
from jaxcec.policies import BASELINES
from jaxcec.scenarios import make_env

VALIDATIONS = 8  # in a run
VALIDATION_EPISODES = 64  # of the training banks: the test split is for eval.py alone
CHUNKS_BETWEEN_VALIDATIONS = 8
REFERENCES = ("local", "eft")


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """What `python train.py` takes."""

    run: Annotated[TrainConfig, tyro.conf.arg(name="")]
    config: str = "default"  # name in configs/ or path of a YAML file; flags override it
    out: Path | None = None  # run folder to make; by default runs/<time>-<algorithm>
    resume: Path | None = None  # run folder to go on with; its settings hold, but for --total-decisions
    save_every: float = 300.0  # s between checkpoints
    devices: str = "1"  # that share the environments: a number (on CPUs, of cores), or all
    coordinator: str | None = None  # HOST:PORT of the first of several processes; auto under Slurm and the like
    num_processes: int | None = None  # with --coordinator: how many there are
    process_id: int | None = None  # with --coordinator: which of them this is, from 0


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> None:
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
        if is_main_process() and folder.exists() and any(folder.iterdir()):
            raise ValueError(f"--out: {folder} is not empty; name another folder, or --resume {folder}")
    console.quiet = not is_main_process()
    with _StopFlag() as stop:
        train(config, folder, command.resume is not None, stop, mesh, command.save_every)


def _resumed(command: TrainCommand) -> TrainConfig:
    """The run's own settings; only its length may be changed."""
    saved, asked, default = load_config(f"{command.resume}/config.yaml"), command.run, load_config(command.config)
    if dataclasses.replace(asked, total_decisions=default.total_decisions) != default or command.config != "default":
        raise ValueError("--resume: the run's own settings hold; only --total-decisions may be given with it")
    if asked.total_decisions != default.total_decisions:
        return dataclasses.replace(saved, total_decisions=asked.total_decisions)
    return saved


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make a run folder, and keep it from other runs as long as this process lives."""
    if not is_main_process():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", blocking=False):
            yield
    except filelock.Timeout:
        raise ValueError(f"{folder}: another run is at work in it; wait for it, or name another folder") from None


def train(
    config: TrainConfig, folder: Path, resume: bool, stop: _StopFlag, mesh: Mesh | None, save_every: float
) -> None:
    """Train into a run folder: config.yaml, metrics.csv, curves.png, policy.msgpack, checkpoints/.

    Args:
        config: the run.
        folder: where to.
        resume: go on from the newest checkpoint in it; if there is none yet, from the start.
        stop: once it is requested, the chunk at hand is the last.
        mesh: the devices that share the environments; None for one.
        save_every: s between checkpoints.

    Raises:
        ValueError: a checkpoint is damaged or does not fit; or numbers in training are no longer finite.
    """
    if mesh is not None and config.num_envs % mesh.size:
        raise ValueError(f"num_envs: got {config.num_envs}; must be a multiple of the number of devices, {mesh.size}")
    env, env_params = make_env(config.scenario, "train", load_and_report_jobs(config.scenario))
    with _alone(folder):
        loop, runner = _begin(config, folder, env, env_params, resume, mesh, save_every)
        stopped = loop.run(runner, stop)
    if stopped:
        console.print(f"stopped and saved; go on with: {command_line('train', '--resume', str(folder))}")
    else:
        console.print(f"done: {folder} holds config.yaml, metrics.csv, curves.png, policy.msgpack and checkpoints/")


def _begin(
    config: TrainConfig,
    folder: Path,
    env: CECEnv,
    env_params: EnvParams,
    resume: bool,
    mesh: Mesh | None,
    save_every: float,
) -> tuple[_Loop, RunnerState]:
    """The loop, and what it goes on from."""
    key, validation_keys = jax.random.key(config.seed), episode_keys(config.seed, VALIDATION_EPISODES)
    if mesh is not None:
        env_params, key, validation_keys = replicated(mesh, (env_params, key, validation_keys))
    rows: list[dict[str, Any]] = []
    runner = None
    if resume:
        like = jax.eval_shape(lambda k: init_runner(env, env_params, config.agent, config.num_envs, k), key)
        like = placed(mesh or env_mesh(jax.devices()[:1]), like)
        runner = load_runner(folder / "checkpoints", like, console.print)
        console.print(f"resuming {folder} at {int(runner.step) * config.num_envs if runner else 0:,} decisions")
    if runner is None:
        runner = init_runner(env, env_params, config.agent, config.num_envs, key, mesh)
    elif (folder / "metrics.csv").is_file():
        rows = [row for row in _read_rows(folder / "metrics.csv") if row["step"] <= int(runner.step)]
    if is_main_process():
        save_config(config, folder / "config.yaml")
    references = _references(env, env_params, validation_keys)
    known = ", ".join(f"{name} {value:.1f} s" for name, value in references.items())
    console.print(
        f"{config.agent.algorithm} on {config.scenario.dataset}/{config.scenario.name}; validation ACT: {known}"
    )
    return _Loop(config, folder, env, env_params, mesh, validation_keys, references, rows, save_every), runner


def _references(env: CECEnv, env_params: EnvParams, keys: chex.PRNGKey) -> dict[str, float]:
    return {
        name: float(rollout(env, env_params, apply=_reference, params=jnp.int32(i), keys=keys).act.mean())
        for i, name in enumerate(REFERENCES)
    }


def _reference(which: chex.Array, observation: Observation, _: World, key: chex.PRNGKey) -> Action:
    """One of REFERENCES by index: they are compiled together."""
    return jax.lax.switch(which, [BASELINES[name] for name in REFERENCES], observation, key)


class _Loop:
    """The host's side of training: compiled chunks, and between them validating, printing, saving."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        env: CECEnv,
        env_params: EnvParams,
        mesh: Mesh | None,
        validation_keys: chex.PRNGKey,
        references: dict[str, float],
        rows: list[dict[str, Any]],
        save_every: float,
    ):
        self.config, self.folder, self.env, self.env_params = config, folder, env, env_params
        self.mesh, self.validation_keys = mesh, validation_keys
        self.references, self.rows = references, rows
        self.steps = -(-config.total_decisions // config.num_envs)
        self.save_every, self.saved = save_every, time.monotonic()
        self.actor = act(config.agent, env)
        # All chunks are of one length, for each length is compiled; the last may go a little beyond what was asked.
        iteration = config.agent.steps_per_iteration
        self.chunk = iteration * max(1, self.steps // (VALIDATIONS * CHUNKS_BETWEEN_VALIDATIONS * iteration))

    def run(self, start: RunnerState, stop: _StopFlag) -> bool:
        """Train to the end; true if it was interrupted. Either way the run is saved."""
        with progress_bar() as progress:
            runner = self._evolve(start, stop, progress)
            if any_process(stop.requested):
                self._save(runner)
                return True
            task = progress.add_task("compiling", total=self.steps, completed=int(runner.step), status="")
            if int(runner.step) == 0:
                runner, metrics = warm_up(
                    self.env, self.env_params, self.config.agent, runner, self.config.agent.warmup_steps, self.mesh
                )
                # The first row is the untrained agent's: what learning is to be seen against.
                self.rows.append(self._row(runner, _summarise(jax.device_get(metrics)), validate=True))
            for chunk in self._chunks(runner):
                runner, row = chunk
                self.rows.append(row)
                progress.update(task, description="training", completed=row["step"], status=_status(self.rows))
                if "validation_act" in row:
                    self._show()
                    if not console.is_terminal:
                        console.print(f"{min(row['step'] / self.steps, 1.0):4.0%}  {_status(self.rows)}")
                if any_process(stop.requested):
                    break
                self._save_now_and_then(runner)
            progress.update(task, description="saving")
            self._save(runner)
        return int(runner.step) < self.steps

    def _evolve(self, runner: RunnerState, stop: _StopFlag, progress: Progress) -> RunnerState:
        """Find the scorer's first prices, unless that is done."""
        if runner.evolution is None:
            return runner
        total, done = self.config.agent.evolution, int(runner.evolution.generation)
        task = progress.add_task("evolving", total=total, completed=done, status="", visible=done < total)
        for generation in range(done, total):
            runner, act = evolve_prices(self.env, self.env_params, self.config.agent, runner, self.mesh)
            progress.update(task, completed=generation + 1, status=f"ACT {float(act):.0f} s")
            if any_process(stop.requested):
                break
            self._save_now_and_then(runner)
        return runner

    def _chunks(self, runner: RunnerState) -> Iterator[tuple[RunnerState, dict[str, Any]]]:
        """Advance chunk by chunk; a row of metrics after each."""
        done = int(runner.step)
        while done < self.steps:
            begin = time.perf_counter()
            runner, metrics = train_chunk(self.env, self.env_params, self.config.agent, runner, self.chunk, self.mesh)
            metrics = jax.device_get(metrics)
            self._check(metrics["finite"], done)
            row = _summarise(metrics)
            row["decisions_per_s"] = self.chunk * self.config.num_envs / (time.perf_counter() - begin)
            done += self.chunk
            often = (done // self.chunk) % CHUNKS_BETWEEN_VALIDATIONS == 0
            yield runner, self._row(runner, row, validate=often or done >= self.steps)

    def _row(self, runner: RunnerState, row: dict[str, Any], validate: bool) -> dict[str, Any]:
        """Metrics with how far the run is, and now and then the ACT without exploration."""
        step = int(runner.step)
        row |= {"step": step, "decisions": step * self.config.num_envs}
        if validate:
            episodes = rollout(
                self.env, self.env_params, apply=self.actor, params=runner.agent.policy, keys=self.validation_keys
            )
            row["validation_act"] = float(episodes.act.mean())
            if is_main_process() and row["validation_act"] <= min(_validations([*self.rows, row])):
                self._save_policy(runner)
        return row

    def _save_policy(self, runner: RunnerState) -> None:
        """Write the policy: it is the best of the validations so far."""
        what = f"train.py, {self.config.scenario.dataset}/{self.config.scenario.name}, seed {self.config.seed}"
        what += f", {int(runner.step) * self.config.num_envs:,} decisions"
        save_policy(self.folder / "policy.msgpack", self.config.agent, runner.agent.policy, self.env.config, what)

    def _check(self, finite: np.ndarray, done: int) -> None:
        """Refuse to go on from what is not finite."""
        if not finite.all():
            step = done + (int(finite.argmin()) + 1) * self.config.agent.steps_per_iteration
            raise ValueError(
                f"step {step}: a loss, a reward or a parameter is no finite number; {self.folder} holds the policy and"
                " the checkpoints of before; try lower learning rates or reward_scale"
            )

    def _save_now_and_then(self, runner: RunnerState) -> None:
        if any_process(time.monotonic() - self.saved > self.save_every):
            self._save(runner)
            self.saved = time.monotonic()

    def _save(self, runner: RunnerState) -> None:
        self._show()  # first: whoever goes on leaves out the rows after the checkpoint, but cannot make up missing ones
        save_runner(self.folder / "checkpoints", runner)

    def _show(self) -> None:
        """Write how it went so far, for whoever looks while training goes on."""
        if not is_main_process():
            return
        _write_rows(self.folder / "metrics.csv", self.rows)
        if not self.rows:
            return
        try:
            training_curves(self.rows, self.folder / "curves.png", self.references)
        except ImportError as error:
            console.print(f"no curves.png: {error}")


class _StopFlag:
    """Turns Ctrl-C and SIGTERM into a request to stop after the chunk at hand; a second Ctrl-C interrupts at once."""

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


def _status(rows: list[dict[str, Any]]) -> str:
    """One line on how it goes; ACT is the newest validation's."""
    row = rows[-1]
    acts = _validations(rows)
    parts = [f"{row['decisions_per_s']:,.0f}/s", f"ACT {acts[-1]:.0f} s" if acts else "ACT -"]
    shown = {"critic": "critic_loss", "actor": "actor_loss", "twin": "twin_error"}
    return " ".join(parts + [f"{name} {row[column]:.2f}" for name, column in shown.items() if column in row])


def _validations(rows: list[dict[str, Any]]) -> list[float]:
    """ACT of every validation, s."""
    return [row["validation_act"] for row in rows if row.get("validation_act") not in (None, "")]


def _summarise(metrics: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over a chunk; ACT over the episodes that ended in it, empty if none did."""
    episodes = float(metrics["episodes"].sum())
    row = {
        name: float(np.mean(metrics[name]))
        for name in metrics
        if name not in ("episodes", "act_sum", "merges", "finite")
    }
    return row | {
        "episodes": int(episodes),
        "act": float(metrics["act_sum"].sum()) / episodes if episodes else "",
        "merges": int(metrics["merges"].sum()),
    }


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_aside(path, text.getvalue())


def _read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open() as file:
        rows = [{name: float(x) if x else "" for name, x in row.items()} for row in csv.DictReader(file)]
    return [row | {name: int(row[name]) for name in ("step", "decisions", "episodes", "merges")} for row in rows]
