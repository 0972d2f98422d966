"""Policies in settings that they were not trained in: their ACT over EFT's, with one setting changed at a time.

    python benchmarks/generalisation.py --json FILE
    python benchmarks/generalisation.py --only bandwidth nodes

Episodes of the test split, paired, with 95 % intervals. The shipped policies were trained in the scenario
`calibrated` with services of both datasets, on networks of up to 8 nodes that vary in speed, bandwidth, latency and
kinds of node, at arrivals between a quarter of and sixteen times its rate. More nodes, more services, larger services
and other background loads are new to them.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from harness import processor, report, versions

from jaxcec.agents import PRETRAINED, load_policy
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.evaluation import Contender, episode_keys, paired_difference, rollout
from jaxcec.policies import BASELINES
from jaxcec.scenarios import Scenario, make_env

RULES = ("eft", "greedy", "le")
LEARNED = ("dtdrlmo", "dtdrlmo-plan")
AXES: dict[str, list[dict[str, Any]]] = {
    "as trained": [{}],
    "services": [{"num_services": m} for m in (10, 40)],
    "microservices": [{"max_microservices": n} for n in (25, 100)],
    "bandwidth": [{"bandwidth": b} for b in (2.0, 5.0)],
    "arrivals": [{"arrival_rate": r} for r in (0.005, 0.1)],
    "load": [{"load": c} for c in (50.0, 5000.0)],  # a tenth and ten times the compute/transfer ratio
    "nodes": [{"num_nodes": v} for v in (2, 4, 16, 32, 64)],
    "background": [{"background": b} for b in ("none", "alibaba")],
}


def settings(axes: list[str], dataset: str) -> Iterator[Scenario]:
    """The scenarios of some axes."""
    for axis in axes:
        for change in AXES[axis]:
            name = ", ".join(f"{key} {value}" for key, value in change.items()) or axis
            yield dataclasses.replace(Scenario(dataset=dataset), name=name, **change)


def row(scenario: Scenario, episodes: int) -> dict[str, Any]:
    """ACT of every policy in one scenario, and the learned ones' over EFT's."""
    env, params = make_env(scenario, "test")
    keys = episode_keys(0, episodes)
    observation = jax.eval_shape(env.reset_env, keys[0], params)[0]
    contenders = [Contender.of_rule(name, BASELINES[name]) for name in RULES]
    for name in LEARNED:
        contenders.append(load_policy(PRETRAINED / f"{name}.msgpack", observation).contender(env, name))
    acts = {c.name: np.asarray(rollout(env, params, apply=c.apply, params=c.params, keys=keys).act) for c in contenders}
    figures: dict[str, Any] = {"dataset": scenario.dataset, "setting": scenario.name, "eft": float(acts["eft"].mean())}
    for name in LEARNED:
        against = paired_difference(acts[name], acts["eft"])
        figures[name] = f"{1 + against.mean:.3f} [{1 + against.low:.3f}, {1 + against.high:.3f}]"
        figures |= {f"{name}/{rule}": float(acts[name].mean() / acts[rule].mean()) for rule in RULES[1:]}
    return figures


def main() -> None:
    """Play every setting and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--datasets", nargs="+", choices=("synthetic", "alibaba"), default=["synthetic", "alibaba"])
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    use_compilation_cache()
    rows = []
    for dataset in arguments.datasets:
        for scenario in settings(arguments.only, dataset):
            rows.append(row(scenario, arguments.episodes))
            print(rows[-1], flush=True)
    setting = {"device": processor(), "versions": versions("jax", "jaxcec"), "episodes": arguments.episodes}
    columns = {"dataset": "", "setting": "", "eft": ",.1f"} | dict.fromkeys(LEARNED, "")
    columns |= {f"{name}/{rule}": ".3f" for name in LEARNED for rule in RULES[1:]}
    report(setting, rows, columns, arguments.json)


if __name__ == "__main__":
    main()
