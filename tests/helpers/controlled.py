"""A site of three nodes over loopback: workers in this process or others, and a controller of them.

`python -m helpers.controlled FOLDER ADDRESS ADDRESS ADDRESS` runs a controller that a test can kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from helpers.workers import TOKEN
from jaxcec.evaluation import Contender
from jaxcec.live import events
from jaxcec.live.controller import Controller
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.site import Site
from jaxcec.policies import earliest_finish

SITE = Site(
    links=[(0, 1, 8.0), (1, 2, (4.0, 6.0), 0.01)],
    node_speed=[40.0, 20.0, 30.0],
    device_speed=[0.0, 0.0, 0.0],
    capacity=[[1.0, 2.0], [1.0, 1.0], [2.0, 2.0]],
    num_services=4,
    max_microservices=6,
    link_breakpoints=64,
    host_breakpoints=48,
)
RULE = Contender.of_rule("eft", earliest_finish)


def random_service(rng: random.Random, mark: Path | None = None) -> events.Service:
    """A service that takes less than a second; each of its microservices writes its number into a file."""
    size = rng.randint(1, SITE.max_microservices)
    preds = [[k for k in range(j) if rng.random() < 0.5] for j in range(size)]
    commands = None if mark is None else [["/bin/sh", "-c", f"echo {j} >> {mark}"] for j in range(size)]
    return events.Service(
        source=rng.randrange(3),
        load=[rng.uniform(0.2, 2.0) for _ in preds],
        data=[rng.uniform(0.0, 0.3) for _ in preds],
        demand=[[rng.uniform(0.2, 0.9), rng.uniform(0.1, 1.0)] for _ in preds],
        preds=preds,
        commands=commands,
    )


@contextlib.asynccontextmanager
async def controlling(
    folder: Path, addresses: list[str], decider: Decider, site: Site = SITE, **settings: Any
) -> AsyncIterator[Controller]:
    """A controller that runs in this process; it ends as if it were killed."""
    log = EventLog(folder / "log.sqlite")
    workers = dict(enumerate(addresses))
    controller = Controller(site, log, decider=decider, workers=workers, token=TOKEN, **settings)
    running = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        log.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def all_ended(controller: Controller, seconds: float = 180.0) -> None:
    """Wait until no service is in flight."""
    async with asyncio.timeout(seconds):
        while controller.ledger.slot_of or controller.ledger.waiting:
            await asyncio.sleep(0.02)


def logged(folder: Path, service: str | None = None) -> list[events.Event]:
    """Events of the log in a folder."""
    with EventLog(folder / "log.sqlite") as log:
        return [event for _, event in log.read(service=service)]


def finished(folder: Path) -> list[str]:
    """Runs that finished, one entry for each time that the log says so."""
    return [event.run for event in logged(folder) if isinstance(event, events.ExecutionEnded)]


def main() -> None:
    """Run a controller until no service is in flight."""
    folder, *addresses = sys.argv[1:]

    async def control() -> None:
        async with controlling(Path(folder), addresses, Decider(SITE, RULE, deadline=1.0)) as controller:
            print("started", flush=True)
            await all_ended(controller, 120.0)

    asyncio.run(control())


if __name__ == "__main__":
    main()
