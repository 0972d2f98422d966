"""Plays an episode in the lab: controller and policy are those of a real site, and the time that passes is real."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import numpy as np

from jaxcec.live.controller import Controller
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.events import Event, LoadMeasured
from jaxcec.live.lab import Lab
from jaxcec.live.lab_world import LabWorld
from jaxcec.live.site import Site

_NOTICE = 0.3  # s from when tenants are told to begin until they do
_WARM = 3  # frames in which tenants are there before the episode, so that their load is measured
_LOOK = 0.05  # s between two looks whether the episode has ended


class EpisodeStuck(TimeoutError):
    """An episode took much longer than its tenants' trace."""


async def play_episode(
    lab: Lab, world: LabWorld, decider: Decider, *, name: str, log: Path, pace: float, yields: bool = True
) -> None:
    """Play an episode, and log everything that happens. Times are in s of the world.

    Args:
        lab: with the world's network.
        world: the episode.
        decider: for the world's site; it is closed in the end. Time passes while it decides.
        name: of the episode, which begins the names of its services; no other episode in the lab has it.
        log: file for the events, which must not exist.
        pace: s of the world in a second.
        yields: whether other tenants leave the site what it has reserved: see `Lab.start_tenants`.

    Raises:
        EpisodeStuck: it does not end.
    """
    await asyncio.to_thread(
        lab.start_tenants,
        np.concatenate([world.before[-_WARM:], world.loads]),
        frame=world.site.frame / pace,
        yields=yields,
    )
    events = EventLog(log)
    events.append(_measured_before(world))
    controller = Controller(
        world.site,
        events,
        decider=decider,
        workers=dict(enumerate(lab.addresses)),
        token=lab.token,
        link_names=lab.link_names,
        pace=pace,
    )
    warm = _begin_tenants(lab, controller, world.site, pace)
    await asyncio.sleep((warm - controller.now()) / pace)
    running = asyncio.create_task(controller.run())
    try:
        begin = warm + _WARM * world.site.frame
        for i, service in enumerate(world.services):
            release = begin + service.release - controller.now()
            controller.submit(f"{name}-{i}", service.model_copy(update={"release": release}))
        ended = asyncio.create_task(_until_ended(controller, begin + len(world.loads) * world.site.frame))
        await asyncio.wait([ended, running], return_when=asyncio.FIRST_COMPLETED)
        await (ended if ended.done() else running)  # raises what went wrong
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        decider.close()
        lab.stop_tenants()
        events.close()


def _measured_before(world: LabWorld) -> list[Event]:
    """The load of the frames before the episode, as if it had been measured until now."""
    frame, num_links = world.site.frame, len(world.site.bandwidth)
    rows = world.before[:-_WARM]
    end = (math.floor(time.time() / frame) + 1) * frame  # of the last row
    return [
        LoadMeasured(
            time=end - (len(rows) - k) * frame + node * 1e-3,
            host=node,
            cpu=float(shares[num_links + node]),
            links={link: float(shares[link]) for link in range(num_links)} if node == 0 else {},
        )
        for k, shares in enumerate(rows)
        for node in range(world.site.config.num_nodes)
    ]


def _begin_tenants(lab: Lab, controller: Controller, site: Site, pace: float) -> float:
    """Let the tenants begin with a frame of the controller, and return that time, s."""
    now = controller.now()
    begin = math.ceil((now + _NOTICE * pace) / site.frame) * site.frame
    lab.begin_tenants(time.monotonic() + (begin - now) / pace)
    return begin


async def _until_ended(controller: Controller, latest: float) -> None:
    """Wait until no service is in flight, until a time in s."""
    while controller.ledger.slot_of or controller.ledger.waiting:
        if controller.now() > latest:
            raise EpisodeStuck(f"services {sorted(controller.ledger.slot_of)} have not ended")
        await asyncio.sleep(_LOOK)
