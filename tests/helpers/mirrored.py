"""What has happened in an episode of the simulator, as events of a running system."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxcec.env import CECEnv, EnvParams, EnvState, Info
from jaxcec.env.background import history_at
from jaxcec.env.known import HISTORY
from jaxcec.live import events
from jaxcec.live.decider import Verdict
from jaxcec.live.ledger import Due, Ledger
from jaxcec.live.orders import decision_event
from jaxcec.live.site import Site

SINCE = 1_766_000_000.0  # s, when the episode begins; a whole number of frames
MEASURED = (
    ("flow_start", events.FlowStarted),
    ("data_ready", events.FlowEnded),
    ("start", events.ExecutionStarted),
    ("finish", events.ExecutionEnded),
)


def site_of(instance: dict[str, Any], frame: float) -> Site:
    """The site of an instance, with room for exactly its services."""
    largest = max(len(service["load"]) for service in instance["services"])
    network = {name: instance[name] for name in ("links", "node_speed", "device_speed", "capacity")}
    sizes = {"num_services": len(instance["services"]), "max_microservices": largest}
    return Site(**network, **sizes, frame=frame, link_breakpoints=126, host_breakpoints=126)


def played(env: CECEnv, params: EnvParams, state: EnvState, actions: Any, steps: int) -> tuple[EnvState, list[Info]]:
    """The state after some steps, and the info of each of them."""
    records, key = [], jax.random.key(0)
    for i in range(steps):
        action = jax.tree.map(lambda x: x[i], actions)  # noqa: B023
        _, state, _, _, info = env.step_env(key, state, action, params)
        records.append(jax.device_get(info))
    return state, records


def ledger_of(
    site: Site, instance: dict[str, Any], *, params: EnvParams, state: EnvState, records: list[Info], now: float
) -> Ledger:
    """The ledger at a time in s of the episode; services must be in the order of their releases."""
    ledger = Ledger(site)
    for host in range(site.config.num_hosts):
        ledger.apply(events.WorkerUp(time=SINCE, host=host))
    for event in _loads(site, params, state, now):
        ledger.apply(event)
    for i, service in enumerate(instance["services"]):
        if np.float32(service["release"]) <= now:
            spec = events.Service(**service | {"release": 0.0})
            ledger.apply(
                events.Submitted(time=SINCE + float(np.float32(service["release"])), service=f"s{i}", spec=spec)
            )
    for record in records:
        ledger.apply(_decision(ledger, record))
    for event in sorted(_measured(records, now), key=lambda event: event.time):
        ledger.apply(event)
    return ledger


def _loads(site: Site, params: EnvParams, state: EnvState, now: float) -> Iterator[events.LoadMeasured]:
    links, frame = site.config.max_links, site.frame
    history = history_at(params.background, state.episode.offset, time=np.float32(now), frames=HISTORY)
    for k, loads in enumerate(np.asarray(history, np.float64).T):
        time = SINCE + (np.floor(now / frame) - HISTORY + 1 + k) * frame
        of_links = dict(enumerate(loads[:links]))
        for host, cpu in enumerate(loads[links:]):
            yield events.LoadMeasured(time=time, host=host, cpu=cpu, links={} if host else of_links)


def _decision(ledger: Ledger, record: Info) -> events.Event:
    service, microservice, time = int(record["service"]), int(record["microservice"]), SINCE + float(record["time"])
    verdict = Verdict(record | {"feasible": True, "late": 0.0}, "some", late=False)
    return decision_event(ledger, Due(time, service, microservice), verdict, SINCE)


def _measured(records: list[Info], now: float) -> Iterator[events.Event]:
    for record in records:
        of = {"service": f"s{record['service']}", "microservice": int(record["microservice"]), "attempt": 0}
        for name, kind in MEASURED:
            if record["decided"] and record[name] <= now:
                yield kind(time=SINCE + float(record[name]), **of)
