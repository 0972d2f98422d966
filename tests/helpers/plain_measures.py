"""Every measure of an episode in plain Python, from the file that `save_schedule` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from helpers.oracle import link_resources, shortest_route

Content = Mapping[str, Any]


def measures(content: Content, policy: str) -> dict[str, float]:
    """The measures of the episode under a policy; `act` too."""
    decisions, power = content["policies"][policy]["decisions"], content["power"]
    completion, slowdown = completions(content, policy), slowdowns(content, policy)
    makespan = max(row["finish"] for row in decisions)
    running = [node for node in content["nodes"] if node["speed"] > 0]
    node_work, device_work, traffic, link_work = work(content, decisions)
    return {
        "act": math.fsum(completion) / len(completion),
        **{f"p{share}": percentile(completion, share) for share in (50, 95, 99)},
        "makespan": makespan,
        "missed": sum(x > content["deadline"] for x in slowdown) / len(slowdown),
        "jain": math.fsum(slowdown) ** 2 / (len(slowdown) * math.fsum(x * x for x in slowdown)),
        "node_utilisation": node_work / makespan / len(running),
        "link_utilisation": link_work / makespan / max(len(content["links"]), 1),
        "traffic": traffic,
        "energy": len(running) * power["node_idle"] * makespan
        + (power["node_busy"] - power["node_idle"]) * node_work
        + (power["device_busy"] - power["device_idle"]) * device_work
        + power["link"] * traffic,
    }


def completions(content: Content, policy: str) -> list[float]:
    """Completion time of each service, s."""
    decisions = content["policies"][policy]["decisions"]
    return [
        max(row["finish"] for row in decisions if row["service"] == i) - release
        for i, release in enumerate(content["releases"])
    ]


def slowdowns(content: Content, policy: str) -> list[float]:
    """Completion over the heaviest path at the fastest host; 1 for a service without load."""
    fastest = max(max(node["speed"], node["device_speed"]) for node in content["nodes"])
    result = []
    for i, completion in enumerate(completions(content, policy)):
        path: dict[int, float] = {}
        rows = [row for row in content["policies"][policy]["decisions"] if row["service"] == i]
        for row in rows:  # in the order of decisions, predecessors first
            path[row["microservice"]] = row["load"] + max((path[k] for k in row["predecessors"]), default=0.0)
        heaviest = max(path.values())
        result.append(completion / (heaviest / fastest) if heaviest else 1.0)
    return result


def work(content: Content, decisions: list[dict[str, Any]]) -> tuple[float, float, float, float]:
    """Seconds of whole nodes and of whole devices, Mbit x links, and seconds of whole links."""
    links = as_arguments(content["links"])
    rates = [rate for rate, _ in link_resources(links)]
    routes: dict[tuple[int, int], list[int]] = {}
    nodes, devices, traffic, seconds = 0.0, 0.0, 0.0, 0.0
    for row in decisions:
        kind, target = row["kind"], row["node"]
        capacity = content["nodes"][target]["capacity"][0] if kind == "node" else 1.0
        held = (min(row["demand"][0] / capacity, 1.0) if capacity else 0.0) * (row["finish"] - row["start"])
        nodes, devices = (nodes + held, devices) if kind == "node" else (nodes, devices + held)
        for origin, sent in zip(row["origins"], row["sent"], strict=True):
            pair = origin, target
            if pair not in routes:
                routes[pair] = shortest_route(links, *pair)
            traffic += sent * len(routes[pair])
            seconds += sum(sent / rates[link] for link in routes[pair])
    return nodes, devices, traffic, seconds


def as_arguments(links: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Links as `build_instance` takes them: a pair of nodes that occurs in both orders is full duplex."""
    rates = {(link["from"], link["to"]): link["bandwidth"] for link in links}
    return [
        (a, b, (rate, rates[b, a]) if (b, a) in rates else rate)
        for (a, b), rate in rates.items()
        if (b, a) not in rates or a < b
    ]


def percentile(values: list[float], share: float) -> float:
    """A percentile with linear interpolation between the two nearest values."""
    ordered = sorted(values)
    at = share / 100 * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
