"""Observations as inputs of networks: logarithms of times, loads and rates, all of order one."""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxcec.env import INFEASIBLE, Observation

TIME = 10.0  # s
SIZE = 100.0  # Mbit, Mcycles
RATE = 10.0  # Mbit/s, Mcycles/s
LARGEST_COST = 1000.0  # s; larger costs are clipped, as such nodes are never chosen
LEAST_SCORE = -1e9  # of a node that cannot run the microservice

COSTS = ("execution", "wait", "behind", "ahead", "traffic", "increase")  # of a decision, each in s: see `costs`
# Of `Features.nodes`, after the K free shares.
NODE_COLUMNS = ("speed", "load", "backlog", "inputs", "transfer", "data_ready", "finish", "source", *COSTS)


class Features(struct.PyTreeNode):
    """The state s_t as the networks take it. There may be leading batch axes."""

    nodes: chex.Array  # (V, K + 14), columns free and NODE_COLUMNS
    links: chex.Array  # (E, 4)
    context: chex.Array  # (K + 11,): the microservice and its service


def encode(observation: Observation) -> Features:
    """Features of one unbatched observation.

    Three columns are derived: by how much a node's finish is later than the earliest (`behind`), by how much its path
    ahead is longer than the shortest (`ahead`), and by how much the node increases the expected completion time of
    the service (`increase`).
    """
    nodes, links = observation.nodes, observation.links
    microservice, service = observation.microservice, observation.service
    columns = {
        "speed": (nodes.speed, RATE),
        "load": (nodes.load, None),
        "backlog": (nodes.backlog, TIME),
        "inputs": (nodes.inputs, SIZE),
        "transfer": (nodes.transfer, TIME),
        "data_ready": (nodes.data_ready, TIME),
        "finish": (nodes.finish, TIME),
        "source": (service.source, None),
        "execution": (nodes.execution, TIME),
        "wait": (nodes.wait, TIME),
        "behind": (nodes.finish - jnp.min(nodes.finish), TIME),
        "ahead": (nodes.ahead - jnp.min(nodes.ahead), TIME),
        "traffic": (nodes.traffic, TIME),
        "increase": (jnp.maximum(nodes.finish + nodes.ahead - service.expected, 0.0), TIME),
    }
    per_link = [(links.free, RATE), (links.load, None), (links.bandwidth, RATE), (links.backlog, TIME)]
    scalars = [
        (microservice.load, SIZE),
        (microservice.data, SIZE),
        (microservice.in_degree, 1.0),
        (microservice.out_degree, 1.0),
        (microservice.rank, SIZE),
        (service.remaining_load, SIZE),
        (service.remaining, 1.0),
        (service.age, TIME),
        (service.slack, TIME),
        (service.expected, TIME),
        (service.others, 1.0),
    ]
    return Features(
        nodes=jnp.concatenate([nodes.free, _encoded([columns[name] for name in NODE_COLUMNS])], axis=-1),
        links=_encoded(per_link),
        context=jnp.concatenate([microservice.demand, _encoded(scalars)]),
    )


def costs(features: Features) -> chex.Array:
    """COSTS of each node, (..., V, 6) s: the inverse of their encoding."""
    return jnp.minimum(TIME * jnp.expm1(features.nodes[..., -len(COSTS) :]), LARGEST_COST)


def feasible(features: Features) -> chex.Array:
    """(..., V) bool, nodes that can run the microservice: the execution time of the others is INFEASIBLE."""
    return features.nodes[..., -len(COSTS)] < jnp.log1p(0.1 * INFEASIBLE / TIME)


def only_feasible(scores: chex.Array, features: Features) -> chex.Array:
    """(..., V) scores of the nodes, with one that softmax and argmax never choose where the microservice cannot run."""
    return jnp.where(feasible(features), scores, LEAST_SCORE)


def load_context(features: Features) -> chex.Array:
    """(..., 10) of order one: the state of the load and of the service, which prices are linear in."""
    service = features.context[..., -5:]  # remaining, age, slack, expected, others
    names = ("backlog", "wait", "data_ready", "transfer")
    columns = [NODE_COLUMNS.index(name) - len(NODE_COLUMNS) for name in names]
    nodes = mean_node(features)[..., jnp.array(columns)]
    return jnp.concatenate([service, nodes, mean_link(features)[..., -1:]], axis=-1) / 2.0 - 1.0


def mean_node(features: Features) -> chex.Array:
    """(..., F): mean over the nodes that can run the microservice, as the times of the others are not times."""
    can_run = feasible(features)[..., None]
    total = jnp.sum(jnp.where(can_run, features.nodes, 0.0), axis=-2)
    return total / jnp.maximum(can_run.sum(-2), 1).astype(jnp.float32)


def mean_link(features: Features) -> chex.Array:
    """(..., 4): mean over the links that exist; rows of zeros are padding."""
    there = features.links.any(axis=-1, keepdims=True)
    return features.links.sum(-2) / jnp.maximum(there.sum(-2), 1).astype(jnp.float32)


def _encoded(columns: Sequence[tuple[chex.Array, float | None]]) -> chex.Array:
    """(..., C): C arrays side by side; those with a unit as the logarithm of one plus their number of units.

    The logarithms are one operation on all columns: one on each takes four times as long on a CPU.
    """
    numbers = jnp.stack([x for x, _ in columns], axis=-1)
    row = (1,) * (numbers.ndim - 1) + (len(columns),)
    units = np.array([unit or 1.0 for _, unit in columns], np.float32).reshape(row)
    has_unit = np.array([unit is not None for _, unit in columns]).reshape(row)
    return jnp.where(has_unit, jnp.log1p(numbers / units), numbers)
