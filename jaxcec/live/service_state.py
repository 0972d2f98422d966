"""What is known of one service, and of the whole site at this moment, for people and for other programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jaxcec.live import events
from jaxcec.live.ledger import Booking, Ledger

_PHASES: dict[type[Any], str] = {
    events.Decided: "decided",
    events.Postponed: "postponed",
    events.FlowStarted: "receiving",
    events.FlowEnded: "received",
    events.ExecutionStarted: "running",
    events.ExecutionEnded: "finished",
    events.Failed: "failed",
}


def service_state(happened: Iterable[events.Event]) -> dict[str, Any] | None:
    """The state of a service from its events; None if there are none. Times are in s since 1970.

    Its `state` is in_flight, completed or given_up. Each microservice has a `phase`, and once it is decided its host
    and when it was predicted to finish.
    """
    state: dict[str, Any] | None = None
    for event in happened:
        if isinstance(event, events.Submitted):
            count = len(event.spec.load)
            state = {"name": event.service, "state": "in_flight", "submitted": event.time, "finished": None}
            state["microservices"] = [{"phase": "waiting"} for _ in range(count)]
        elif state is not None and type(event) in _PHASES:
            _update(state, event)
    if state is not None and all(each["phase"] == "finished" for each in state["microservices"]):
        state["state"], state["finished"] = "completed", max(each["time"] for each in state["microservices"])
    return state


def _update(state: dict[str, Any], event: Any) -> None:
    microservice = state["microservices"][event.microservice]
    microservice |= {"phase": _PHASES[type(event)], "time": event.time}
    if isinstance(event, events.Decided):
        microservice |= {"host": event.host, "policy": event.policy, "predicted_finish": event.expected}
    elif isinstance(event, events.Failed):
        microservice["reason"] = event.reason
        if event.gives_up:
            state["state"], state["finished"] = "given_up", event.time


def site_state(ledger: Ledger, now: float) -> dict[str, Any]:
    """The network, other tenants' load, and what is decided and has not finished; times are in s from now."""
    site = ledger.site
    shares = ledger.load.until(now)[:, -1]
    num_nodes = site.config.num_nodes
    links, index = [], 0
    for link in site.topology.links:
        count = 1 if link.back is None else 2
        share = float(shares[index : index + count].max())
        links.append({"a": link.a, "b": link.b, "bandwidth": link.bandwidth, "load": share})
        index += count
    hosts = site.config.max_links
    return {
        "now": now,
        "nodes": [
            {"up": bool(ledger.up[node]), "speed": site.node_speed[node], "load": float(shares[hosts + node])}
            for node in range(num_nodes)
        ],
        "links": links,
        "runs": [_run(booking, now) for booking in ledger.bookings.values()],
        "in_flight": len(ledger.slot_of),
        "waiting": len(ledger.waiting),
    }


def _run(booking: Booking, now: float) -> dict[str, Any]:
    decided = booking.decided
    phases = (booking.started, "running"), (booking.flow_ended, "received"), (booking.flow_started, "receiving")
    return {
        "service": decided.service,
        "microservice": decided.microservice,
        "host": decided.host,
        "phase": next((phase for time, phase in phases if time is not None), "decided"),
        "start": (booking.started or decided.start) - now,
        "predicted_finish": decided.expected - now,
    }
