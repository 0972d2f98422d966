"""Run a site, or a whole edge network on this machine that the simulator is compared with.

`lab` plays test episodes of a world in the simulator and on this machine, with real processes, real flows and measured
times. `clean` removes what a lab that was killed has left. `serve` controls a site and answers HTTP requests. `bind`
binds the pods of a Kubernetes cluster where a site's extender prefers. `refit` learns from what was measured. `shorten`
removes old services from an event log.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import math
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro
from rich.table import Table

from jaxcec.checks import check_numbers
from jaxcec.commands.bind_pods import BindCommand, bind_pods
from jaxcec.commands.console import console, format_seconds
from jaxcec.commands.contenders import PolicyChoice, contenders_for, fingerprint
from jaxcec.commands.event_logs import ShortenCommand, shorten_log
from jaxcec.commands.refit_twin import RefitCommand, refit_twin
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.commands.serve_site import ServeCommand, serve_site
from jaxcec.commands.settings import guarded, load_config
from jaxcec.commands.worlds import open_world
from jaxcec.env import CECEnv
from jaxcec.evaluation import Contender, episode_keys, record
from jaxcec.files import open_or_continue, write_aside
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.lab import Lab, clean
from jaxcec.live.lab_network import FILES, check_available
from jaxcec.live.lab_play import play_episode
from jaxcec.live.lab_world import LabWorld, lab_world, without_devices
from jaxcec.live.lateness import Lateness, load_lateness
from jaxcec.live.referee import WHAT, Outcome, errors, mean_acts, outcome, same_order, save_intervals
from jaxcec.live.referee_page import import_altair, save_referee_page
from jaxcec.scenarios import Scenario

_LONGER = 3.0  # times that an episode may take in the lab as long as in the simulator
_SHARE = 0.25  # of the machine for all nodes: their networks and programs, and the policy, need the rest
_MOST_CORES = 0.2  # of a node, by default


@dataclasses.dataclass(frozen=True)
class LabCommand:
    """Play test episodes in the simulator and in a network on this machine. It needs root."""

    scenario: Scenario
    config: str = "default"
    """Name of a configuration, or a YAML file, whose scenario is the default."""
    world: str | None = None
    """Your own environment in place of the scenario: MODULE:FUNCTION, from a split (train, test) to (env, params)."""
    policies: tuple[str, ...] = ("eft", "greedy", "dtdrlmo", "dtdrlmo-plan")
    """Policies to play."""
    policy: tuple[str, ...] = ()
    """Policies of your own to play as well, MODULE:FUNCTION each, from an observation and a key to an action."""
    checkpoint: Path | None = None
    """File of a learned policy, or a run folder, in place of the newest run or the policy that ships."""
    lateness: Path | None = None
    """File of a lateness from a refit to logs of several sites, with which the lab decides and finishes are predicted,
    but not what the simulator plays; by default the mechanism alone predicts."""
    episodes: int = 1
    """Test episodes to play under each policy."""
    seed: int = 0
    """Of the episodes."""
    pace: float = 20.0
    """Seconds of the world in a second: sizes and work are scaled down, rates and shares are not."""
    cores: float | None = None
    """Processor cores of each node; by default, all together have a quarter of the machine, and none more than 0.2."""
    compete: bool = False
    """Let other tenants compete with the site's flows and runs, rather than leave these what they have reserved."""
    out: Path | None = None
    """Folder for the results, by default one in `runs`; a lab that was stopped goes on there."""

    def __post_init__(self) -> None:
        check_numbers(self, "--", least={"episodes": 1, "seed": 0}, positive=("pace", "cores"))
        if len(set(self.policy)) < len(self.policy):
            raise ValueError(f"--policy: got {' '.join(self.policy)}; must name each policy once")

    @property
    def choice(self) -> PolicyChoice:
        """The policies to play."""
        return PolicyChoice(names=self.policies, own=self.policy, checkpoint=self.checkpoint)


@dataclasses.dataclass(frozen=True)
class CleanCommand:
    """Remove what a lab that was killed has left. It needs root."""


LiveCommand = LabCommand | CleanCommand | ServeCommand | BindCommand | RefitCommand | ShortenCommand


def parse_live(arguments: Sequence[str] | None) -> LiveCommand:
    """The command of a command line, by default the process's."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", default="default")
    name = first.parse_known_args(arguments)[0].config
    config = load_config(name)
    lab = LabCommand(config.scenario, config=name, world=config.world)
    commands = (
        Annotated[LabCommand, tyro.conf.subcommand("lab", default=lab)]
        | Annotated[CleanCommand, tyro.conf.subcommand("clean")]
        | Annotated[ServeCommand, tyro.conf.subcommand("serve")]
        | Annotated[BindCommand, tyro.conf.subcommand("bind")]
        | Annotated[RefitCommand, tyro.conf.subcommand("refit")]
        | Annotated[ShortenCommand, tyro.conf.subcommand("shorten")]
    )
    return tyro.cli(commands, args=arguments, prog="jaxcec-live", description=__doc__)


@guarded()
def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    match parse_live(arguments):
        case ServeCommand() as command:
            serve_site(command)
        case BindCommand() as command:
            bind_pods(command)
        case RefitCommand() as command:
            refit_twin(command)
        case ShortenCommand() as command:
            shorten_log(command)
        case CleanCommand():
            for name in clean():
                console.print(f"removed: {name}")
        case LabCommand() as command:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a lab is removed
            run_lab(command)


def run_lab(command: LabCommand) -> list[Outcome]:
    """Play the episodes, print the tables, and write the results.

    Raises:
        LabUnavailable: this machine or user cannot have a lab.
        ImportError: the package for the page is not installed.
        ValueError: a policy does not exist, or the world or the folder is not fit.
    """
    check_available()
    import_altair()
    use_compilation_cache()
    folder = command.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-lab"
    env, params, *_ = open_world(command.scenario, "test", command.world)
    params = without_devices(params)
    lateness = load_lateness(command.lateness, (), num_nodes=env.config.num_nodes) if command.lateness else None
    contenders, sources = contenders_for(command.choice, env, params)
    cores = command.cores or min(_SHARE * (os.cpu_count() or 1) / env.config.num_nodes, _MOST_CORES)
    settings = _settings(command, contenders, sources, cores=cores)
    open_or_continue("--out", folder, settings, what="lab")
    outcomes = []
    for number, key in enumerate(episode_keys(command.seed, command.episodes)):
        schedules = {each.name: record(env, params, each, key) for each in contenders}
        longest = max(schedule.makespan for schedule in schedules.values())
        world = lab_world(env, params, key, seconds=_LONGER * longest)
        acts = {name: schedule.act for name, schedule in schedules.items()}
        _play(command, world, folder, number=number, cores=cores, policies=settings["policies"], lateness=lateness)
        outcomes += [_outcome(folder, name, number, simulated=act) for name, act in acts.items()]
        if not _log_of(folder, contenders[0].name, number + 1).is_file():  # otherwise the file has more rows already
            save_intervals(outcomes, folder / "intervals.csv")
    _report(outcomes, folder)
    return outcomes


def _settings(
    command: LabCommand, contenders: Sequence[Contender], sources: dict[str, str], *, cores: float
) -> dict[str, Any]:
    """What a lab that goes on must have in common with the one that was stopped."""
    return {
        "seed": command.seed,
        "pace": command.pace,
        "cores": cores,
        "compete": command.compete,
        "lateness": command.lateness and json.loads(command.lateness.read_text()),
        "policies": _identities(contenders, sources),
        "world": command.world,
        "scenario": json.loads(json.dumps(dataclasses.asdict(command.scenario))),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("jax", "jaxcec")},
    }


def _identities(contenders: Sequence[Contender], sources: dict[str, str]) -> dict[str, str]:
    """Where each policy comes from, and its fingerprint."""
    return {each.name: f"{sources.get(each.name, '')} {fingerprint(each)}".strip() for each in contenders}


def _log_of(folder: Path, policy: str, number: int) -> Path:
    """The event log of an episode under a policy."""
    return folder / f"{policy.replace(':', '-')}-{number}.sqlite"


def _play(
    command: LabCommand,
    world: LabWorld,
    folder: Path,
    *,
    number: int,
    cores: float,
    policies: dict[str, str],
    lateness: Lateness | None,
) -> None:
    """Play an episode in the lab under each policy of which the folder has no log yet.

    Raises:
        ValueError: a policy is not the one of `policies` any more, such as when it was trained again meanwhile.
    """
    site = world.site
    contenders, sources = contenders_for(command.choice, CECEnv(site.config), site.empty, report=lambda _: None)
    if (now := _identities(contenders, sources)) != policies:
        raise ValueError(f"--out: the lab in {folder} has policies {policies}, which have become {now}")
    missing = [(i, each) for i, each in enumerate(contenders) if not _log_of(folder, each.name, number).is_file()]
    if not missing:
        return
    load_every, every_node = site.frame / command.pace / 2.0, [cores] * len(site.node_speed)
    with Lab(site.topology.links, every_node, folder=FILES, load_every=load_every) as lab:
        for index, contender in missing:
            kept = _log_of(folder, contender.name, number)
            log, name, yields = FILES / kept.name, f"{index}-{number}", not command.compete
            decider = Decider(site, contender, deadline=math.inf, lateness=lateness)
            asyncio.run(play_episode(lab, world, decider, name=name, log=log, pace=command.pace, yields=yields))
            write_aside(kept, log.read_bytes())
            console.print(f"episode {number}, {contender.name}: played")


def _outcome(folder: Path, policy: str, number: int, *, simulated: float) -> Outcome:
    """What the log of an episode says, which is printed."""
    with TemporaryDirectory() as scratch:  # a log that is opened is changed
        log = shutil.copy(_log_of(folder, policy, number), scratch)
        with EventLog(Path(log)) as events:
            happened = [event for _, event in events.read()]
    found = outcome(policy, number, happened, simulated=simulated)
    acts = f"ACT {format_seconds(simulated)} s in the simulator, {format_seconds(found.measured)} s measured"
    console.print(f"episode {number}, {policy}: {acts}")
    return found


def _report(outcomes: Sequence[Outcome], folder: Path) -> None:
    table = Table("policy", "ACT simulated (s)", "measured (s)", title="the simulator and the lab")
    for what in WHAT:
        table.add_column(what, justify="right")
        table.add_column("error: median, 95 %", justify="right")
    for policy, acts in mean_acts(outcomes).items():
        cells = [*map(format_seconds, acts)]
        for what in WHAT:
            found = errors([each for one in outcomes if one.policy == policy for each in one.intervals], what)
            cells += [str(found.number), f"{found.median:.1%}, {found.high:.1%}"]
        table.add_row(policy, *cells)
    console.print(table)
    order = "the same" if same_order(outcomes) else "not the same"
    console.print(f"order of the policies: {order}; attempts that failed: {sum(each.failed for each in outcomes)}")
    save_referee_page(outcomes, folder / "referee.html", title="The simulator's predictions and the lab")
    console.print(f"written: {folder / 'intervals.csv'}, {folder / 'referee.html'}")


if __name__ == "__main__":
    main()
