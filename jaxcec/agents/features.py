"""Observations as inputs of networks: logarithms of times, loads and rates, all of order one.

Times, and sizes at given rates, are measured in the world's own unit (`EnvParams.time_unit`): a world in which
everything takes a hundredth of the time has the same features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxcec.env import INFEASIBLE, USUAL_TIME, EnvParams, Observation

TIME = 10.0  # s, at the usual pace
LARGEST_COST = 1000.0  # s at the usual pace; larger costs are clipped, as such nodes are never chosen
LONGEST = 0.1 * INFEASIBLE  # s; longer times are those of nodes that cannot run the microservice
LEAST_SCORE = -1e9  # of a node that cannot run the microservice

COSTS = ("execution", "wait", "behind", "ahead", "traffic", "increase")  # of a decision: see `costs`
# Of `Features.nodes`, after the K free shares.
NODE_COLUMNS = ("speed", "load", "backlog", "inputs", "transfer", "data_ready", "finish", "source", *COSTS)


class _Unit(NamedTuple):
    """What a column is measured in."""

    amount: float
    paced: bool = False  # whether it is longer where everything takes longer


_TIME, _SIZE = _Unit(TIME, paced=True), _Unit(100.0, paced=True)  # s; Mbit and Mcycles, which take so long at a rate
_RATE, _COUNT = _Unit(10.0), _Unit(1.0)  # Mbit/s and Mcycles/s; numbers of things


class Features(struct.PyTreeNode):
    """The state s_t as the networks take it. There may be leading batch axes."""

    nodes: chex.Array  # (V, K + 14), columns free and NODE_COLUMNS
    links: chex.Array  # (E, 4)
    context: chex.Array  # (K + 11,): the microservice and its service


def pace_of(world: Observation | EnvParams) -> chex.Array:
    """() the world's unit of time in that of the scenario `calibrated`, in which it is 1."""
    return world.time_unit / USUAL_TIME


def encode(observation: Observation) -> Features:
    """Features of one unbatched observation.

    Three columns are derived: by how much a node's finish is later than the earliest (`behind`), by how much its path
    ahead is longer than the shortest (`ahead`), and by how much the node increases the expected completion time of
    the service (`increase`).
    """
    nodes, links = observation.nodes, observation.links
    microservice, service = observation.microservice, observation.service
    columns = {
        "speed": (nodes.speed, _RATE),
        "load": (nodes.load, None),
        "backlog": (nodes.backlog, _TIME),
        "inputs": (nodes.inputs, _SIZE),
        "transfer": (nodes.transfer, _TIME),
        "data_ready": (nodes.data_ready, _TIME),
        "finish": (nodes.finish, _TIME),
        "source": (service.source, None),
        "execution": (nodes.execution, _TIME),
        "wait": (nodes.wait, _TIME),
        "behind": (nodes.finish - jnp.min(nodes.finish), _TIME),
        "ahead": (nodes.ahead - jnp.min(nodes.ahead), _TIME),
        "traffic": (nodes.traffic, _TIME),
        "increase": (jnp.maximum(nodes.finish + nodes.ahead - service.expected, 0.0), _TIME),
    }
    per_link = [(links.free, _RATE), (links.load, None), (links.bandwidth, _RATE), (links.backlog, _TIME)]
    scalars = [
        (microservice.load, _SIZE),
        (microservice.data, _SIZE),
        (microservice.in_degree, _COUNT),
        (microservice.out_degree, _COUNT),
        (microservice.rank, _SIZE),
        (service.remaining_load, _SIZE),
        (service.remaining, _COUNT),
        (service.age, _TIME),
        (service.slack, _TIME),
        (service.expected, _TIME),
        (service.others, _COUNT),
    ]
    per_node = [columns[name] for name in NODE_COLUMNS]
    encoded = partial(_encoded, pace=pace_of(observation))
    return Features(
        nodes=jnp.concatenate([nodes.free, encoded(per_node)], axis=-1),
        links=encoded(per_link),
        context=jnp.concatenate([microservice.demand, encoded(scalars)]),
    )


def costs(features: Features) -> chex.Array:
    """COSTS of each node, (..., V, 6) s at the usual pace: the inverse of their encoding."""
    return jnp.minimum(TIME * jnp.expm1(features.nodes[..., -len(COSTS) :]), LARGEST_COST)


def feasible(features: Features) -> chex.Array:
    """(..., V) bool, nodes that can run the microservice: the execution time of the others is INFEASIBLE."""
    return features.nodes[..., -len(COSTS)] < jnp.log1p(LONGEST / TIME)


def only_feasible(scores: chex.Array, features: Features) -> chex.Array:
    """(..., V) scores of the nodes, with one that softmax and argmax never choose where the microservice cannot run."""
    return jnp.where(feasible(features), scores, LEAST_SCORE)


def load_context(features: Features) -> chex.Array:
    """(..., 11) in [-1, 1]: the state of the load and of the service, which prices are linear in.

    It is bounded, so that prices are not extrapolated far beyond the loads that they were found under.
    """
    service = features.context[..., -5:]  # remaining, age, slack, expected, others
    names = ("backlog", "wait", "data_ready", "transfer", "execution")
    columns = [NODE_COLUMNS.index(name) - len(NODE_COLUMNS) for name in names]
    nodes = mean_node(features)[..., jnp.array(columns)]
    context = jnp.concatenate([service, nodes, mean_link(features)[..., -1:]], axis=-1) / 2.0 - 1.0
    return jnp.minimum(context, 1.0)


def mean_node(features: Features) -> chex.Array:
    """(..., F): mean over the nodes that can run the microservice, as the times of the others are not times."""
    can_run = feasible(features)[..., None]
    total = jnp.sum(jnp.where(can_run, features.nodes, 0.0), axis=-2)
    return total / jnp.maximum(can_run.sum(-2), 1).astype(jnp.float32)


def mean_link(features: Features) -> chex.Array:
    """(..., 4): mean over the links that exist; rows of zeros are padding."""
    there = features.links.any(axis=-1, keepdims=True)
    return features.links.sum(-2) / jnp.maximum(there.sum(-2), 1).astype(jnp.float32)


def _encoded(columns: Sequence[tuple[chex.Array, _Unit | None]], pace: chex.Array) -> chex.Array:
    """(..., C): C arrays side by side; those with a unit as the logarithm of one plus their number of units.

    The logarithms are one operation on all columns: one on each takes four times as long on a CPU.
    """
    numbers = jnp.stack([x for x, _ in columns], axis=-1)
    row = (1,) * (numbers.ndim - 1) + (len(columns),)
    amounts = np.array([unit.amount if unit else 1.0 for _, unit in columns], np.float32).reshape(row)
    has_unit = np.array([unit is not None for _, unit in columns]).reshape(row)
    paced = np.array([unit is not None and unit.paced for _, unit in columns]).reshape(row)
    # A feasible time stays one at every pace.
    own = jnp.minimum(numbers / pace, 0.5 * LONGEST)
    numbers = jnp.where(paced & (numbers < LONGEST), own, numbers)
    return jnp.where(has_unit, jnp.log1p(numbers / amounts), numbers)
