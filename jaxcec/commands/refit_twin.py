"""`jaxcec-live refit`: learn from event logs how late runs finish, and fit the twin of a policy to them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import tyro
from filelock import FileLock, Timeout
from rich.table import Table

from jaxcec.agents import PRETRAINED, TrainedPolicy, load_policy
from jaxcec.commands.console import console, format_interval
from jaxcec.commands.event_logs import opened_log
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import CECEnv
from jaxcec.live.events import Event
from jaxcec.live.policy_versions import Version, current_version, settle
from jaxcec.live.refit import Refit, refit
from jaxcec.live.site import Site

_PRIORITY = 10  # niceness of a refit, so that the controller goes before it


@dataclasses.dataclass(frozen=True)
class RefitCommand:
    """Learn from event logs how much later runs finish than they were booked to, and fit the twin of dtdrlmo to them.
    A new version is used if it foresees the last quarter of the decisions, which it does not learn from, better."""

    logs: tyro.conf.Positional[tuple[Path, ...]]
    """Event logs, of one site or of several, in the order in which they were written."""
    out: Path = Path("live-policies")
    """Folder for the versions of the policy and of the lateness."""
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
    with opened_log(path) as (site, log):
        return site, [event for _, event in log.read()]


def refit_twin(command: RefitCommand) -> Refit:
    """Learn from the logs, print how well finishes are foreseen, and keep the better versions.

    Raises:
        ValueError: a log or the policy is not fit, or another refit writes to the folder.
    """
    use_compilation_cache()
    logs = [read_log(path) for path in command.logs]
    command.out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(command.out / ".lock", timeout=0):
            version, sites = version_to_use(command.out, command.policy), [site for site, _ in logs]
            old = _policy(version.policy, sites)
            found = refit(old, logs, lateness=version.load_lateness(sites) if version.lateness else None)
            current = settle(command.out, old, found, logs[0][0].config)
    except Timeout:
        raise ValueError(f"--out: got {command.out}, to which another refit writes now") from None
    console.print(_table(found))
    console.print("current:", *filter(None, current))
    return found


async def refit_regularly(log: Path, out: Path, *, every: float, use: Callable[[Version], None]) -> None:
    """Refit to a log that grows, every so many s, and let each new version be used, until cancelled.

    A process of its own with a low priority does it, so that decisions do not wait. What it refuses, such as a log with
    too few decisions, it says on stderr, and is tried again.
    """
    used = version_to_use(out, None)
    while True:
        await asyncio.sleep(every)
        try:
            await _refit_apart(log, out)
            version = version_to_use(out, None)
            if version != used:
                await asyncio.to_thread(use, version)
                used = version
        except (OSError, ValueError) as error:
            console.print(f"not refitted: {error}")


async def _refit_apart(log: Path, out: Path) -> None:
    """Run the command in another process, which ends if this is cancelled."""
    words = [sys.executable, "-m", "jaxcec.commands.live", "refit", str(log), "--out", str(out)]
    process = await asyncio.create_subprocess_exec(*words)
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, _PRIORITY)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def version_to_use(folder: Path, policy: Path | None) -> Version:
    """The current version in a folder, or the file with which to begin.

    Raises:
        ValueError: the folder has a current version and a file is named, or the folder is damaged.
    """
    current = current_version(folder)
    if current is not None and policy is not None:
        raise ValueError(f"--policy: got {policy}; must be left out, as {folder} has a current version")
    return current or Version(policy or PRETRAINED / "dtdrlmo.msgpack")


def _policy(path: Path, sites: list[Site]) -> TrainedPolicy:
    """The policy, which must fit every site."""
    for site in sites:
        observation = jax.eval_shape(CECEnv(site.config).reset_env, jax.random.key(0), site.empty)[0]
        policy = load_policy(path, observation)
    return policy


def _table(found: Refit) -> Table:
    title = f"finishes of {found.held_out} decisions; {found.fitted} earlier ones were learned from"
    table = Table("predicted by", title=title)
    for column in ("mean absolute error (s)", "median (s)", "log likelihood"):
        table.add_column(column, justify="right")
    names = {
        "mechanism": "the mechanism",
        "corrected_before": "the mechanism with the lateness before",
        "corrected": "the mechanism with the lateness refitted",
        "before": "the twin before",
        "after": "the twin refitted",
    }
    for field, name in names.items():
        score = getattr(found, field)
        if score is None:
            continue
        error, median, likelihood = score
        of_waits = "" if likelihood is None else f"{likelihood:.2f}"
        table.add_row(name, format_interval(error), f"{median:.2f}", of_waits)
    return table
