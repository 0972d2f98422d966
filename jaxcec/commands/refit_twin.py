"""`jaxcec-live refit`: fit the learned twin of a policy to what event logs have measured."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import jax
import tyro
from filelock import FileLock, Timeout
from rich.table import Table

from jaxcec.agents import PRETRAINED, TrainedPolicy, load_policy
from jaxcec.commands.console import console, format_interval
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import CECEnv
from jaxcec.live.event_log import EventLog
from jaxcec.live.events import Event
from jaxcec.live.policy_versions import current_policy, settle
from jaxcec.live.refit import Refit, refit
from jaxcec.live.site import Site


@dataclasses.dataclass(frozen=True)
class RefitCommand:
    """Fit the learned twin of dtdrlmo to event logs. The new version is used if it foresees the last quarter of each
    log, which it does not learn from, better than the old one."""

    logs: tyro.conf.Positional[tuple[Path, ...]]
    """Event logs, of one site or of several."""
    out: Path = Path("live-policies")
    """Folder for the versions of the policy."""
    policy: Path | None = None
    """File of the first version; by default the one that ships with the package. A folder that has versions goes on
    from its current one."""

    def __post_init__(self) -> None:
        if not self.logs:
            raise ValueError("LOGS: got none; at least one is needed")


def read_log(path: Path) -> tuple[Site, list[Event]]:
    """The site of an event log, and what happened.

    Raises:
        ValueError: there is no such file, or it is no event log.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such event log")
    try:
        with EventLog(path) as log:
            site = log.setting("site")
            if site is None:
                raise ValueError(f"{path}: not the log of a site")
            return Site.model_validate_json(site), [event for _, event in log.read()]
    except sqlite3.Error as error:
        raise ValueError(f"{path}: not an event log ({error})") from None


def refit_twin(command: RefitCommand) -> Refit:
    """Fit the twin, print how well it foresees, and keep the better version.

    Raises:
        ValueError: a log or the policy is not fit, or another refit writes to the folder.
    """
    use_compilation_cache()
    logs = [read_log(path) for path in command.logs]
    command.out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(command.out / ".lock", timeout=0):
            old = _policy(_file(command), [site for site, _ in logs])
            found = refit(old, logs)
            current = settle(command.out, old, found, logs[0][0].config)
    except Timeout:
        raise ValueError(f"--out: got {command.out}, to which another refit writes now") from None
    console.print(_table(found))
    console.print(f"current: {current}")
    return found


def _file(command: RefitCommand) -> Path:
    current = current_policy(command.out)
    if current is not None and command.policy is not None:
        raise ValueError(f"--policy: got {command.policy}; must be left out, as {command.out} has a current version")
    return current or command.policy or PRETRAINED / "dtdrlmo.msgpack"


def _policy(path: Path, sites: list[Site]) -> TrainedPolicy:
    """The policy, which must fit every site."""
    for site in sites:
        observation = jax.eval_shape(CECEnv(site.config).reset_env, jax.random.key(0), site.empty)[0]
        policy = load_policy(path, observation)
    return policy


def _table(found: Refit) -> Table:
    title = f"finishes of {found.held_out} decisions; the twin was refitted to {found.fitted} earlier ones"
    table = Table("predicted by", title=title)
    for column in ("mean absolute error (s)", "median (s)", "log likelihood"):
        table.add_column(column, justify="right")
    names = {"mechanism": "the mechanism", "before": "the twin before", "after": "the twin refitted"}
    for field, name in names.items():
        error, median, likelihood = getattr(found, field)
        of_waits = "" if likelihood is None else f"{likelihood:.2f}"
        table.add_row(name, format_interval(error), f"{median:.2f}", of_waits)
    return table
