"""Execution of a microservice on a host (Eq. 1, 8)."""

from __future__ import annotations

import chex
import jax.numpy as jnp
from flax import struct

from jaxcec.env.timeline import earliest_start
from jaxcec.env.types import Timeline


class Execution(struct.PyTreeNode):
    """A microservice placed on a host's timeline."""

    start: chex.Array  # () s
    finish: chex.Array  # () s
    usage: chex.Array  # (K,) share of each of the host's resources held in [start, finish)


def place_execution(
    host: Timeline, load: chex.Array, speed: chex.Array, demand: chex.Array, capacity: chex.Array, ready: chex.Array
) -> Execution:
    """Earliest execution at the speed offered; nothing is reserved yet.

    Args:
        host: the host's timeline.
        load: () Mcycles, C.
        speed: () Mcycles/s offered at the decision time, PS.
        demand: (K,) resources, R. A demand above the host's capacity takes the whole host.
        capacity: (K,) the host's resources.
        ready: () s, when the input is there.
    """
    usage = jnp.minimum(demand / capacity, 1.0)
    duration = load / speed
    start = earliest_start(host, usage[None], ready[None], duration[None])[0]
    return Execution(start=start, finish=start + duration, usage=usage)
