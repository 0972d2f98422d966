"""Do two checkouts compute the same? Short trainings and held-out episodes, compared byte for byte.

    git worktree add ../before COMMIT
    python benchmarks/same_results.py ../before . --out /tmp/same

Every algorithm is trained for seconds (`--config smoke`), also with a flat network and on two devices; the shipped
policies and all baselines play 64 test episodes of both datasets. `metrics.csv`, except for its speeds, and
`episodes.csv` must be equal. Results that are already in the folder are not computed again.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

TRAININGS = {
    "dtdrlmo": ["--agent.algorithm", "dtdrlmo"],
    "ddpg": ["--agent.algorithm", "ddpg"],
    "dtdrlmo-plan": ["--agent.algorithm", "dtdrlmo-plan"],
    "ppo": ["--agent.algorithm", "ppo"],
    "dqn": ["--agent.algorithm", "dqn"],
    "flat": ["--agent.network", "flat", "--agent.learn-flow"],
    "2dev": ["--devices", "2"],
}
DATASETS = ("synthetic", "alibaba")
EPISODES = 64
SPEED = "decisions_per_s"


def commands(out: Path) -> dict[Path, list[str]]:
    """The file that each command leaves, and the command."""
    trainings = {
        out / f"train-{name}" / "metrics.csv": ["train.py", "--config", "smoke", *flags, "--out"]
        for name, flags in TRAININGS.items()
    }
    evaluations = {
        out / f"eval-{name}" / "episodes.csv": [
            "eval.py", "--dataset", name, "--episodes", str(EPISODES), "--out"
        ]
        for name in DATASETS
    }  # fmt: skip
    return {file: [*words, str(file.parent)] for file, words in (trainings | evaluations).items()}


def compute(tree: Path, out: Path) -> None:
    """Run the commands of a checkout whose results are missing, in a folder that has no runs to take policies from."""
    out.mkdir(parents=True, exist_ok=True)
    for file, words in commands(out.resolve()).items():
        if not file.is_file():
            print(f"{tree}: {' '.join(words)}", flush=True)
            command = [sys.executable, str(tree.resolve() / words[0]), *words[1:]]
            done = subprocess.run(command, cwd=out, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{tree}: {' '.join(words)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def content(file: Path) -> bytes | list[dict[str, str]]:
    """The part of a file that must be equal: all bytes of the episodes, the metrics without their speeds."""
    if file.name == "episodes.csv":
        return file.read_bytes()
    with file.open(newline="") as text:
        return [{name: x for name, x in row.items() if name != SPEED} for row in csv.DictReader(text)]


def main() -> None:
    """Compute what is missing in both checkouts, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, help="another")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results of both")
    arguments = parser.parse_args()
    folders = arguments.out / "before", arguments.out / "after"
    for tree, out in zip((arguments.before, arguments.after), folders, strict=True):
        compute(tree, out)
    files = zip(*(commands(out) for out in folders), strict=True)
    differing = [before.parent.name for before, after in files if content(before) != content(after)]
    if differing:
        raise SystemExit(f"differ: {', '.join(differing)}")
    print(f"all {len(commands(folders[0]))} results are the same")


if __name__ == "__main__":
    main()
