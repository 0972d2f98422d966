"""Training and evaluation for hours: do memory and speed stay constant?

    python benchmarks/soak.py --minutes 60 --out soak.json

Full DTDRLMO training at 4096 environments in chunks, every eighth followed by 64 validation episodes. Reported are
resident memory and decisions/s of the first and of the last tenth of the time, after two minutes of warming up.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from harness import Row, processor, report, versions
from rich.progress import Progress

from jaxcec.agents import AgentConfig, EvolutionConfig, Report, train
from jaxcec.scenarios import Scenario, make_env

CHUNK = 8  # decisions in every environment
WARMING = 120.0  # s


def resident() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def soak(minutes: float, num_envs: int) -> list[Row]:
    """One row per chunk: seconds since the start, MiB, decisions/s of training."""
    env, params = make_env(Scenario(dataset="both", reward="expected-act"), "train")
    rows: list[Row] = []
    begin = time.perf_counter()
    with Progress() as progress:
        task = progress.add_task("soaking", total=60.0 * minutes)

        def callback(report: Report) -> bool:
            now = time.perf_counter() - begin
            if "decisions_per_s" in report.metrics:
                rows.append({"s": now, "mib": resident(), "decisions_per_s": report.metrics["decisions_per_s"]})
            progress.update(task, completed=now)
            return now > 60.0 * minutes

        config = AgentConfig(evolution=EvolutionConfig(generations=0))
        train(
            env,
            params,
            config,
            num_envs=num_envs,
            total_decisions=2**62,
            key=jax.random.key(0),
            callback=callback,
            report_every=CHUNK,
        )
    return rows


def tenths(rows: list[Row]) -> list[Row]:
    """Medians of the first and of the last tenth of the rows, and the most memory and the least speed in each."""
    part = max(len(rows) // 10, 1)
    return [
        {
            "tenth": name,
            "chunks": part,
            "mib": float(np.median([row["mib"] for row in chosen])),
            "most_mib": max(row["mib"] for row in chosen),
            "decisions_per_s": float(np.median([row["decisions_per_s"] for row in chosen])),
            "worst": min(row["decisions_per_s"] for row in chosen),
        }
        for name, chosen in {"first": rows[:part], "last": rows[-part:]}.items()
    ]


def main() -> None:
    """Soak and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--num-envs", type=int, default=4096)
    parser.add_argument("--out", help="file for the figures")
    arguments = parser.parse_args()
    rows = [row for row in soak(arguments.minutes, arguments.num_envs) if row["s"] > WARMING]
    columns = {"tenth": "", "chunks": "", "mib": ",.0f", "most_mib": ",.0f", "decisions_per_s": ",.0f", "worst": ",.0f"}
    setting = {"device": processor(), "versions": versions("jax", "jaxlib"), "minutes": arguments.minutes}
    report(setting, tenths(rows), columns, arguments.out)


if __name__ == "__main__":
    main()
