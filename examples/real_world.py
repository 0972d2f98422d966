"""A real workflow on a real network under earliest finish, through `build_instance`.

python examples/real_world.py WORKFLOW.json NETWORK.graphml

Tasks receive each file from the task that writes it; files that no task writes lie at the network's first node. As a
scenario (docs/your_world.md) the same files also serve for training and tables.
"""

import sys
from typing import Any

from jaxcec.env import build_instance
from jaxcec.evaluation import Contender, episode_keys
from jaxcec.policies import BASELINES
from jaxcec.readers import read_networks, read_workflows

RATE, SPEED, CORES = 1000.0, 2000.0, 4.0  # Mbit/s, Mcycles/s and cores where the files do not say


def instance_of(workflow_path: str, network_path: str) -> dict[str, Any]:
    """Return the arguments of `build_instance`, from a workflow and the largest part of a network."""
    (workflow,), (network,) = read_workflows(workflow_path), read_networks(network_path, largest_part=True)
    demand = [[cores or 1.0] for cores in workflow.demand.get("cpu", [None] * len(workflow.tasks))]
    inputs = {"inputs": workflow.sent, "external": workflow.external}
    rates = [(link.bandwidth or RATE, link.back or link.bandwidth or RATE) for link in network.links]
    return {
        "links": [(link.a, link.b, rate, link.latency or 0.0) for link, rate in zip(network.links, rates, strict=True)],
        "node_speed": [SPEED if speed is None else speed for speed in network.node_speed],
        "device_speed": [0.0] * len(network.nodes),
        "capacity": [[CORES]] * len(network.nodes),
        "services": [{"release": 0.0, "source": 0, **inputs, "load": workflow.loads(SPEED), "demand": demand}],
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    env, params = build_instance(**instance_of(*sys.argv[1:]))
    played = Contender.of_rule("eft", BASELINES["eft"]).play(env, params, episode_keys(seed=0, count=1))
    print(f"ACT {played.act[0]:.1f} s, nodes of the tasks: {played.host[0, 0].tolist()}")
