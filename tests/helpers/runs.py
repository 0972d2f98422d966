"""A run that takes seconds, from Python and from the command line, and access to the folders of runs.

Tests of training share it, because compiling it takes longer than everything else that they do.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from jaxcec.agents import AgentConfig, EvolutionConfig
from jaxcec.scenarios import Scenario

SCENARIO = Scenario(
    name="tiny",
    num_services=2,
    max_microservices=4,
    num_topologies=2,
    num_dags=8,
    num_patterns=4,
    num_traces=2,
    num_frames=16,
    link_breakpoints=32,
    host_breakpoints=16,
)
CONFIG = AgentConfig(
    hidden=(8, 8),
    replay_size=64,
    batch_size=16,
    updates_per_step=1,
    warmup_steps=2,
    evolution=EvolutionConfig(generations=2, pairs=2),
)
ENVS = 8
EPISODES = "64"  # of evaluations: as many as validations play, so that they share programs
STEPS = 24  # decisions in each environment, each of them a chunk
TINY: dict[str, Any] = {
    "scenario": dataclasses.asdict(SCENARIO),
    "agent": dataclasses.asdict(CONFIG),
    "num_envs": ENVS,
    "total_decisions": ENVS * STEPS,
}
TINY = json.loads(json.dumps(TINY))  # with lists in place of tuples


def steps(folder: Path) -> list[int]:
    """The steps of a run's checkpoints, ascending."""
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


def damage(folder: Path, step: int) -> None:
    """Change one byte in the middle of a checkpoint's largest file."""
    files = [path for path in (folder / "checkpoints" / str(step)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
