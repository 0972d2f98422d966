"""The suite: named worlds with held-out episodes that are the same for everyone, so that a paper can cite a line.

A member's version changes when its episodes do. `content_hash` of the banks tells whether they are those published.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import CECEnv, EnvParams, make_network, time_unit
from jaxcec.readers import read_networks, read_workflows
from jaxcec.scenarios.adversarial import PAIRS, adversarial_instances
from jaxcec.scenarios.environment import make_env
from jaxcec.scenarios.scenario import Scenario
from jaxcec.scenarios.seeds import split_rng
from jaxcec.scenarios.sources import Sources, rescaled
from jaxcec.scenarios.topology import synthetic_topology

World = tuple[CECEnv, list[EnvParams]]  # an environment and its banks; episodes are divided equally among several banks
_RECIPES = ("blast", "bwa", "cycles", "epigenomics", "genome", "montage", "seismology", "soykb", "srasearch")


@dataclasses.dataclass(frozen=True)
class Member:
    """One world of the suite."""

    about: str  # what it is for, in words
    make: Callable[[str], World]  # from a split
    published: str  # `content_hash` of its banks for testing


def content_hash(world: World) -> str:
    """A hash of everything that episodes are drawn from, 16 hexadecimal digits.

    Of each float the first three digits count, because the last ones depend on the machine.
    """
    env, banks = world[0], [bank.replace(time_unit=None) for bank in world[1]]  # which follows from the others
    digest = hashlib.blake2b(repr(env.config).encode(), digest_size=8)
    for leaf in map(np.asarray, jax.tree.leaves(banks)):
        if np.issubdtype(leaf.dtype, np.floating):
            mantissa, exponent = np.frexp(leaf.astype(np.float64))
            leaf = np.stack([np.where(np.isfinite(mantissa), np.round(2.0**10 * mantissa), -1.0), exponent])
        digest.update(leaf.astype(np.int64).tobytes())
    return digest.hexdigest()


def suite_world(name: str, split: str = "test") -> World:
    """The world of a member.

    Raises:
        ImportError: a package is missing that has its networks or workflows.
        ValueError: an unknown member; or the banks for testing are not those published, because a package that
            generates them has another version.
    """
    if name not in SUITE:
        raise ValueError(f"suite: got {name!r}; must be one of {', '.join(SUITE)}")
    world, published = SUITE[name].make(split), SUITE[name].published
    if split == "test" and content_hash(world) != published:
        raise ValueError(
            f"suite {name}: the episodes have the content {content_hash(world)}, and those published {published}; "
            "another version of numpy, topohub or wfcommons draws other ones"
        )
    return world


def _scenario(split: str, **settings: Any) -> World:
    env, params = make_env(Scenario(ties="rank", **settings), split)
    return env, [params]


def _zoo(split: str) -> World:
    """Services on networks of operators with 10 to 24 nodes; links have the latency of their length."""
    networks = [each for each in read_networks("topohub:topozoo") if 10 <= len(each.nodes) <= 24]
    env, params = make_env(Scenario(ties="rank"), split, Sources(networks=tuple(networks)))
    return env, [params]


def _workflows(split: str) -> World:
    """Scientific workflows of nine kinds; loads and data of each kind are scaled to the means of synthetic services."""
    rng, scenario = split_rng(0, split, "dags"), Scenario(ties="rank", num_services=10)
    kinds = [tuple(read_workflows(f"wfcommons:{recipe}:110", rng=rng, count=8)) for recipe in _RECIPES]
    scaled = [rescaled(Sources(workflows=workflows), scenario).workflows for workflows in kinds]
    env, params = make_env(scenario, split, Sources(workflows=tuple(each for kind in scaled for each in kind)))
    return env, [params]


def _mixed_nodes(split: str) -> World:
    """Two of ten nodes are routers, half of the others are small: a third of the microservices need a large one."""
    scenario = Scenario(ties="rank", num_nodes=10)
    rng, (env, params) = split_rng(0, split, "topology"), make_env(scenario, split)
    topologies = []
    for _ in range(64):
        drawn = synthetic_topology(
            rng,
            scenario.num_nodes,
            neighbours=scenario.neighbours,
            bandwidth=scenario.bandwidth,
            node_speed=scenario.node_speed,
            device_speed=scenario.device_speed,
        )
        order = rng.permutation(scenario.num_nodes)
        speed, capacity = np.array(drawn.node_speed), np.array(drawn.capacity)
        speed[order[:2]] = 0.0
        capacity[order[2:6]] = 0.6
        topologies.append(dataclasses.replace(drawn, node_speed=speed, capacity=capacity))
    network = jax.tree.map(jnp.asarray, make_network(topologies, env.config.max_links))
    return env, [params.replace(network=network, time_unit=time_unit(network, params.dags))]


def _adversarial(split: str) -> World:
    """The ten worst instances of each pair, one bank each."""
    del split
    instances = [adversarial_instances(pair) for pair in PAIRS]
    banks = [jax.tree.map(lambda x, i=i: x[i], rows) for _, rows in instances for i in range(10)]
    return instances[0][0], banks


SUITE = {
    "cec-synthetic-v1": Member(
        "the synthetic services of section V.A", partial(_scenario, dataset="synthetic"), "e3ef2fc5666247ad"
    ),
    "cec-alibaba-v1": Member(
        "jobs of the Alibaba trace, nearly without contention: only where to run matters",
        partial(_scenario, dataset="alibaba"),
        "4f413a9dc772ce17",
    ),
    "cec-alibaba-heavy-v1": Member(
        "the same jobs, so many at a time that each alone would take less than half as long under EFT",
        partial(_scenario, dataset="alibaba", num_services=40, arrival_rate=2.0),
        "983c115f6bf9be67",
    ),
    "cec-zoo-v1": Member("synthetic services on networks of operators, from TopoHub", _zoo, "c2da152689d2d0bf"),
    "cec-workflows-v1": Member(
        "scientific workflows with data for each dependency, from WfCommons", _workflows, "0ab209b042725b7e"
    ),
    "cec-latency-v1": Member(
        "small microservices on full-duplex links, whose latency of 0.1 s is as long as a transfer",
        partial(_scenario, load=5.0, data=1.0, latency=0.1, duplex="full", arrival_rate=2.0),
        "d8f8e8f783647b37",
    ),
    "cec-mixed-nodes-v1": Member(
        "routers, and nodes too small for a third of the microservices", _mixed_nodes, "4bcdc7f74d81de9a"
    ),
    "cec-adversarial-v1": Member(
        "the worst instances that a search found for some policies", _adversarial, "3001e2adbaae4304"
    ),
}
