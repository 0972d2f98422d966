"""Observations as networks take them: logarithms of times, loads and rates, all of order one."""

from __future__ import annotations

import chex
import jax.numpy as jnp
from flax import struct

from jaxcec.env import Observation

TIME = 10.0  # s
SIZE = 100.0  # Mbit, Mcycles
RATE = 10.0  # Mbit/s, Mcycles/s


class Features(struct.PyTreeNode):
    """The state s_t of the networks. Leading axes may be batch axes."""

    nodes: chex.Array  # (V, K + 12), columns as in `encode`
    links: chex.Array  # (E, 3)
    context: chex.Array  # (K + 9,): the microservice and its service


def encode(observation: Observation) -> Features:
    """Features of one unbatched observation."""
    nodes, links = observation.nodes, observation.links
    microservice, service = observation.microservice, observation.service
    behind = nodes.finish - jnp.min(nodes.finish)
    return Features(
        nodes=jnp.concatenate(
            [
                nodes.free,
                jnp.stack(
                    [
                        _log(nodes.speed, RATE),  # column SPEED
                        nodes.load,
                        _log(nodes.backlog, TIME),
                        _log(nodes.inputs, SIZE),
                        _log(nodes.wait, TIME),
                        _log(nodes.transfer, TIME),
                        _log(nodes.execution, TIME),
                        _log(nodes.traffic, TIME),
                        _log(nodes.data_ready, TIME),
                        _log(nodes.finish, TIME),
                        _log(behind, TIME),
                        service.source,
                    ],
                    axis=-1,
                ),
            ],
            axis=-1,
        ),
        links=jnp.stack([_log(links.free, RATE), links.load, _log(links.bandwidth, RATE)], axis=-1),
        context=jnp.concatenate(
            [
                microservice.demand,
                jnp.stack(
                    [
                        _log(microservice.load, SIZE),
                        _log(microservice.data, SIZE),
                        _log(microservice.in_degree, 1.0),
                        _log(microservice.out_degree, 1.0),
                        _log(microservice.rank, SIZE),
                        _log(service.remaining_load, SIZE),
                        _log(service.remaining, 1.0),
                        _log(service.age, TIME),
                        _log(service.slack, TIME),
                    ]
                ),
            ]
        ),
    )


def node_speed(features: Features, num_resources: int) -> chex.Array:
    """Mcycles/s offered by each node, (..., V): the inverse of what `encode` does to it."""
    return RATE * jnp.expm1(features.nodes[..., num_resources])


def _log(x: chex.Array, unit: float) -> chex.Array:
    return jnp.log1p(x / unit)
