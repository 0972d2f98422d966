"""Time to import a module in addition to JAX itself, measured in separate processes.

    python benchmarks/import_time.py
    python benchmarks/import_time.py jaxcec.commands.train --processes 5

`python -X importtime -c "import jaxcec.env"` shows where the time goes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile

from harness import print_table, processor, versions

CODE = """
import time
begin = time.perf_counter()
import jax, jax.numpy
middle = time.perf_counter()
import {module}
print(middle - begin, time.perf_counter() - middle)
"""


def seconds(module: str) -> tuple[float, float]:
    """Return the import times, s, of JAX and of the module after it, in a fresh process outside the repository."""
    command = [sys.executable, "-c", CODE.format(module=module)]
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=elsewhere)
    jax, beyond = map(float, done.stdout.split())
    return jax, beyond


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=["jaxcec.env", "jaxcec.commands.train"])
    parser.add_argument("--processes", type=int, default=11, help="runs of each module, after one that warms the disk")
    arguments = parser.parse_args()
    rows = []
    for module in arguments.modules:
        runs = [seconds(module) for _ in range(arguments.processes + 1)][1:]
        alone, beyond = zip(*runs, strict=True)
        rows.append({"module": module, "jax": statistics.median(alone)})
        rows[-1] |= {"beyond": statistics.median(beyond), "worst": max(beyond)}
    columns = {"module": "", "jax": ".2f", "beyond": ".2f", "worst": ".2f"}
    print_table(f"seconds, {processor()}, {versions('jax', 'flax', 'networkx')}", rows, columns)


if __name__ == "__main__":
    main()
