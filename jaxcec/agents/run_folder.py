"""The folder of a run: metrics.csv, curves.png, policy.msgpack and checkpoints/, written during training."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxcec.agents.checkpoint import load_state, save_policy, save_state
from jaxcec.agents.config import AgentConfig
from jaxcec.agents.learners import learner_for
from jaxcec.agents.sharding import any_process, is_main_process
from jaxcec.agents.trained_policy import TrainedPolicy
from jaxcec.agents.training import Report, TrainState, state_shapes
from jaxcec.env import CECEnv, EnvConfig, EnvParams
from jaxcec.evaluation.figures import training_curves
from jaxcec.files import csv_text, write_aside


class RunFolder:
    """A callback of `train` that keeps a run in a folder.

    `metrics.csv` has a row for each chunk, `curves.png` draws it, `policy.msgpack` is the policy of the best
    validation (without validation, the one that was saved last), and `checkpoints/` holds the newest three states of
    the run. Call `save` when training has returned. To continue a run, make the folder's object with `exist_ok` and
    give the state that `load` returns to `train`.

    Args:
        folder: made if necessary.
        config: the agent's settings.
        sizes: of the environment.
        origin: how the policy was trained, for people to read; the number of decisions is added to it.
        references: ACT of baselines on the validation episodes, s, drawn as level lines.
        save_every: s between checkpoints.
        exist_ok: whether the folder may hold a run already. It is continued after `load`, and replaced without.

    Raises:
        ValueError: the folder holds a run.
    """

    def __init__(
        self,
        folder: str | Path,
        config: AgentConfig,
        sizes: EnvConfig,
        *,
        origin: str = "",
        references: Mapping[str, float] | None = None,
        save_every: float = 300.0,
        exist_ok: bool = False,
    ):
        self.folder, self.config, self.sizes = Path(folder), config, sizes
        self.origin, self.references, self.save_every = origin, dict(references or {}), save_every
        self.rows: list[dict[str, Any]] = []
        self.warning = ""  # why there are no curves
        self._state: TrainState | None = None
        self._saved = time.monotonic()
        self._draw_after = 0.0  # of the same clock
        if not exist_ok and any((self.folder / name).exists() for name in ("metrics.csv", "checkpoints")):
            raise ValueError(f"folder: got {folder}, which holds a run; name another folder, or set exist_ok")
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, report: Report) -> None:
        """Record a report; save if it is time to."""
        if self._state is None and is_main_process():  # a new run, next to whose checkpoints no others may remain
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        self._state = report.state
        if report.stage == "training":
            self.rows.append(report.metrics)
            if report.improved:
                self._save_policy(report.state.best)
            if "validation_act" in report.metrics:
                self._write_metrics()
                self._draw_rarely()
        if any_process(time.monotonic() - self._saved > self.save_every):
            self._save_state()
            self._saved = time.monotonic()

    @property
    def step(self) -> int:
        """Decisions in each environment so far."""
        return 0 if self._state is None else int(self._state.runner.step)

    def load(
        self,
        env: CECEnv,
        params: EnvParams,
        *,
        num_envs: int,
        mesh: Mesh | None = None,
        report: Callable[[str], None] = print,
    ) -> TrainState | None:
        """The state of the newest complete checkpoint; None if there never was one.

        The environment, its banks and `num_envs` are those of the run, but not necessarily the mesh of devices that
        will share the environments. `report` is called with a message for each damaged checkpoint.

        Raises:
            ValueError: all checkpoints are damaged, or the newest does not fit the settings.
        """
        like = state_shapes(env, params, self.config, num_envs=num_envs, mesh=mesh)
        self._state = load_state(self.folder / "checkpoints", like, report=report)
        metrics = self.folder / "metrics.csv"
        if self._state is not None and metrics.is_file():  # later rows will be written again
            self.rows = [row for row in read_metrics(metrics) if row["step"] <= self.step]
        return self._state

    def save(self) -> None:
        """Write a checkpoint of the newest state, the metrics and their curves."""
        self._save_state()
        self._draw()

    def _save_state(self) -> None:
        """Write metrics and a checkpoint."""
        # Metrics first: a resumed run drops the rows after its checkpoint, but could not restore missing ones.
        self._write_metrics()
        if self._state is None:
            return
        if self.step > 0 and not np.isfinite(float(self._state.best_act)):
            self._save_policy(learner_for(self.config).acting_params(self._state.runner.agent))
        save_state(self.folder / "checkpoints", self._state)

    def _save_policy(self, params: Any) -> None:
        if is_main_process():
            decisions = f"{self.rows[-1]['decisions']:,} decisions"
            policy = TrainedPolicy(self.config, params, f"{self.origin}, {decisions}".removeprefix(", "))
            save_policy(self.folder / "policy.msgpack", policy, self.sizes)

    def _write_metrics(self) -> None:
        """Write the rows so far, which can be read during training."""
        if is_main_process():
            columns = list(dict.fromkeys(name for row in self.rows for name in row))
            write_aside(self.folder / "metrics.csv", csv_text(columns, self.rows))

    def _draw_rarely(self) -> None:
        """Draw the curves, but not in more than a tenth of the time."""
        begin = time.monotonic()
        if begin >= self._draw_after:
            self._draw()
            self._draw_after = time.monotonic() + 9.0 * (time.monotonic() - begin)

    def _draw(self) -> None:
        if not self.rows or not is_main_process():
            return
        try:
            training_curves(self.rows, self.folder / "curves.png", self.references)
        except ImportError as error:
            self.warning = f"no curves.png: {error}"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.csv; an empty field is None."""
    with path.open() as file:
        reader = csv.DictReader(file)
        return [{name: json.loads(text) if text else None for name, text in row.items()} for row in reader]
