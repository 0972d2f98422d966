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
    host: Timeline, ready: chex.Array, *, load: chex.Array, speed: chex.Array, demand: chex.Array, capacity: chex.Array
) -> Execution:
    """Earliest execution at the offered speed; nothing is reserved.

    Args:
        host: the host's timeline, (Q,), None, (K, Q).
        ready: () s, when the input is on the host.
        load: () Mcycles, C.
        speed: () Mcycles/s offered at the decision time, PS.
        demand: (K,) resources, R. A demand above the host's capacity takes the whole host.
        capacity: (K,) the host's resources.
    """
    usage = jnp.minimum(demand / capacity, 1.0)
    duration = load / speed
    start = earliest_start(host, usage[None], not_before=ready[None], duration=duration[None])[0]
    return Execution(start=start, finish=start + duration, usage=usage)
