"""Kernels of one step: how many a compiled program starts, and with `--profile` how long each of them takes.

    python benchmarks/kernels.py --what random train --num-envs 4096
    python benchmarks/kernels.py --what train --num-envs 4096 65536 --profile

The number is read from the compiled program, so it needs no clock: instructions that compute something, those of a loop
as often as it runs. The profile is the JAX profiler's, of one chunk of steps after the first.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from harness import Row, print_table, versions
from programs import TRAINED, Case, make_program, world

from jaxcec.agents.loop import init_runner, train_chunk, warm_up

STEPS = 16
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
OPERATION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*?[\])}] ([a-z][\w\-]*)\(")
CALLED = re.compile(r"(?:body|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def count_kernels(program: str) -> int:
    """Number of kernels that a compiled program starts, given its text; a loop of unknown length counts once."""
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in program.splitlines():
        if begins := COMPUTATION.match(line):
            name = begins[2]
            entry = name if begins[1] else entry
            bodies[name] = []
        elif name:
            bodies[name].append(line)

    def count(line: str) -> int:
        operation = OPERATION.match(line)
        if operation is None or operation[1] in FREE:
            return 0
        if operation[1] not in {"while", "call", "conditional"}:
            return 1
        trips = int(found[1]) if (found := TRIPS.search(line)) else 1
        return trips * sum(count(inner) for called in CALLED.findall(line) for inner in bodies[called])

    return sum(count(line) for line in bodies[entry])


def compiled_chunk(case: Case) -> tuple[Any, Callable[[Any], Any], Any]:
    """A compiled program of `STEPS` steps, a function that runs it on a state, and a first state, which it donates."""
    if case.what != "train":
        chunk, state = make_program(case, STEPS, None)
        compiled = chunk.lower(state, jax.random.key(3)).compile()
        return compiled, lambda state: compiled(state, jax.random.key(3)), state
    env, params, key = world(case, None)
    runner = init_runner(env, params, TRAINED, key, num_envs=case.num_envs)
    runner, _ = warm_up(env, params, TRAINED, runner, steps=2)
    compiled = train_chunk.lower(env, params, TRAINED, runner, steps=STEPS).compile()
    return compiled, lambda runner: compiled(params, TRAINED, runner)[0], runner


def profiled(run: Callable[[Any], Any], state: Any) -> list[Row]:
    """Name, number and time of the kernels of one step, the longest first, from the profile of a chunk."""
    state = jax.block_until_ready(run(state))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=False):
            jax.block_until_ready(run(state))
        (file,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    device = {e["pid"] for e in events if e.get("name") == "process_name" and "/device:" in e["args"]["name"]}
    streams = {
        (e["pid"], e["tid"])
        for e in events
        if e.get("name") == "thread_name" and e["pid"] in device and e["args"]["name"].startswith("Stream")
    }
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and (event["pid"], event["tid"]) in streams:
            times[event["name"]].append(event["dur"])  # us
    rows = [{"kernel": k, "per_step": len(t) / STEPS, "us_per_step": sum(t) / STEPS} for k, t in times.items()]
    return sorted(rows, key=lambda row: -row["us_per_step"])


def main() -> None:
    """Print a table of the programs, and of the kernels of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", default=["random", "eft", "plan", "train"], help="as in throughput.py")
    parser.add_argument("--num-envs", nargs="+", type=int, default=[4096])
    parser.add_argument("--profile", action="store_true", help="on a GPU: how long each kernel takes")
    parser.add_argument("--top", type=int, default=25, help="kernels of a profile that are printed")
    arguments = parser.parse_args()
    rows, profiles = [], []
    for what in arguments.what:
        for num_envs in arguments.num_envs:
            compiled, run, state = compiled_chunk(Case(what=what, num_envs=num_envs))
            accessed = compiled.cost_analysis()["bytes accessed"]
            count = count_kernels(compiled.as_text())
            rows.append({"what": what, "num_envs": num_envs, "kernels": count / STEPS, "bytes": accessed})
            if arguments.profile:
                profiles.append((f"{what}, {num_envs} environments", profiled(run, state)))
    setting = f"{jax.devices()[0].device_kind}, {versions('jax', 'jaxcec')}, of one step"
    print_table(setting, rows, {"what": "", "num_envs": ",", "kernels": ",.0f", "bytes": ",.0f"})
    for title, kernels in profiles:
        total = {"kernel": "all", **{c: sum(row[c] for row in kernels) for c in ("per_step", "us_per_step")}}
        columns = {"kernel": "", "per_step": ",.1f", "us_per_step": ",.1f"}
        print_table(title, [total, *kernels[: arguments.top]], columns)


if __name__ == "__main__":
    main()
