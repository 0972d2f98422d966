"""Training: first prices by evolution, warm-up, then the compiled loop (`agents.loop`).

`train` runs the loop in chunks, validates between them, and reports to a callback. `train_jittable` is a whole run as
one pure function.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.evolution import Evolution, evolve, with_found_prices
from jaxcec.agents.learners import PolicyFunction, learner_for
from jaxcec.agents.loop import RunnerState, init_runner, runner_sharding, train_chunk, warm_up
from jaxcec.agents.sharding import any_process, check_divisible, env_mesh, replicated, sharding_of
from jaxcec.agents.trained_policy import TrainedPolicy
from jaxcec.agents.types import AgentState, Metrics
from jaxcec.env import CECEnv, EnvParams, check_params
from jaxcec.evaluation.rollout import rollout

CHUNKS = 64  # of a run
CHUNKS_BETWEEN_VALIDATIONS = 8
VALIDATION_EPISODES = 64


class TrainState(struct.PyTreeNode):
    """Everything that a run continues from and a checkpoint holds."""

    runner: RunnerState
    best: Any  # parameters of the policy of the best validation; before the first one, the untrained policy
    best_act: chex.Array  # () s, mean ACT in that validation; infinite before the first one


class NotFiniteError(ValueError):
    """A loss, a reward or a parameter was not finite."""


@dataclasses.dataclass(frozen=True)
class Report:
    """The state of a run after a generation of the evolution strategy or a chunk of training."""

    stage: str  # `evolution` or `training`
    done: int  # generations, or decisions in each environment
    total: int
    metrics: dict[str, float | None]  # see `summarise`; None where nothing was measured
    state: TrainState  # its arrays are donated when training continues: save them now or not at all
    improved: bool = False  # whether `state.best` is new


Callback = Callable[[Report], object]
Evolving = tuple[AgentState, Evolution, chex.PRNGKey]


def train(
    env: CECEnv,
    params: EnvParams,
    config: AgentConfig,
    *,
    num_envs: int,
    total_decisions: int,
    key: chex.PRNGKey,
    callback: Callback | None = None,
    validation_episodes: int = VALIDATION_EPISODES,
    report_every: int | None = None,
    resume: TrainState | None = None,
    mesh: Mesh | None = None,
) -> TrainedPolicy:
    """Train an agent: first prices by evolution, warm-up, then compiled chunks with validations between them.

    Args:
        env: the environment.
        params: its banks, for training and for validation; with a mesh, on every device of it.
        config: the settings, with plain numbers.
        num_envs: environments that are stepped together; with a mesh, a multiple of the number of its devices.
        total_decisions: over all environments, rounded up to whole chunks.
        key: draws networks, exploration, and the episodes of training and validation.
        callback: called with a `Report` after each generation and each chunk; a true value stops the run.
        validation_episodes: played without exploration after every eighth chunk, the same ones each time; 0 for none.
        report_every: decisions in each environment per chunk, rounded down to whole updates; by default a 64th of all.
        resume: the state of an earlier run with the same arguments, to continue from. Its arrays are donated.
        mesh: the devices that share the environments; None for one device.

    Returns:
        The policy of the best validation; without validation, the last one.

    Raises:
        ValueError: settings that do not suit the algorithm or each other, or see `env.check_params`.
        NotFiniteError: training diverged. The best policy so far is in the last report.
    """
    _check(config, num_envs=num_envs, total_decisions=total_decisions, mesh=mesh)
    check_params(env.config, params)
    keys = validation_keys(key, validation_episodes) if validation_episodes else None
    steps = -(-total_decisions // num_envs)
    per_update = learner_for(config).steps_per_update
    chunk = per_update * max(1, (report_every or steps // CHUNKS) // per_update)
    run = _Run(env, params, config, num_envs=num_envs, steps=steps, chunk=chunk, keys=keys, mesh=mesh)
    state = init_state(env, params, config, key, num_envs=num_envs, mesh=mesh) if resume is None else resume
    if mesh is None:  # as a checkpoint's arrays are, so that a run that is continued finds its compiled programs
        state = jax.device_put(state, next(iter(key.devices())))
    for report in run.reports(state):
        state = report.state
        if callback is not None and any_process(bool(callback(report))):
            break
    return TrainedPolicy(config, state.best if validation_episodes else _acting_params(config, state.runner))


def train_jittable(
    env: CECEnv, params: EnvParams, config: AgentConfig, *, num_envs: int, total_decisions: int, key: chex.PRNGKey
) -> tuple[Any, Metrics]:
    """A whole run as one pure function, to be compiled, and vmapped over keys and over the numbers in the settings.

    The arguments are those of `train`, but the numbers in the settings may be traced, and `total_decisions` is rounded
    up to whole iterations. There is no validation.

    Returns:
        The parameters of the last policy, and the metrics of every iteration, each with a leading axis. The metric
        `finite` is 0 from where training diverged; the parameters are then not numbers.
    """
    learner = learner_for(config)
    runner = init_runner(env, params, config, key, num_envs=num_envs)
    if runner.evolution is not None:

        def generation(carry: Evolving, _: None) -> tuple[Evolving, None]:
            agent, evolution, key = carry
            key, key_generation = jax.random.split(key)
            agent, evolution, _ = evolve(env, params, config, agent=agent, evolution=evolution, key=key_generation)
            return (agent, evolution, key), None

        start = (runner.agent, runner.evolution, runner.key)
        (agent, evolution, key), _ = jax.lax.scan(generation, start, length=config.evolution.generations)
        runner = runner.replace(agent=with_found_prices(agent, evolution), evolution=evolution, key=key)
    runner, _ = warm_up(env, params, config, runner, steps=config.warmup_steps)
    per_update = learner.steps_per_update
    steps = max(-(-total_decisions // num_envs) - config.warmup_steps, 0)
    runner, metrics = train_chunk(env, params, config, runner, steps=-(-steps // per_update) * per_update)
    return learner.acting_params(runner.agent), metrics


def validation_keys(key: chex.PRNGKey, episodes: int = VALIDATION_EPISODES) -> chex.PRNGKey:
    """(episodes,) keys of the episodes that a run with this key is validated on."""
    return jax.random.split(key, episodes)


def init_state(
    env: CECEnv, params: EnvParams, config: AgentConfig, key: chex.PRNGKey, *, num_envs: int, mesh: Mesh | None = None
) -> TrainState:
    """The state of a run at its beginning."""
    runner = init_runner(env, params, config, key, num_envs=num_envs, mesh=mesh)
    best_act = jnp.float32(jnp.inf)
    if mesh is not None:
        best_act = replicated(mesh, best_act)  # several processes can only save arrays that all of them have
    return TrainState(runner, _acting_params(config, runner), best_act)


def state_shapes(
    env: CECEnv, params: EnvParams, config: AgentConfig, *, num_envs: int, mesh: Mesh | None = None
) -> TrainState:
    """Shapes and layout of a run's state, into which a checkpoint of any layout can be read."""
    check_divisible(num_envs, mesh)
    shapes = jax.eval_shape(partial(init_state, env, params, config, num_envs=num_envs), jax.random.key(0))
    mesh = mesh or env_mesh(jax.devices()[:1])
    layout = sharding_of(mesh, shapes).replace(runner=runner_sharding(mesh, shapes.runner))
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layout)


def _acting_params(config: AgentConfig, runner: RunnerState) -> Any:
    """A copy of the parameters to act with: the runner's are donated to the next chunk."""
    return jax.tree.map(jnp.copy, learner_for(config).acting_params(runner.agent))


def _check(config: AgentConfig, *, num_envs: int, total_decisions: int, mesh: Mesh | None) -> None:
    learner_for(config)
    for name, value in {"num_envs": num_envs, "total_decisions": total_decisions}.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}; must be at least 1")
    check_divisible(num_envs, mesh)
    for path, number in jax.tree_util.tree_leaves_with_path(config):
        if not isinstance(number, int | float):
            name = jax.tree_util.keystr(path)
            raise ValueError(f"agent{name}: got {number}; must be a plain number (`train_jittable` takes arrays)")


@dataclasses.dataclass(frozen=True)
class _Run:
    """The arguments of a run."""

    env: CECEnv
    params: EnvParams
    config: AgentConfig
    _: dataclasses.KW_ONLY
    num_envs: int
    steps: int  # decisions in each environment
    chunk: int  # of them, between two reports
    keys: chex.PRNGKey | None  # of the validation episodes
    mesh: Mesh | None

    def reports(self, state: TrainState) -> Iterator[Report]:
        """Advance a run to its end, with a report after each part."""
        for report in self._evolution(state):
            state = report.state
            yield report
        if int(state.runner.step) == 0:
            steps = self.config.warmup_steps
            runner, metrics = warm_up(self.env, self.params, self.config, state.runner, steps=steps, mesh=self.mesh)
            # This report is of the untrained agent: learning is seen against it.
            report = self._report(state.replace(runner=runner), summarise(jax.device_get(metrics)), validate=True)
            state = report.state
            yield report
        yield from self._chunks(state)

    def _evolution(self, state: TrainState) -> Iterator[Report]:
        """Generations of the evolution strategy; after the last, the agent has the prices found."""
        runner, total = state.runner, self.config.evolution.generations
        if runner.evolution is None:
            return
        generation = partial(evolve, self.env, self.params, self.config, mesh=self.mesh)
        for done in range(int(runner.evolution.generation) + 1, total + 1):
            key, key_generation = jax.random.split(runner.key)
            agent, evolution, metrics = generation(agent=runner.agent, evolution=runner.evolution, key=key_generation)
            agent = with_found_prices(agent, evolution) if done == total else agent
            runner = runner.replace(agent=agent, evolution=evolution, key=key)
            row: dict[str, float | None] = {name: float(value) for name, value in metrics.items()}
            if not np.isfinite(list(metrics.values())).all():
                raise NotFiniteError(f"generation {done}: {row} is not finite; try a lower agent.twin.learning_rate")
            yield Report("evolution", done, total, row, state.replace(runner=runner))

    def _chunks(self, state: TrainState) -> Iterator[Report]:
        """Chunks of one length, because each length is compiled; the last one may exceed the run's length a little."""
        done, chunk = int(state.runner.step), self.chunk
        while done < self.steps:
            begin = time.perf_counter()
            runner, metrics = train_chunk(self.env, self.params, self.config, state.runner, steps=chunk, mesh=self.mesh)
            metrics = jax.device_get(metrics)
            seconds = time.perf_counter() - begin
            finite = metrics["finite"]
            if not finite.all():
                step = done + (int(finite.argmin()) + 1) * learner_for(self.config).steps_per_update
                raise NotFiniteError(
                    f"step {step}: a loss, a reward or a parameter is not a finite number; try lower learning rates or"
                    " a lower reward_scale"
                )
            done += chunk
            row = summarise(metrics) | {"decisions_per_s": chunk * self.num_envs / seconds}
            due = (done // chunk) % CHUNKS_BETWEEN_VALIDATIONS == 0 or done >= self.steps
            report = self._report(state.replace(runner=runner), row, validate=due)
            state = report.state
            yield report

    def _report(self, state: TrainState, row: dict[str, float | None], *, validate: bool) -> Report:
        """The report after a chunk, with the ACT of the validation episodes if one is due."""
        step = int(state.runner.step)
        row |= {"step": step, "decisions": step * self.num_envs}
        if not validate or self.keys is None:
            return Report("training", step, self.steps, row, state)
        params = learner_for(self.config).acting_params(state.runner.agent)
        apply = PolicyFunction(self.config, self.env)
        act = jnp.mean(rollout(self.env, self.params, apply=apply, params=params, keys=self.keys).act)
        row["validation_act"] = float(act)
        improved = float(act) <= float(state.best_act)
        if improved:
            state = state.replace(best=jax.tree.map(jnp.copy, params), best_act=act)
        return Report("training", step, self.steps, row, state, improved)


def summarise(metrics: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Means over a chunk; `act` is a mean over the episodes that ended in it, and None if none did."""
    sums = ("episodes", "act_sum", "merges", "finite")
    row: dict[str, float | None] = {name: float(np.mean(metrics[name])) for name in metrics if name not in sums}
    episodes = float(metrics["episodes"].sum())
    return row | {
        "episodes": int(episodes),
        "act": float(metrics["act_sum"].sum()) / episodes if episodes else None,
        "merges": int(metrics["merges"].sum()),
    }
