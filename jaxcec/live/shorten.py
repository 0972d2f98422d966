"""Shortens an event log: services that ended long ago leave it, and what they add up to is carried on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from jaxcec.env import HISTORY
from jaxcec.live import events
from jaxcec.live.event_log import EventLog
from jaxcec.live.ledger import Ledger
from jaxcec.live.site import Site

_HOST_EVENTS = events.WorkerUp | events.WorkerDown | events.LoadMeasured


def shorten(log: EventLog, site: Site, *, before: float) -> int:
    """Remove the events of services that ended before a time, and loads that nobody needs any more.

    The ledger of what is left has the same services in flight, loads, counters and unit of time. The names of removed
    services are forgotten: what is submitted under one is a new service.

    Args:
        log: of the site. No controller may be using it.
        site: the network.
        before: s, of the controller's clock, which counts from 1970.

    Returns:
        The number of events removed.

    Raises:
        ValueError: another process appends to the log.
        sqlite3.Error: the log cannot be read or written; then nothing is lost.
    """
    log.own()
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
    ended, kept = _ended(log, site, before), _states(log, site, before)
    for number, event in log.read():
        if service := getattr(event, "service", None):
            removable = service in ended
        elif isinstance(event, events.Carried):
            removable = True
        else:
            removable = event.time < _limit(event, site, before) and number not in kept
        if removable:
            yield number, event


def _ended(log: EventLog, site: Site, before: float) -> set[str]:
    """The services that ended before a time. That of the newest event is not among them: later ones are numbered after
    it."""
    ledger, last, newest = Ledger(site), dict[str, float](), None
    for _, event in log.read():
        ledger.apply(event)
        newest = getattr(event, "service", None)
        if newest is not None:
            last[newest] = event.time
    lives = ledger.slot_of.keys() | {event.service for event in ledger.waiting}
    return {service for service, time in last.items() if time < before} - lives - {newest}


def _states(log: EventLog, site: Site, before: float) -> set[int]:
    """The numbers of the events that say how each host was at the time: its last load, and whether it was up.

    Where nothing is measured, the last load stays.
    """
    last = dict[tuple[bool, int], int]()
    for number, event in log.read():
        if isinstance(event, _HOST_EVENTS) and event.time < _limit(event, site, before):
            last[isinstance(event, events.LoadMeasured), event.host] = number
    return set(last.values())


def _limit(event: events.Event, site: Site, before: float) -> float:
    """The time until which an event about a host may be removed, s: the ledger keeps the loads of HISTORY frames."""
    return before - HISTORY * site.frame if isinstance(event, events.LoadMeasured) else before
