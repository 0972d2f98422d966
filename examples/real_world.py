"""A real workflow on a real network under earliest finish, through `build_instance`.

python examples/real_world.py WORKFLOW.json NETWORK.graphml

Tasks receive each file from the task that writes it; files that no task writes lie at the network's first node. As a
scenario (docs/your_world.md) the same files also serve for training and tables.
"""

import sys
from collections.abc import Sequence
from typing import Any

from jaxcec.env import build_instance
from jaxcec.evaluation import Contender, episode_keys
from jaxcec.policies import BASELINES
from jaxcec.readers import read_networks, read_workflows

RATE = 1000.0  # Mbit/s in each direction, of a link whose bandwidth the file does not say
SPEED = 2000.0  # Mcycles/s, of a node whose speed the file does not say, and of the machines that the tasks ran on
CORES = 4.0  # of every node of the network


def network_of(path: str) -> dict[str, Any]:
    """Return the arguments of `build_instance` that describe the largest part of a network."""
    (network,) = read_networks(path, largest_part=True)
    rates = [(link.bandwidth or RATE, link.back or link.bandwidth or RATE) for link in network.links]
    return {
        "links": [(link.a, link.b, rate, link.latency or 0.0) for link, rate in zip(network.links, rates, strict=True)],
        "node_speed": [SPEED if speed is None else speed for speed in network.node_speed],
        "device_speed": [0.0] * len(network.nodes),
        "capacity": [[CORES]] * len(network.nodes),
    }


def service_of(path: str) -> dict[str, Any]:
    """Return a workflow as a service of `build_instance`."""
    (workflow,) = read_workflows(path)
    demand = [[cores or 1.0] for cores in workflow.demand.get("cpu", [None] * len(workflow.tasks))]
    inputs = {"inputs": workflow.sent, "external": workflow.external}
    return {"release": 0.0, "source": 0, **inputs, "load": workflow.loads(SPEED), "demand": demand}


def moved(service: dict[str, Any], node: Sequence[int]) -> float:
    """Return the input, Mbit, that lay on another node than the one which read it, given each task's node."""
    sent = sum(mbit for j, row in enumerate(service["inputs"]) for k, mbit in row.items() if node[k] != node[j])
    return sent + sum(mbit for j, mbit in enumerate(service["external"]) if node[j] != service["source"])


def main(paths: list[str]) -> None:
    """Play the workflow on the network and print what was moved and how long it took."""
    if len(paths) != 2:
        sys.exit("Two files are needed: python examples/real_world.py WORKFLOW.json NETWORK.graphml")
    try:
        service, network = service_of(paths[0]), network_of(paths[1])
    except ValueError as error:
        sys.exit(str(error))
    env, params = build_instance(**network, services=[service])
    played = Contender.of_rule("eft", BASELINES["eft"]).play(env, params, episode_keys(seed=0, count=1))
    table = {
        "tasks": len(service["load"]),
        "nodes": len(network["node_speed"]),
        "of which routers": network["node_speed"].count(0.0),
        "external, Mbit": sum(service["external"]),
        "between tasks, Mbit": sum(sum(row.values()) for row in service["inputs"]),
        "moved, Mbit": moved(service, played.host[0, 0].tolist()),
        "ACT, s": float(played.act[0]),
    }
    for name, value in table.items():
        print(f"{name:19} {round(value, 3):>15,}")


if __name__ == "__main__":
    main(sys.argv[1:])
