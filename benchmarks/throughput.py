"""Decisions per second of the environment under three rules, each in several processes.

    python benchmarks/throughput.py --num-envs 4096 --processes 5

Repeats inside one process agree to a per cent while processes differ by a factor, so each row is the median and the
worst of processes. Compilation is timed apart. What a rule does not read of the observation is not computed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

RULES = ("random", "le", "eft")


def measure(rule: str, num_envs: int, steps: int) -> dict[str, float]:
    """One process's figure: decisions/s over a scan of `steps`, seconds to compile it and a single step."""
    import jax

    from jaxcec.policies import BASELINES
    from jaxcec.scenarios import Scenario, make_env

    env, params = make_env(Scenario(), "train")
    policy = BASELINES[rule]
    keys = jax.random.split(jax.random.key(0), num_envs)
    state = jax.jit(jax.vmap(env.reset_env, in_axes=(0, None)))(keys, params)[1]

    def step(state, key):
        step_keys = jax.random.split(key, num_envs)
        observation = jax.vmap(lambda s, k: env.observe(k, s, None, params))(state, step_keys)
        action = jax.vmap(policy)(observation, step_keys)
        _, state, reward, *_ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(step_keys, state, action, params)
        return state, reward.mean()

    begin = time.perf_counter()
    jax.jit(step).lower(state, keys[0]).compile()
    first = time.perf_counter() - begin
    run = jax.jit(lambda state, key: jax.lax.scan(step, state, jax.random.split(key, steps)), donate_argnums=0)
    begin = time.perf_counter()
    state = jax.block_until_ready(run(state, jax.random.key(1)))[0]
    compile_and_run = time.perf_counter() - begin
    begin = time.perf_counter()
    jax.block_until_ready(run(state, jax.random.key(2)))
    seconds = time.perf_counter() - begin
    return {
        "decisions_per_s": num_envs * steps / seconds,
        "compile_s": compile_and_run - seconds,
        "first_step_s": first,
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
    }


def main() -> None:
    """Measure every rule and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--rule", choices=RULES, help="measure one rule in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.rule:
        print(json.dumps(measure(arguments.rule, arguments.num_envs, arguments.steps)))
        return
    rows = []
    for rule in RULES:
        command = [sys.executable, __file__, "--rule", rule, "--num-envs", str(arguments.num_envs)]
        command += ["--steps", str(arguments.steps)]
        runs = []
        for i in range(arguments.processes):
            print(f"\r{rule} {i + 1}/{arguments.processes} ", end="", file=sys.stderr, flush=True)
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        speeds = [run["decisions_per_s"] for run in runs]
        rows.append(
            {
                "what": rule,
                "num_envs": arguments.num_envs,
                "decisions_per_s": statistics.median(speeds),
                "worst": min(speeds),
                "compile_s": statistics.median(run["compile_s"] for run in runs),
                "first_step_s": statistics.median(run["first_step_s"] for run in runs),
            }
        )
    print(file=sys.stderr)
    setting = {"device": f"{runs[0]['device']}, {os.cpu_count()} cores", "versions": runs[0]["versions"]}
    print(f"{setting['device']}, {setting['versions']}")
    print(f"{arguments.num_envs} environments, {arguments.processes} processes")
    print(f"{'rule':8}{'median/s':>12}{'worst/s':>12}{'compile s':>11}{'first step s':>14}")
    for row in rows:
        print(
            f"{row['what']:8}{row['decisions_per_s']:12,.0f}{row['worst']:12,.0f}{row['compile_s']:11.1f}"
            f"{row['first_step_s']:14.1f}"
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(setting | {"rows": rows}, file, indent=2)


if __name__ == "__main__":
    main()
