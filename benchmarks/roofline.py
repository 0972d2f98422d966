"""Share of the device's roofline that the compiled step reaches: bytes and operations per decision against its rates.

    python benchmarks/roofline.py --num-envs 256 4096 16384

Bytes and operations are XLA's count (cost analysis) for one compiled step. The device's rates are measured by copying
256 MiB and by multiplying matrices of 2048 x 2048. The roofline is the decisions/s at which the slower of the two would
be busy all the time; the share is the measured speed divided by it. XLA counts the bytes that every fusion reads
whether or not they are cached: if data stay in a cache, the share can exceed the bound of memory alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from harness import processor, report, versions
from programs import Case, make_program

WHATS = ("random", "le", "eft", "actor", "twin")
REPEATS = 20


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Return the least time, s, of a call after the first one."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - begin)
    return min(times)


def device_rates() -> tuple[float, float]:
    """Measure the bytes/s read and written by a copy and the operations/s of a float32 matrix product."""
    block = jnp.zeros(2**26, jnp.float32)  # 256 MiB
    # In place and within one call, so that no new pages are allocated.
    repeated = jax.jit(lambda x: jax.lax.fori_loop(0, 4, lambda i, y: y + 1.0, x))
    matrix = jnp.ones((2048, 2048), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    return 4 * 2 * block.nbytes / seconds(repeated, block), 2 * 2048**3 / seconds(product, matrix)


def row(what: str, num_envs: int, bandwidth: float, arithmetic: float) -> dict[str, Any]:
    """Return one row of the table: cost, roofline and measured speed of a program."""
    chunk, state = make_program(Case(what, num_envs), 1, None)
    cost = chunk.lower(state, jax.random.key(0)).compile().cost_analysis() or {}
    bytes_, operations = cost["bytes accessed"] / num_envs, cost["flops"] / num_envs
    steps = max(2**16 // num_envs, 4)
    chunk, state = make_program(Case(what, num_envs), steps, None)
    compiled = chunk.lower(state, jax.random.key(0)).compile()
    state = jax.block_until_ready(compiled(state, jax.random.key(1)))
    times = []
    for i in range(3):
        begin = time.perf_counter()
        state = jax.block_until_ready(compiled(state, jax.random.key(i)))
        times.append(time.perf_counter() - begin)
    measured = num_envs * steps / min(times)
    bound = 1.0 / max(bytes_ / bandwidth, operations / arithmetic)
    return {
        "what": what,
        "num_envs": num_envs,
        "bytes": bytes_,
        "operations": operations,
        "bound_by": "memory" if bytes_ / bandwidth > operations / arithmetic else "arithmetic",
        "roofline": bound,
        "decisions_per_s": measured,
        "share": measured / bound,
    }


def main() -> None:
    """Measure the device and every program, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=WHATS, default=list(WHATS))
    parser.add_argument("--num-envs", nargs="+", type=int, default=[4096])
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    bandwidth, arithmetic = device_rates()
    kind = jax.devices()[0].device_kind
    setting = {
        "device": processor() if kind == "cpu" else kind,
        "versions": versions("jax", "jaxcec"),
        "copy_bytes_per_s": bandwidth,
        "operations_per_s": arithmetic,
    }
    print(f"copy {bandwidth / 1e9:.1f} GB/s, float32 product {arithmetic / 1e9:.0f} G operations/s")
    rows = [row(what, n, bandwidth, arithmetic) for what in arguments.what for n in arguments.num_envs]
    columns = {"what": "", "num_envs": ",", "bytes": ",.0f", "operations": ",.0f", "bound_by": ""}
    report(setting, rows, columns | {"roofline": ",.0f", "decisions_per_s": ",.0f", "share": ".0%"}, arguments.json)


if __name__ == "__main__":
    main()
