"""Latency of one decision about a running system: from what is known of it to the event that records the decision.

    python benchmarks/live_latency.py
    python benchmarks/live_latency.py --policies eft dtdrlmo --decisions 500 --json FILE

Twenty synthetic services of up to 50 microservices are in flight on eight nodes at all times: when one ends, the next
is submitted. Time is virtual, and everything happens when the twin expects it. `facts` is the time to collect what is
known, `decide` that of the compiled program and its transfers, `log` that to append the event to the log.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import jax
import numpy as np
from harness import processor, report, versions

from jaxcec.agents import PRETRAINED, load_policy
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import CECEnv
from jaxcec.evaluation import Contender, baseline_contenders
from jaxcec.live import events
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.ledger import Due, Ledger
from jaxcec.live.orders import decision_event
from jaxcec.live.site import Site
from jaxcec.scenarios.synthetic_dags import synthetic_dag
from jaxcec.scenarios.topology import synthetic_topology

PARTS = ("facts", "decide", "log")
POLICIES = ("eft", "dtdrlmo", "peft-rollout", "dtdrlmo-plan")
SINCE = 1_766_000_000.0  # s


def main() -> None:
    """Measure, and print percentiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--decisions", type=int, default=500)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    use_compilation_cache()
    site, rows = _site(), []
    for contender in _contenders(site, arguments.policies):
        latencies = 1000.0 * asyncio.run(_latencies(site, contender, arguments.decisions))
        columns = {part: latencies[:, i] for i, part in enumerate(PARTS)} | {"total": latencies.sum(axis=1)}
        percentiles = {f"{part} p{p}": float(np.percentile(ms, p)) for part, ms in columns.items() for p in (50, 99)}
        rows.append({"policy": contender.name} | percentiles)
    setting = {"device": processor(), "versions": versions("jax"), "unit": "ms", "decisions": arguments.decisions}
    report(setting, rows, {name: "" if name == "policy" else ".2f" for name in rows[0]}, arguments.json)


def _site() -> Site:
    topology = synthetic_topology(
        np.random.default_rng(0), 8, neighbours=(2, 3), bandwidth=10.0, node_speed=40.0, device_speed=10.0
    )
    return Site(
        links=[(link.a, link.b, link.bandwidth) for link in topology.links],
        node_speed=topology.node_speed.tolist(),
        device_speed=topology.device_speed.tolist(),
        capacity=topology.capacity.tolist(),
    )


def _contenders(site: Site, names: Sequence[str]) -> list[Contender]:
    env = CECEnv(site.config, site.empty)
    known = {contender.name: contender for contender in baseline_contenders(env)}
    observation = env.reset(jax.random.key(0))[0]
    for name in {*names} - {*known}:
        known[name] = load_policy(PRETRAINED / f"{name}.msgpack", observation).contender(env)
    return [known[name] for name in names]


def _service(rng: np.random.Generator, site: Site) -> events.Service:
    dag = synthetic_dag(rng, site.max_microservices, mean_load=500.0, mean_data=500.0, demand=(0.25, 0.75))
    return events.Service(
        source=int(rng.integers(site.config.num_nodes)),
        preds=[list(before) for before in dag.preds],
        load=dag.load.tolist(),
        data=dag.data.tolist(),
        demand=dag.demand.tolist(),
    )


async def _latencies(site: Site, contender: Contender, decisions: int) -> np.ndarray:
    """(decisions, 3) s, of PARTS."""
    rng, ledger, decider = np.random.default_rng(1), Ledger(site), Decider(site, contender, deadline=np.inf)
    happens: list[tuple[float, int, events.Event]] = [
        (SINCE, h, events.WorkerUp(time=SINCE, host=h)) for h in range(16)
    ]
    measured: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder, EventLog(Path(folder) / "log.sqlite") as log:
        while len(measured) < decisions:
            while len(ledger.slot_of) < site.num_services:
                number = ledger.counters.submitted
                time = max(ledger.time, SINCE)
                ledger.apply(events.Submitted(time=time, service=f"s{number}", spec=_service(rng, site)))
            due = ledger.next_due()
            if happens and (due is None or happens[0][0] <= due.time):
                ledger.apply(heapq.heappop(happens)[-1])
                continue
            assert due is not None
            event, latency = await _timed(ledger, due, decider, log)
            ledger.apply(event)
            measured.append(latency)
            if isinstance(event, events.Decided):
                for kind, at in enumerate((event.flow_start, event.data_ready, event.start, event.finish)):
                    heapq.heappush(happens, (at, 4 * len(measured) + kind, _report(event, kind, at)))
    decider.close()
    return np.array(measured)


def _report(event: events.Decided, kind: int, at: float) -> events.Event:
    kinds = (events.FlowStarted, events.FlowEnded, events.ExecutionStarted, events.ExecutionEnded)
    return kinds[kind](time=at, service=event.service, microservice=event.microservice, attempt=event.attempt)


async def _timed(
    ledger: Ledger, due: Due, decider: Decider, log: EventLog
) -> tuple[events.Decided | events.Postponed, list[float]]:
    """One decision, and what its parts took in s."""
    begin = perf_counter()
    facts = ledger.facts(due.time, (due.slot, due.microservice))
    known = perf_counter()
    verdict = await decider.decide(facts)
    event = decision_event(ledger, due, verdict, due.time - float(facts.now))
    decided = perf_counter()
    log.append([event])
    return event, [known - begin, decided - known, perf_counter() - decided]


if __name__ == "__main__":
    main()
