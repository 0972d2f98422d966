"""Where a scenario's networks, services, arrivals and background loads come from: what is read, once for both splits.

Each is generated, shipped with the package, or read from files. What a file gives is kept, or scaled by one factor to
the scenario's mean (`Scenario.rescale`); what it lacks is drawn as the scenario draws it. The notes say which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from jaxcec.env import Names
from jaxcec.readers import NetworkFile, WorkflowFile, read_instants, read_networks, read_workflows
from jaxcec.scenarios.alibaba import LoadReport, load_batch_tasks
from jaxcec.scenarios.job_table import JobTable, alibaba_hour
from jaxcec.scenarios.load_processes import BACKGROUNDS
from jaxcec.scenarios.machine_usage import usage_grid
from jaxcec.scenarios.scenario import ARRIVALS, DATASETS, NETWORKS, Scenario
from jaxcec.scenarios.seeds import few_split, is_shared

Digested = TypeVar("Digested", NetworkFile, WorkflowFile)


@dataclasses.dataclass(frozen=True)
class Sources:
    """What was read for a scenario; empty where everything is generated."""

    jobs: JobTable | None = None  # of the datasets alibaba and both
    report: LoadReport | None = None  # of the user's own trace
    networks: tuple[NetworkFile, ...] = ()
    workflows: tuple[WorkflowFile, ...] = ()
    instants: np.ndarray | None = None  # (n,) s, ascending
    usage: tuple[list[str], np.ndarray] | None = None  # B machines and their (B, F) loads
    notes: tuple[str, ...] = ()  # what was taken, dropped, drawn and scaled, in words

    @property
    def shared(self) -> list[str]:
        """Which of networks, workflows and machines are too few for two splits, so that both have the same."""
        digests = {
            "networks": [network.digest for network in self.networks],
            "workflows": [workflow.digest for workflow in self.workflows],
            "machines": [name.encode() for name in self.usage[0]] if self.usage else [],
        }
        return [name for name, each in digests.items() if each and is_shared(each)]

    def names(self, split: str) -> Names:
        """What the files call the nodes and tasks of the banks of a split."""
        return Names(
            networks=[network.nodes for network in of_split(self.networks, split)],
            workflows=[(workflow.name, workflow.tasks) for workflow in of_split(self.workflows, split)],
        )


def of_split(files: Sequence[Digested], split: str) -> list[Digested]:
    """The networks or workflows of a split, in order."""
    return [files[i] for i in few_split([file.digest for file in files], split)]


def read_sources(scenario: Scenario) -> Sources:
    """Read what a scenario takes from files and tables.

    Raises:
        ImportError: a package is missing that reads the files.
        ValueError: a file is missing, damaged, or has nothing that can be used.
    """
    sources = Sources()
    if scenario.dataset in ("alibaba", "both"):
        own = None if scenario.trace is None else load_batch_tasks(scenario.trace)
        jobs, report = (alibaba_hour(), None) if own is None else own
        sources = dataclasses.replace(sources, jobs=jobs, report=report)
        if scenario.arrivals == "trace":
            sources = dataclasses.replace(sources, instants=np.sort(jobs.arrival.astype(np.float64)))
    elif scenario.dataset not in DATASETS:
        sources = dataclasses.replace(sources, workflows=tuple(read_workflows(scenario.dataset)))
    if scenario.network not in NETWORKS:
        networks = tuple(read_networks(scenario.network, largest_part=scenario.largest_part))
        sources = dataclasses.replace(sources, networks=networks)
    if scenario.arrivals not in ARRIVALS:
        sources = dataclasses.replace(sources, instants=read_instants(scenario.arrivals))
    if scenario.background not in BACKGROUNDS:
        sources = dataclasses.replace(sources, usage=usage_grid(scenario.background, scenario.frame))
    notes = [f"{each.name}: {note}" for each in sources.networks for note in each.notes]
    notes += [f"{each.name}: {note}" for each in sources.workflows for note in each.notes]
    sources = dataclasses.replace(sources, notes=(*_lacking(sources), *notes))
    return rescaled(sources, scenario) if scenario.rescale else sources


def _lacking(sources: Sources) -> list[str]:
    """How many numbers the files do not give, so that they are drawn, and what only one side gives in units."""
    values: dict[str, list[Any]] = {
        "bandwidths of links": [link.bandwidth for each in sources.networks for link in each.links],
        "speeds of nodes": [x for each in sources.networks for x in each.node_speed],
        "speeds of end devices": [x for each in sources.networks for x in each.device_speed],
        "loads of tasks": [x for each in sources.workflows for x in each.loads(1.0)],
    }
    counts = {what: sum(x is None for x in found) for what, found in values.items()}
    drawn = [f"{what}: {count} of {len(values[what])} are drawn" for what, count in counts.items() if count]
    given = {kind: "networks" for each in sources.networks for kind in each.capacity}
    needed = {kind: "workflows" for each in sources.workflows for kind in each.demand}
    alone = {kind: (given | needed)[kind] for kind in sorted(set(given) ^ set(needed))}
    return drawn + [f"{kind}: not used, for only the {side} give it" for kind, side in alone.items()]


def rescaled(sources: Sources, scenario: Scenario) -> Sources:
    """Sources whose bandwidths, speeds, loads and data have the scenario's means, and notes of the factors."""
    notes = list(sources.notes)
    networks = _rescaled_networks(sources.networks, scenario, notes)
    workflows = _rescaled_workflows(sources.workflows, scenario, notes)
    return dataclasses.replace(sources, networks=networks, workflows=workflows, notes=tuple(notes))


def _rescaled_networks(
    networks: tuple[NetworkFile, ...], scenario: Scenario, notes: list[str]
) -> tuple[NetworkFile, ...]:
    """Networks whose bandwidths and speeds have the scenario's means, over all of them."""
    rates = [rate for each in networks for link in each.links for rate in (link.bandwidth, link.back)]
    by_rate = _factor("bandwidths", rates, scenario.bandwidth, notes)
    of_nodes = [x for each in networks for x in each.node_speed]
    by_speed = _factor("speeds of nodes", of_nodes, scenario.node_speed, notes)
    of_devices = [x for each in networks for x in each.device_speed]
    by_device = _factor("speeds of end devices", of_devices, scenario.device_speed, notes)
    return tuple(
        dataclasses.replace(
            each,
            links=tuple(
                link._replace(bandwidth=_scaled(link.bandwidth, by_rate), back=_scaled(link.back, by_rate))
                for link in each.links
            ),
            node_speed=tuple(_scaled(x, by_speed) for x in each.node_speed),
            device_speed=tuple(_scaled(x, by_device) for x in each.device_speed),
        )
        for each in networks
    )


def _rescaled_workflows(
    workflows: tuple[WorkflowFile, ...], scenario: Scenario, notes: list[str]
) -> tuple[WorkflowFile, ...]:
    """Workflows whose loads and data have the scenario's means, over all tasks."""
    loads = [x for each in workflows for x in each.loads(scenario.node_speed)]
    data = [x for each in workflows for x in each.data]
    by_load = _factor("loads", loads, scenario.load, notes)
    by_data = _factor("data", data, scenario.data, notes)
    return tuple(
        dataclasses.replace(
            each,
            run_time=tuple(_scaled(x, by_load) for x in each.run_time),
            load=tuple(_scaled(x, by_load) for x in each.load),
            sent=tuple({k: by_data * mbit for k, mbit in row.items()} for row in each.sent),
            external=tuple(by_data * mbit for mbit in each.external),
        )
        for each in workflows
    )


def _factor(what: str, values: list[Any], mean: float, notes: list[str]) -> float:
    """The factor by which the known and positive values get a mean; 1 if there are none."""
    known = [x for x in values if x]
    if not known:
        return 1.0
    factor = mean * len(known) / sum(known)
    notes.append(f"{what} are multiplied by {factor:.6g}, to a mean of {mean:g}")
    return factor


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value
