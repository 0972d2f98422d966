"""Topologies and services from what files say; what they do not say is drawn as the scenario draws it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from jaxcec.env.banks import Dag, Topology
from jaxcec.env.routing import Link
from jaxcec.readers import NetworkFile, WorkflowFile
from jaxcec.scenarios.sampling import truncated_normal
from jaxcec.scenarios.topology import Duplex

_SHARES = ("cpu", "mem")  # kinds of resource of which a service holds shares of a node, unless files give units
_MOST_PAIRS = 2**14  # pairs of nodes in a bank of networks: 256 networks of 8 nodes
_MOST_CELLS = 2**24  # pairs of microservices in a bank of services: 84 MB
Units = dict[str, float | None]  # by kind of resource, the mean capacity of a node; None where there are shares of it


def all_kinds(networks: Iterable[NetworkFile], workflows: Iterable[WorkflowFile]) -> Units:
    """The kinds of resource of a world: those that networks and workflows both give, and cpu and memory in any case."""
    needed = {kind for each in workflows for kind in each.demand}
    given: dict[str, list[float]] = {}
    for network in networks:
        for kind, values in network.capacity.items():
            given.setdefault(kind, []).extend(x for x in values if x is not None)
    known = {kind: float(np.mean(values)) for kind, values in sorted(given.items()) if kind in needed and values}
    return dict.fromkeys(_SHARES) | known


def most_link_resources(networks: Iterable[NetworkFile], *, duplex: Duplex) -> int:
    """E, link resources of the network that has the most."""
    return max(max(sum(1 if _shared(link.back, duplex) else 2 for link in each.links) for each in networks), 1)


def _shared(back: float | None, duplex: Duplex) -> bool:
    """Whether the directions of a link share its bandwidth."""
    return back is None and duplex == "half"


def file_topologies(
    networks: Sequence[NetworkFile],
    rng: np.random.Generator,
    *,
    most: int,
    kinds: Units,
    duplex: Duplex,
    bandwidth: float,
    node_speed: float,
    device_speed: float,
    latency: float,
) -> list[Topology]:
    """Make a bank of networks: each once if the files say everything, otherwise in several variants of what they lack.

    What is lacking is drawn around the mean of what the same file gives, or of the scenario if it gives nothing, with
    the deviations of `synthetic_topology`.

    Args:
        networks: the files.
        rng: source of randomness.
        most: topologies in the bank, or fewer, so that it has at most `_MOST_PAIRS` pairs of nodes; but each file once.
        kinds: of resource, of `all_kinds`.
        duplex: whether directions share a bandwidth that the file does not give for each.
        bandwidth: mean, Mbit/s.
        node_speed: mean, Mcycles/s.
        device_speed: mean, Mcycles/s.
        latency: of a link whose file gives none, s.
    """
    pairs = max(len(each.nodes) for each in networks) ** 2
    drawn = any(None in (*_rates(each), *each.node_speed, *each.device_speed) for each in networks)
    count = max(len(networks), min(most, _MOST_PAIRS // pairs)) if drawn else len(networks)
    bank = []
    for i in range(count):
        network = networks[i % len(networks)]
        rates = _completed(rng, _rates(network), bandwidth, relative_sd=0.8).tolist()
        links = [
            Link(
                link.a,
                link.b,
                rate,
                rate if link.back is None and duplex == "full" else link.back,
                latency if link.latency is None else link.latency,
            )
            for link, rate in zip(network.links, rates, strict=True)
        ]
        speed = _completed(rng, network.node_speed, node_speed, relative_sd=0.8)
        device = _completed(rng, network.device_speed, device_speed, relative_sd=0.2)
        bank.append(Topology(links, node_speed=speed, device_speed=device, capacity=_capacity(network, kinds)))
    return bank


def _rates(network: NetworkFile) -> list[float | None]:
    return [link.bandwidth for link in network.links]


def _capacity(network: NetworkFile, kinds: Units) -> np.ndarray:
    """(V, K) units or shares; a node without a known kind has the mean of cpu and memory, and nothing of others."""
    size, columns = len(network.nodes), []
    for kind, mean in kinds.items():
        values = (1.0,) * size if mean is None else network.capacity.get(kind, (None,) * size)
        columns.append([(mean if kind in _SHARES else 0.0) if x is None else x for x in values])
    return np.array(columns).T


def file_dags(
    workflows: Sequence[WorkflowFile],
    rng: np.random.Generator,
    *,
    most: int,
    kinds: Units,
    speed: float,
    mean_load: float,
    demand: tuple[float, float],
) -> list[Dag]:
    """Make a bank of workflows, in variants of what they lack, such as the shares of a node that a task holds.

    Args:
        workflows: the files.
        rng: source of randomness.
        most: services in the bank, or fewer, so that it has at most `_MOST_CELLS` pairs of microservices; but each file
            once.
        kinds: of resource, of `all_kinds`.
        speed: of the node that the run times were measured on, Mcycles/s.
        mean_load: of a task without run time, if the file gives none, Mcycles.
        demand: range of the share of a node's cpu and memory.
    """
    cells = max(len(each.tasks) for each in workflows) ** 2
    count = max(len(workflows), min(most, _MOST_CELLS // cells))
    bank = []
    for i in range(count):
        workflow = workflows[i % len(workflows)]
        shares = rng.uniform(*demand, (len(workflow.tasks), len(_SHARES)))
        bank.append(
            Dag(
                preds=workflow.preds,
                load=_completed(rng, workflow.loads(speed), mean_load, relative_sd=0.6),
                data=np.array(workflow.data),
                demand=_demand(workflow, shares, kinds),
                sent=workflow.sent,
                external=np.array(workflow.external),
            )
        )
    return bank


def _demand(workflow: WorkflowFile, shares: np.ndarray, kinds: Units) -> np.ndarray:
    """(n, K) units or shares; a task without a known kind holds a drawn share of the mean node, and none of others."""
    size, columns = len(workflow.tasks), []
    for kind, mean in kinds.items():
        drawn = (mean or 1.0) * shares[:, _SHARES.index(kind)] if kind in _SHARES else np.zeros(size)
        given = (None,) * size if mean is None else workflow.demand.get(kind, (None,) * size)
        columns.append([x if y is None else y for x, y in zip(drawn.tolist(), given, strict=True)])
    return np.array(columns).T


def _completed(
    rng: np.random.Generator, values: Sequence[float | None], mean: float, *, relative_sd: float
) -> np.ndarray:
    """The values, with those that are None drawn around the mean of the positive ones, or around a mean if none is."""
    known = [x for x in values if x]
    drawn = truncated_normal(rng, float(np.mean(known)) if known else mean, relative_sd=relative_sd, size=len(values))
    return np.array([x if y is None else y for x, y in zip(drawn.tolist(), values, strict=True)])
