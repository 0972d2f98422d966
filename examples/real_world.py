"""A real workflow on a real network under earliest finish: tasks receive each file from the task that writes it.

python examples/real_world.py WORKFLOW.json NETWORK.graphml

The workflow is WfFormat 1.5, as in https://github.com/wfcommons/WfInstances, and the network is GraphML of the Internet
Topology Zoo, https://topology-zoo.org. Files that no task writes lie at the network's first node.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx

from jaxcec.env import build_instance
from jaxcec.evaluation import Contender, episode_keys
from jaxcec.policies import BASELINES

RATE = 1000.0  # Mbit/s in each direction, of a link without `LinkSpeedRaw`
SPEED = 2000.0  # MHz, of every node of the network, and of a machine of the workflow without `speedInMHz`
CORES = 4.0  # of every node of the network


def read_network(path: str) -> dict[str, Any]:
    """Return the arguments of `build_instance` that describe the network; a node that is not `Internal` is a router."""
    graph = nx.MultiGraph(nx.read_graphml(path))
    # The largest connected part stays. Below, parallel links become one of their total rate, and self-loops none.
    graph.remove_nodes_from(set(graph) - max(nx.connected_components(graph), key=len))
    graph = nx.convert_node_labels_to_integers(graph)
    rates: Counter[tuple[int, int]] = Counter()
    for a, b, rate in graph.edges(data="LinkSpeedRaw", default=RATE * 1e6):
        rates[a, b] += rate / 1e6
    nodes = [node for _, node in graph.nodes(data=True)]
    return {
        "links": [(a, b, (rate, rate), latency(nodes[a], nodes[b])) for (a, b), rate in rates.items() if a != b],
        "node_speed": [SPEED if node.get("Internal", 1) else 0.0 for node in nodes],
        "device_speed": [0.0] * len(nodes),
        "capacity": [[CORES]] * len(nodes),
    }


def latency(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Return the delay along the great circle at 2e8 m/s, s, to the microsecond; 0 if a node has no coordinates."""
    if not all("Latitude" in node and "Longitude" in node for node in (a, b)):
        return 0.0
    (north_a, north_b), (east_a, east_b) = ([math.radians(n[x]) for n in (a, b)] for x in ("Latitude", "Longitude"))
    across = math.cos(north_a) * math.cos(north_b) * math.sin((east_b - east_a) / 2) ** 2
    angle = 2 * math.asin(math.sqrt(math.sin((north_b - north_a) / 2) ** 2 + across))
    return round(6.371e6 * angle / 2e8, 6)


def read_workflow(path: str) -> dict[str, Any]:
    """Return the workflow as a service of `build_instance`: a task takes as long at its machine's speed as it took."""
    workflow = json.loads(Path(path).read_text())["workflow"]
    tasks, execution = workflow["specification"]["tasks"], workflow["execution"]
    mbit = {file["id"]: file["sizeInBytes"] * 8 / 1e6 for file in workflow["specification"].get("files", [])}
    index = {task["id"]: j for j, task in enumerate(tasks)}
    writer = {file: j for j, task in enumerate(tasks) for file in task.get("outputFiles", [])}
    inputs = [{index[parent]: 0.0 for parent in task["parents"]} for task in tasks]  # a parent may send nothing
    external = [0.0] * len(tasks)
    for j, task in enumerate(tasks):
        for file in task.get("inputFiles", []):
            k = writer.get(file, j)
            if k == j:  # no other task writes it
                external[j] += mbit[file]
            else:
                inputs[j][k] = inputs[j].get(k, 0.0) + mbit[file]
    mhz = {each["nodeName"]: each.get("cpu", {}).get("speedInMHz", SPEED) for each in execution.get("machines", [])}
    runs = {run["id"]: run for run in execution["tasks"]}
    ran = [runs[task["id"]] for task in tasks]
    load = [run["runtimeInSeconds"] * mhz.get(run.get("machines", [None])[0], SPEED) for run in ran]
    demand = [[run.get("coreCount", 1)] for run in ran]
    return {"release": 0.0, "source": 0, "inputs": inputs, "external": external, "load": load, "demand": demand}


def moved(service: dict[str, Any], node: Sequence[int]) -> float:
    """Return the input, Mbit, that lay on another node than the one which read it, given each task's node."""
    sent = sum(mbit for j, row in enumerate(service["inputs"]) for k, mbit in row.items() if node[k] != node[j])
    return sent + sum(mbit for j, mbit in enumerate(service["external"]) if node[j] != service["source"])


def main(paths: list[str]) -> None:
    """Play the workflow on the network and print what was moved and how long it took."""
    absent = "".join(f"; there is no file {path}" for path in paths if not Path(path).is_file())
    if len(paths) != 2 or absent:
        sys.exit(f"Two files are needed: python examples/real_world.py WORKFLOW.json NETWORK.graphml{absent}")
    service, network = read_workflow(paths[0]), read_network(paths[1])
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
