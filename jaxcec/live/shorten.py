"""Shortens an event log: services that ended long ago leave it, and what they add up to is carried on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from jaxcec.env import HISTORY
from jaxcec.live import events
from jaxcec.live.event_log import EventLog
from jaxcec.live.ledger import Ledger
from jaxcec.live.site import Site


def shorten(log: EventLog, site: Site, *, before: float) -> int:
    """Remove the events of services that ended before a time, and loads that nobody needs any more.

    The ledger of what is left has the same services in flight, loads, counters and unit of time. The names of removed
    services are forgotten: what is submitted under one is a new service. A controller may append meanwhile.

    Args:
        log: of the site.
        site: the network.
        before: s, of the controller's clock, which counts from 1970.

    Returns:
        The number of events removed.

    Raises:
        sqlite3.Error: the log cannot be read or written; then nothing is lost.
    """
    numbers, removed, carried = [], Ledger(site), 0
    for number, event in _removable(log, site, before):
        numbers.append(number)
        removed.apply(event)
        carried += isinstance(event, events.Carried)
    if len(numbers) > carried:
        sums, counters = removed.sums.tolist(), dataclasses.asdict(removed.counters)
        log.replace(numbers, events.Carried(time=removed.time, counters=counters, sums=sums))
    return len(numbers) - carried


def _removable(log: EventLog, site: Site, before: float) -> Iterator[tuple[int, events.Event]]:
    """The events that can be removed, with their numbers, and earlier removals to be summed up with them."""
    ledger, last, state_of, newest = Ledger(site), dict[str, float](), dict[int, int](), 0
    for number, event in log.read():
        ledger.apply(event)
        newest = number
        if isinstance(event, events.WorkerUp | events.WorkerDown):
            state_of[event.host] = number
        elif service := getattr(event, "service", None):
            last[service] = event.time
    lives = ledger.slot_of.keys() | {event.service for event in ledger.waiting}
    ended = {service for service, time in last.items() if time < before} - lives
    for number, event in log.read():
        if number >= newest:  # The newest stays, because later ones are numbered after it.
            return
        if isinstance(event, events.LoadMeasured):
            removable = event.time < before - HISTORY * site.frame
        elif isinstance(event, events.WorkerUp | events.WorkerDown):
            removable = event.time < before and state_of[event.host] != number
        else:
            removable = isinstance(event, events.Carried) or event.service in ended
        if removable:
            yield number, event
