"""Rounding error of float32 on long horizons: the simulator's finish times against those of the float64 oracle.

python benchmarks/rounding.py --out docs/figures/rounding.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from harness import print_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.oracle import Oracle
from helpers.rounding_cases import late

from jaxcec.env import Action, build_instance

RELEASES = [10.0**k for k in range(1, 8)]  # s


def error(release: float) -> float:
    """Return the largest error, s, of any finish time in an episode whose services are released at `release`, s."""
    instance = late(release)
    env, params = build_instance(**instance)
    key, oracle, worst, hosts = jax.random.key(0), Oracle(instance), 0.0, 0
    _, state = env.reset(key)
    while oracle.current() is not None:
        host = hosts % len(instance["node_speed"])
        action = Action(jnp.int32(host), jnp.float32(1.0), jnp.float32(0.0))
        _, state, _, _, info = env.step_env(key, state, action, params)
        worst, hosts = max(worst, abs(float(info["finish"]) - oracle.decide(host, 1.0, 0.0).finish)), hosts + 1
    return worst


def main() -> None:
    """Measure the errors, print a table and draw the figure if a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="PNG file to write the figure to")
    out = parser.parse_args().out
    errors = [error(release) for release in RELEASES]
    spacing = np.spacing(np.array(RELEASES, np.float32)).astype(float)
    rows = [{"s": t, "error": e, "spacing": s} for t, e, s in zip(RELEASES, errors, spacing, strict=True)]
    print_table("largest error of a finish", rows, {"s": ",.0f", "error": ".2g", "spacing": ".2g"})
    if out is None:
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.0, 3.2), layout="constrained")
    axes.loglog(RELEASES, errors, "o-", label="largest error of a finish")
    axes.loglog(RELEASES, spacing, "k--", label="spacing of float32")
    axes.set(xlabel="time in the episode (s)", ylabel="s")
    axes.legend()
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
