"""Schedules as files for other programs: a CSV table of decisions, or JSON with the network and the measures too."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcec.evaluation.schedule import Placed, Schedule
from jaxcec.files import csv_text, write_aside, write_json


def save_schedule(schedules: Sequence[Schedule], path: Path, *, title: str = "") -> None:
    """Write the schedules of one episode under each policy as CSV, or as JSON if the path ends in `.json`.

    docs/command_line.md describes both. A title is part of the JSON.

    Raises:
        ValueError: a number for JSON is NaN or infinite.
    """
    if path.suffix == ".json":
        write_json(path, _content(schedules, title))
        return
    rows = ([schedule.policy, *map(_cell, placed)] for schedule in schedules for placed in schedule.placed)
    write_aside(path, csv_text(["policy", *Placed._fields], rows))


def _cell(value: Any) -> Any:
    """A value of a CSV table; a tuple as words with spaces between them."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def _content(schedules: Sequence[Schedule], title: str) -> dict[str, Any]:
    first = schedules[0]
    nodes = zip(first.speeds[: first.num_nodes], first.speeds[first.num_nodes :], first.capacities, strict=True)
    return {
        "title": title,
        "nodes": [{"speed": speed, "device_speed": device, "capacity": capacity} for speed, device, capacity in nodes],
        "links": [{"from": a, "to": b, "bandwidth": bandwidth} for a, b, bandwidth in first.links],
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
