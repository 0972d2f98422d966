"""Schedules as files for other programs: a CSV table of decisions, or JSON with the network and the measures too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxcec.evaluation.schedule import Placed, Schedule
from jaxcec.files import csv_text, write_aside, write_json

_NODE = ("name", "place", "speed", "device_speed", "capacity")


def save_schedule(schedules: Sequence[Schedule], path: Path, *, title: str = "") -> None:
    """Write the schedules of one episode under each policy as CSV, or as JSON if the path ends in `.json`.

    docs/command_line.md describes both. A title is part of the JSON.

    Raises:
        ValueError: a number for JSON is NaN or infinite.
    """
    if path.suffix == ".json":
        write_json(path, _content(schedules, title))
        return
    rows = ([schedule.policy, *row] for schedule in schedules for row in _rows(schedule))
    write_aside(path, csv_text(["policy", *Placed._fields], rows))


def _rows(schedule: Schedule) -> Iterator[list[Any]]:
    """The decisions, with names instead of the numbers that a table could not resolve; lists are texts."""
    tasks = {(p.service, p.microservice): p.task for p in schedule.placed}
    for placed in schedule.placed:
        named = {
            "origins": [schedule.nodes[v] for v in placed.origins],
            "links": [schedule.link_names[link] for link in placed.links],
            "predecessors": [tasks[placed.service, k] for k in placed.predecessors],
        }
        values = (placed._asdict() | named).values()
        yield ["; ".join(map(str, value)) if isinstance(value, list | tuple) else value for value in values]


def _content(schedules: Sequence[Schedule], title: str) -> dict[str, Any]:
    first = schedules[0]
    speeds = first.speeds[: len(first.nodes)], first.speeds[len(first.nodes) :]
    nodes = zip(first.nodes, first.places, *speeds, first.capacities, strict=True)
    links = zip(first.link_names, first.links, strict=True)
    return {
        "title": title,
        "nodes": [dict(zip(_NODE, node, strict=True)) for node in nodes],
        "links": [{"name": name, "from": a, "to": b, "bandwidth": bandwidth} for name, (a, b, bandwidth) in links],
        "releases": first.releases,
        "sources": first.sources,
        **dataclasses.asdict(first.measuring),
        "policies": {schedule.policy: _of_policy(schedule) for schedule in schedules},
    }


def _of_policy(schedule: Schedule) -> dict[str, Any]:
    return {
        "measures": schedule.measures,
        "completions": schedule.completions,
        "slowdowns": schedule.slowdowns,
        "decisions": [placed._asdict() for placed in schedule.placed],
    }
