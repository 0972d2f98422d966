"""Services in the lab for an hour: does memory stay constant, and is nothing lost?

    python benchmarks/live_soak.py --minutes 60 --out live-soak.json

Ten services are in flight at all times: when one ends, the next is submitted. Other tenants use links and processors as
in the scenario. Reported are the resident memory of the controller and of all other processes (workers, runs, tenants)
and what ended, for the first and the last tenth of the time, after two minutes of warming up, and what the log says at
the end. It needs Linux and root.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from harness import Row, processor, report, versions
from rich.progress import Progress

from jaxcec.agents import PRETRAINED, load_policy
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import CECEnv
from jaxcec.evaluation import episode_keys
from jaxcec.live import events
from jaxcec.live.controller import Controller
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.lab import Lab
from jaxcec.live.lab_network import FILES, check_available
from jaxcec.live.lab_world import LabWorld, lab_world, without_devices
from jaxcec.scenarios import Scenario, make_env

WARMING = 120.0  # s
EVERY = 5.0  # s between two looks at the memory
IN_FLIGHT = 10  # services
LONGEST = 300.0  # s that a service may take
COLUMNS = {
    "tenth": "",
    "controller_mib": ",.0f",
    "controller_most": ",.0f",
    "others_mib": ",.0f",
    "others_most": ",.0f",
    "services": ",",
    "decisions": ",",
    "failed": ",",
}


def resident(pid: int) -> float:
    """Resident memory of a process, MiB; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, and those that they started."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in children.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in found:
            yield child
            yield from descendants(child)


def endless_services(scenario: Scenario) -> Iterator[events.Service]:
    """Services of one training episode after another, each to be released when it is submitted."""
    env, params = make_env(scenario, "train")
    params = without_devices(params)
    for number in itertools.count():
        for service in lab_world(env, params, jax.random.key(number), seconds=1.0).services:
            yield service.model_copy(update={"release": 0.0})


async def soak(controller: Controller, services: Iterator[events.Service], minutes: float) -> list[Row]:
    """Keep services in flight, and return a row for every look at the memory."""
    rows: list[Row] = []
    begin = time.perf_counter()
    with Progress() as progress:
        task = progress.add_task("soaking", total=60.0 * minutes)
        while (now := time.perf_counter() - begin) < 60.0 * minutes:
            while len(controller.ledger.slot_of) + len(controller.ledger.waiting) < IN_FLIGHT:
                controller.submit(f"s{controller.ledger.counters.submitted}", next(services))
            if now > EVERY * len(rows):
                rows.append({"s": now} | _figures(controller))
                progress.update(task, completed=now)
            await asyncio.sleep(0.05)
    return rows


def _figures(controller: Controller) -> Row:
    counters = controller.ledger.counters
    return {
        "controller_mib": resident(os.getpid()),
        "others_mib": sum(map(resident, descendants(os.getpid()))),
        "services": counters.completed,
        "decisions": counters.decisions,
        "failed": counters.failed,
    }


def tenths(rows: list[Row]) -> list[Row]:
    """Medians and maxima of memory in the first and in the last tenth of the rows, and what had ended at their ends."""
    part = max(len(rows) // 10, 1)
    memory = ("controller_mib", "others_mib")
    found = []
    for name, chosen in {"first": rows[:part], "last": rows[-part:]}.items():
        medians = {each: float(np.median([row[each] for row in chosen])) for each in memory}
        most = {each.replace("mib", "most"): max(row[each] for row in chosen) for each in memory}
        ended = {each: chosen[-1][each] for each in ("services", "decisions", "failed")}
        found.append({"tenth": name} | medians | most | ended)
    return found


def check(log: EventLog, pace: float) -> Row:
    """Count services by what became of them, and refuse one that hangs, and a microservice that ended twice."""
    sizes: dict[str, int] = {}
    begun: dict[str, float] = {}
    now = 0.0
    ends: Counter[tuple[str, int]] = Counter()
    given_up = set()
    for _, event in log.read():
        now = event.time
        if isinstance(event, events.Submitted):
            sizes[event.service], begun[event.service] = len(event.spec.load), event.time
        elif isinstance(event, events.ExecutionEnded):
            ends[event.service, event.microservice] += 1
        elif isinstance(event, events.Failed) and event.gives_up:
            given_up.add(event.service)
    ended = Counter(service for service, _ in ends)
    if twice := [each for each, count in ends.items() if count > 1]:
        raise SystemExit(f"ended twice: {twice}")
    whole = {service for service, size in sizes.items() if ended[service] == size}
    left = sizes.keys() - whole - given_up
    if hangs := [service for service in left if now - begun[service] > LONGEST * pace]:
        raise SystemExit(f"services that have not ended after {LONGEST:.0f} s: {hangs}")
    return {"submitted": len(sizes), "ended": len(whole), "given_up": len(given_up), "microservices": len(ends)}


async def run(
    arguments: argparse.Namespace, world: LabWorld, scenario: Scenario, folder: Path
) -> tuple[list[Row], Row]:
    """Soak a lab with the world's network, and return the rows and what the log says at the end."""
    site, pace = world.site, arguments.pace
    load_every = site.frame / pace / 2.0
    observation = CECEnv(site.config, site.empty).reset(jax.random.key(0))[0]
    policy = load_policy(PRETRAINED / f"{arguments.policy}.msgpack", observation)
    decider = Decider(site, policy.contender(CECEnv(site.config, site.empty)), deadline=math.inf)
    with (
        Lab(site.topology.links, [arguments.cores] * len(site.node_speed), folder=FILES, load_every=load_every) as lab,
        EventLog(folder / "log.sqlite") as log,
    ):
        lab.start_tenants(world.loads, frame=site.frame / pace, yields=True)
        controller = Controller(
            site,
            log,
            decider=decider,
            workers=dict(enumerate(lab.addresses)),
            token=lab.token,
            link_names=lab.link_names,
            pace=pace,
        )
        lab.begin_tenants(time.monotonic() + 0.5)
        running = asyncio.create_task(controller.run())
        soaking = asyncio.create_task(soak(controller, endless_services(scenario), arguments.minutes))
        try:
            await asyncio.wait([soaking, running], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running  # raises what went wrong
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            decider.close()
        return soaking.result(), check(log, pace) | {"log_mb": (folder / "log.sqlite").stat().st_size / 1e6}


def main() -> None:
    """Soak and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--policy", default="dtdrlmo")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--cores", type=float, default=0.1, help="processor cores of each node")
    parser.add_argument("--pace", type=float, default=20.0, help="seconds of the world in a second")
    parser.add_argument("--out", help="file for the figures")
    arguments = parser.parse_args()
    if 60.0 * arguments.minutes <= WARMING + 10.0 * EVERY:
        parser.error(f"--minutes: got {arguments.minutes}; must be more than {(WARMING + 10.0 * EVERY) / 60.0:.1f}")
    check_available()
    use_compilation_cache()
    scenario = Scenario(dataset="both", num_nodes=arguments.nodes)
    env, params = make_env(scenario, "test")
    key = episode_keys(0, 1)[0]
    world = lab_world(env, without_devices(params), key, seconds=60.0 * arguments.minutes * arguments.pace)
    with tempfile.TemporaryDirectory() as folder:
        rows, ended = asyncio.run(run(arguments, world, scenario, Path(folder)))
    kept = [row for row in rows if row["s"] > WARMING]
    setting = {"device": processor(), "versions": versions("jax"), "minutes": arguments.minutes} | ended
    report(setting, tenths(kept), COLUMNS, arguments.out)
    print(ended)


if __name__ == "__main__":
    main()
