"""`python eval.py --report DIR`: one page with everything an evaluation has to say."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import yaml

from jaxcec.commands.console import call, console
from jaxcec.commands.settings import plain
from jaxcec.commands.tables import Cells
from jaxcec.evaluation.figures import schedule_figure
from jaxcec.evaluation.result_page import save_report
from jaxcec.evaluation.schedule import Schedule
from jaxcec.scenarios import Scenario

if TYPE_CHECKING:
    from jaxcec.commands.evaluate import EvalCommand

PACKAGES = ("jaxcec", "jax", "flax", "numpy")


def repeat(command: EvalCommand, folder: Path) -> str:
    """The command that plays the same again, with the settings that an evaluation left in its folder."""
    words = ["--config", str(folder / "config.yaml"), "--dataset", command.dataset]
    words += ["--episodes", str(command.count), "--seed", str(command.seed), "--clairvoyant", str(command.generations)]
    for flag, values in {"--policies": command.policies, "--policy": command.policy}.items():
        words += [flag, *values] if values else []
    return call("eval", *words, *(["--checkpoint", str(command.checkpoint)] if command.checkpoint else []))


def write_report(
    folder: Path,
    command: EvalCommand,
    scenario: Scenario,
    tables: Sequence[Cells],
    sources: dict[str, str],
    schedules: Sequence[Schedule],
) -> None:
    """Write report.html, and beside it the schedule of each policy as a PNG.

    Args:
        folder: with act.png.
        command: what was asked.
        scenario: where it was played.
        tables: what was found.
        sources: of each learned policy, its file and how it was trained.
        schedules: one episode under each policy.
    """
    episode = f"first test episode of seed {command.seed}"
    try:
        figures = [("ACT of every policy", folder / "act.png")]
        for schedule in schedules:
            path = folder / f"schedule-{schedule.policy.replace(':', '-')}.png"
            schedule_figure([schedule], path, episode)
            figures.append((f"{schedule.policy}: the {episode}", path))
        parts = {
            "command": repeat(command, folder),
            "facts": _facts(command, sources),
            "tables": [table._asdict() for table in tables],
            "settings": yaml.safe_dump(plain(dataclasses.asdict(scenario)), sort_keys=False),
        }
        save_report(folder / "report.html", f"{command.dataset}, {scenario.name}", parts, figures)
    except ImportError as error:
        console.print(f"no report.html: {error}")


def _facts(command: EvalCommand, sources: dict[str, str]) -> list[tuple[str, str]]:
    device = jax.devices()[0]
    return [
        ("seed of the episodes", str(command.seed)),
        ("episodes", f"{command.count}, of the test split, the same for every policy"),
        ("device", f"{jax.device_count()} x {device.device_kind} ({platform.machine()})"),
        ("Python", platform.python_version()),
        *((name, version(name)) for name in PACKAGES),
        *((f"policy {name}", source) for name, source in sources.items()),
    ]
