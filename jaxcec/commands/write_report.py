"""`python eval.py --report DIR`: one page with all results of an evaluation."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax

from jaxcec.commands.console import console
from jaxcec.commands.tables import Cells
from jaxcec.commands.worlds import shortened
from jaxcec.evaluation import Schedule, schedule_figure
from jaxcec.evaluation.result_page import save_report

PACKAGES = ("jaxcec", "jax", "flax", "numpy")


def write_report(
    folder: Path,
    *,
    title: str,
    command: str,
    seed: int,
    episodes: int,
    tables: Sequence[Cells],
    sources: dict[str, str],
    remarks: Sequence[str],
    schedules: Sequence[Schedule],
) -> None:
    """Write report.html, and the schedule of each policy as a PNG, into a folder with act.png and config.yaml.

    `command` is the command line that repeats the evaluation, `sources` has file and provenance of each learned policy,
    and `remarks` say what was read from the files of the world.
    """
    episode = f"first test episode of seed {seed}"
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind} ({platform.machine()})"
    try:
        figures = [("ACT of every policy", folder / "act.png")]
        for schedule in schedules:
            path = folder / f"schedule-{schedule.policy.replace(':', '-')}.png"
            schedule_figure([schedule], path, title=episode)
            figures.append((f"{schedule.policy}: the {episode}", path))
        parts = {
            "command": command,
            "facts": [
                ("seed of the episodes", str(seed)),
                ("episodes", f"{episodes}, of the test split, the same for every policy"),
                ("device", device),
                ("Python", platform.python_version()),
                *((name, version(name)) for name in PACKAGES),
                *((f"policy {name}", source) for name, source in sources.items()),
            ],
            "remarks": shortened(remarks),
            "tables": [table._asdict() for table in tables],
            "settings": (folder / "config.yaml").read_text(),
        }
        save_report(folder / "report.html", title=title, parts=parts, figures=figures)
    except ImportError as error:
        console.print(f"no report.html: {error}")
