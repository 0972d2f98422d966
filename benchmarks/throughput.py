"""Decisions per second of the environment alone, with an agent, and of full training, at several sizes.

    python benchmarks/throughput.py --quick
    python benchmarks/throughput.py --devices all --json benchmarks/results/DEVICE.json
    python benchmarks/throughput.py --what eft train --num-envs 4096

The programs: `random`, `le` and `eft`, the environment under a rule with auto-reset; `actor`, the environment under the
actor network; `twin`, with every node tried in the learned twin; `plan`, with candidates simulated ahead under
the actor and a forecast of load; `train`, full DTDRLMO training. Parts of the observation that a rule does not read are
not computed. Compilation is timed separately. Without `--num-envs`, batch sizes go from 1 to 65,536, and the sizes of
services, timelines and topologies vary one at a time.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

from harness import Row, measured, processor, report, versions

WHATS = ("random", "le", "eft", "actor", "twin", "plan", "train")  # not imported from programs, which loads JAX
BATCHES = (1, 16, 256, 4096, 16384, 65536)
SIZES = (
    [{"num_services": m} for m in (10, 40)]
    + [{"max_microservices": n} for n in (25, 100)]
    + [{"link_breakpoints": q, "host_breakpoints": q} for q in (32, 64, 256)]
    + [{"num_nodes": v} for v in (16, 32, 64)]
    + [{"num_services": 40, "max_microservices": 100}]
)
SECONDS = 3.0  # least duration of each run
CHUNK = 65_536  # least number of decisions in one compiled loop


def measure(case: Row) -> Row:
    """Measure one case in this process."""
    import jax
    from programs import Case, make_program, training_speed

    from jaxcec.commands.runtime import choose_mesh

    settings = Case(**case)
    mesh = choose_mesh(settings.devices)
    if mesh is not None and settings.num_envs % mesh.size:
        mesh = None  # too few environments for all devices
    steps = min(max(CHUNK // settings.num_envs, 4), 1024)
    process = {"device": jax.devices()[0].device_kind}
    if settings.what == "train":
        figures = training_speed(settings, steps, mesh, seconds=SECONDS)
        return figures | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6} | process
    chunk, state = make_program(settings, steps, mesh)
    state_bytes = sum(x.nbytes for x in jax.tree.leaves(state) if hasattr(x, "nbytes"))
    keys = iter(jax.random.split(jax.random.key(3), 10_000))
    begin = time.perf_counter()
    compiled = chunk.lower(state, next(keys)).compile()
    compile_s = time.perf_counter() - begin
    state = jax.block_until_ready(compiled(state, next(keys)))
    begin, done = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begin) < SECONDS:
        state = jax.block_until_ready(compiled(state, next(keys)))
        done += steps
    return {
        "decisions_per_s": settings.num_envs * done / seconds,
        "compile_s": compile_s,
        "bytes_per_env": state_bytes / settings.num_envs,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    } | process


def cases(whats: list[str], batches: list[int] | None, devices: str, quick: bool) -> list[Row]:
    """List the cases: all batch sizes, and one other size at a time for the rules whose cost depends on it."""
    base: list[Row] = [
        {"what": what, "num_envs": n} for what in whats for n in batches or ([4096] if quick else BATCHES)
    ]
    varied: list[Row] = [
        {"what": w, "num_envs": 4096, **size} for size in SIZES for w in ("random", "eft") if w in whats
    ]
    return [case | {"devices": devices} for case in base + ([] if batches or quick else varied)]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=WHATS, default=list(WHATS))
    parser.add_argument(
        "--num-envs", nargs="+", type=int, help="batch sizes; by default a range of them, and other sizes"
    )
    parser.add_argument(
        "--devices", default="all", help="devices that share the environments: a number (CPU: of cores), or all"
    )
    parser.add_argument("--processes", type=int, help="runs of each case; by default 3, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="4096 environments alone: under 5 minutes on 2 cores")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--case", help="measure one case, as JSON, in this process")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(json.loads(arguments.case))))
        return
    asked = cases(arguments.what, arguments.num_envs, arguments.devices, arguments.quick)
    done = list(measured(__file__, asked, arguments.processes or (2 if arguments.quick else 3)))
    kind = done[0][1]["device"]
    setting = {"device": processor() if kind == "cpu" else kind, "versions": versions("jax", "flax", "jaxcec")}
    rows = [row for row, _ in done]
    varied = [name for name in rows[-1] if name in {"num_services", "max_microservices", "num_nodes"}]
    columns = {"what": "", "num_envs": ",", "decisions_per_s": ",.0f", "worst": ",.0f", "compile_s": ".1f"}
    report(
        setting, rows, columns | dict.fromkeys(varied, "") | {"bytes_per_env": ",.0f", "peak_gb": ".1f"}, arguments.json
    )


if __name__ == "__main__":
    main()
