"""What a decision means: where the parts of an input lie, the event that records it, and what a worker is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcec.live import protocol
from jaxcec.live.decider import Verdict
from jaxcec.live.events import Decided, Postponed, run_id
from jaxcec.live.ledger import Booking, Due, Ledger

NOWHERE = 1.0  # s until a decision is tried again for which no host is up
_BYTES = 125_000  # in a Mbit
_FASTEST = 1e12  # bytes/s, of parts that cross no link


class Part(NamedTuple):
    """A part of a microservice's input."""

    host: int  # where it lies
    run: str | None  # whose output it is; None if it lay there when the service was submitted
    size: float  # Mbit


def input_parts(ledger: Ledger, slot: int, microservice: int) -> list[Part]:
    """The parts that have a size, by predecessor."""
    event = ledger.slots[slot]
    assert event is not None
    sent, data = ledger.dags.sent[slot, microservice], ledger.dags.data[slot, microservice]
    parts = []
    for k in np.flatnonzero(sent * data):
        size = float(data * (sent[k] / sent.sum()))
        if k == microservice:
            parts.append(Part(int(ledger.source[slot]), None, size))
        else:
            run = run_id(event.service, int(k), int(ledger.attempt[slot, k]))
            parts.append(Part(int(ledger.host[slot, k]), run, size))
    return parts


def decision_event(ledger: Ledger, due: Due, verdict: Verdict, begin: float) -> Decided | Postponed:
    """The event of a decision whose times are relative to `begin` in s."""
    service = ledger.slots[due.slot]
    assert service is not None
    info = verdict.info

    def at(name: str) -> float:
        return begin + float(info[name])

    attempt = int(ledger.attempt[due.slot, due.microservice])
    of: dict[str, Any] = {"service": service.service, "microservice": due.microservice, "attempt": attempt}
    if not info["feasible"]:
        return Postponed(time=at("time"), until=at("time") + NOWHERE, **of)
    if info["postponed"]:
        return Postponed(time=at("time"), until=at("finish"), **of)
    host, duration = int(info["host"]), float(info["flow_end"] - info["flow_start"])
    return Decided(
        time=at("time"),
        host=host,
        flow_start=at("flow_start"),
        flow_end=at("flow_end"),
        data_ready=at("data_ready"),
        start=at("start"),
        finish=at("finish"),
        links=link_shares(ledger, input_parts(ledger, due.slot, due.microservice), host, duration),
        policy=verdict.policy,
        late=verdict.late,
        later=float(info["late"]),
        **of,
    )


def link_shares(ledger: Ledger, parts: list[Part], host: int, duration: float) -> dict[int, float]:
    """The share of each link's bandwidth that a coflow to a host takes, if it lasts `duration` in s."""
    site, nodes = ledger.site, ledger.site.config.num_nodes
    if duration <= 0.0:
        return {}
    traffic = sum((part.size * site.route[part.host % nodes, host % nodes] for part in parts), np.zeros(1))
    return {int(e): float(traffic[e] / (site.bandwidth[e] * duration)) for e in np.flatnonzero(traffic)}


def run_order(
    ledger: Ledger, booking: Booking, *, now: float, addresses: Sequence[str | None], cores: float
) -> protocol.Run:
    """What a worker is told to do, with delays from `now` in s on.

    Args:
        ledger: with the booking.
        booking: the decision.
        now: s.
        addresses: (H,) of the hosts' workers.
        cores: that the worker's node has.
    """
    event, site = booking.decided, ledger.site
    service = ledger.slots[booking.slot]
    assert service is not None
    duration = event.flow_end - event.flow_start
    inputs = []
    for part in input_parts(ledger, booking.slot, event.microservice):
        size, peer = round(part.size * _BYTES), addresses[part.host]
        assert peer is not None
        crosses = part.host % site.config.num_nodes != event.host % site.config.num_nodes
        rate = size / duration if crosses and duration > 0.0 else _FASTEST
        inputs.append(protocol.Input(peer=peer, id=part.run, size=size, rate=max(rate, 1.0)))
    commands = service.spec.commands
    share = float(booking.usage[0]) or 1.0
    seconds = float(ledger.dags.load[booking.slot, event.microservice]) / site.speed[event.host]
    burn = protocol.Burn(cpu_seconds=seconds * share * cores)
    offered = min(seconds / (event.finish - event.start), 1.0) if event.finish > event.start else 1.0
    return protocol.Run(
        id=event.run,
        inputs=inputs,
        not_before=max(event.flow_start - now, 0.0),
        hold=max(event.start - now, 0.0),
        work=burn if commands is None else protocol.Command(argv=commands[event.microservice]),
        share=share * offered,  # what other tenants leave of it
        usage=booking.usage.tolist(),
    )
