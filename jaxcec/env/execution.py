"""Execution of a microservice on a host (Eq. 1, 8)."""

from __future__ import annotations

import chex
import jax.numpy as jnp
from flax import struct

from jaxcec.env.dag import Decision
from jaxcec.env.timeline import earliest_start
from jaxcec.env.types import INFEASIBLE, Timeline


class Execution(struct.PyTreeNode):
    """A microservice placed on a host's timeline."""

    start: chex.Array  # () s
    finish: chex.Array  # () s
    usage: chex.Array  # (K,) share of each of the host's resources held in [start, finish)


def feasible_hosts(load: chex.Array, demand: chex.Array, *, speed: chex.Array, capacity: chex.Array) -> chex.Array:
    """(H,) bool: hosts that can run a microservice.

    An edge node must have its demand, and a host its speed unless there is nothing to compute. An end device runs a
    microservice of any demand.

    Args:
        load: () Mcycles.
        demand: (K,) resources.
        speed: (H,) Mcycles/s nominal, edge nodes first.
        capacity: (H, K) resources.
    """
    device = jnp.arange(speed.size, dtype=jnp.int32) >= speed.size // 2
    return (device | jnp.all(demand[None] <= capacity, axis=-1)) & ((speed > 0.0) | (load == 0.0))


def place_execution(
    decision: Decision, host: Timeline, ready: chex.Array, speed: chex.Array, capacity: chex.Array
) -> Execution:
    """Earliest execution of the current microservice at the offered speed; nothing is reserved.

    Args:
        decision: the current decision. A demand above the host's capacity takes the whole host.
        host: the host's timeline, (Q,), None, (K, Q).
        ready: () s, when the input is on the host.
        speed: () Mcycles/s offered at the decision time, PS.
        capacity: (K,) the host's resources.
    """
    usage = share_of_capacity(decision.demand, capacity)
    duration = execution_time(decision.load, speed)
    start = earliest_start(host, usage[None], not_before=ready[None], duration=duration[None])[0]
    return Execution(start=start, finish=start + duration, usage=usage)


def execution_time(load: chex.Array, speed: chex.Array) -> chex.Array:
    """Eq. 1, C / PS, s; INFEASIBLE for a load where the speed is 0. The shapes broadcast."""
    runs = speed > 0.0
    return jnp.where(runs, load / jnp.where(runs, speed, 1.0), jnp.where(load > 0.0, INFEASIBLE, 0.0))


def share_of_capacity(demand: chex.Array, capacity: chex.Array) -> chex.Array:
    """Share of each resource that a demand takes, at most 1; of a resource that there is none of, 0. (K,) each."""
    exists = capacity > 0.0
    return jnp.where(exists, jnp.minimum(demand / jnp.where(exists, capacity, 1.0), 1.0), 0.0)
