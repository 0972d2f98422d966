"""Workflows on networks from files: every byte is sent by the task that writes it, and no task starts before its input.

Real files are read from `../shared/worlds`, next to the repository; tests that need them are skipped where that folder
is missing. A pair made by hand is written here.
"""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from examples.real_world import RATE, SPEED, instance_of
from jaxcec.env import EnvConfig, build_instance
from jaxcec.evaluation import Contender, episode_keys, record
from jaxcec.policies import BASELINES

ROOT = Path(__file__).parents[2]
SHARED = ROOT / ".." / "shared" / "worlds"
NETWORK = "Abilene.graphml"
WORKFLOWS = {
    "helloworld-forkjoin-10-chameleon.json": 10,
    "blast-chameleon-small-001.json": 43,
    "montage-chameleon-2mass-005d-001.json": 58,
    "epigenomics-chameleon-hep-1seq-50k-001.json": 73,
}
# Of the largest workflow on the network, so that all of them share one program.
SIZES = EnvConfig(
    num_nodes=11,
    max_links=28,
    num_services=1,
    max_microservices=73,
    num_resources=1,
    link_breakpoints=148,
    host_breakpoints=148,
)
needs_real_files = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/worlds with real files is missing")

# By hand: "split" reads 25 MB; each half reads two files of 6.25 MB, one of which both read, and needs all four cores;
# "join" reads what the halves write and waits for "split", of which it reads nothing. Speeds of machines are not used.
FILES = {"in": 25_000_000, "both": 6_250_000, "a": 6_250_000, "b": 6_250_000, "a.out": 12_500_000, "b.out": 25_000_000}
TASKS = [  # name, parents, files read, files written, runtime in s, cores
    ("join", ["split", "half-a", "half-b"], ["a.out", "b.out"], [], 1.0, None),
    ("split", [], ["in"], ["a", "b", "both"], 10.0, 1),
    ("half-a", ["split"], ["a", "both"], ["a.out"], 20.0, 4),
    ("half-b", ["split"], ["both", "b"], ["b.out"], 20.0, 4),
]


def write_workflow(path):
    names = ("id", "parents", "inputFiles", "outputFiles")
    files = [{"id": name, "sizeInBytes": size} for name, size in FILES.items()]
    ran = [
        {"id": name, "runtimeInSeconds": runtime, "machines": ["old"]} | ({"coreCount": cores} if cores else {})
        for name, *_, runtime, cores in TASKS
    ]
    machines = [{"nodeName": "old", "cpu": {"speedInMHz": SPEED / 2}}]
    specification = {"tasks": [dict(zip(names, task[:4], strict=True)) for task in TASKS], "files": files}
    workflow = {"specification": specification, "execution": {"tasks": ran, "machines": machines}}
    path.write_text(json.dumps({"schemaVersion": "1.5", "workflow": workflow}))
    return str(path)


def write_network(path):
    """Write two sites with a router between them, a third site one degree to the north, and an island."""
    graph = nx.MultiGraph()
    graph.add_nodes_from(["island", "islet"], Internal=1)
    graph.add_node("first", Internal=1, Latitude=50.0, Longitude=14.0)
    graph.add_node("router", Internal=0)
    graph.add_node("second", Internal=1, Latitude=50.0, Longitude=15.0)
    graph.add_node("third", Internal=1, Latitude=51.0, Longitude=15.0)
    graph.add_edges_from([("first", "router"), ("first", "router")], LinkSpeedRaw=1e8)  # parallel
    graph.add_edges_from([("router", "router"), ("router", "second"), ("island", "islet")])  # of unknown rate
    graph.add_edge("second", "third", LinkSpeedRaw=1e7)
    nx.write_graphml(graph, path)
    return str(path)


def files_of(path):
    """The tasks of a workflow, its files' sizes in bytes, and the names of the files that tasks write."""
    specification = json.loads(Path(path).read_text())["workflow"]["specification"]
    tasks = specification["tasks"]
    sizes = {file["id"]: file["sizeInBytes"] for file in specification["files"]}
    return tasks, sizes, set().union(*(task["outputFiles"] for task in tasks))


def bytes_in(names, sizes):
    return sum(sizes[name] for name in names)


def assert_every_byte_is_sent_by_its_writer(path, params):
    tasks, sizes, written = files_of(path)
    bank, n = params.dags, len(tasks)
    sent = np.asarray(bank.sent[0], np.float64) * 1e6 / 8  # bytes
    external, sent = np.diagonal(sent), np.where(np.eye(len(sent)), 0.0, sent)
    for (j, reader), (k, writer) in product(enumerate(tasks), repeat=2):
        expected = bytes_in(set(reader["inputFiles"]) & set(writer["outputFiles"]), sizes)
        assert sent[j, k] == pytest.approx(expected, rel=1e-6), (reader["id"], writer["id"])
    for j, task in enumerate(tasks):
        assert external[j] == pytest.approx(bytes_in(set(task["inputFiles"]) - written, sizes), rel=1e-6), task["id"]
    read = bytes_in([file for task in tasks for file in task["inputFiles"]], sizes)
    assert sent.sum() + external.sum() == pytest.approx(read, rel=1e-6)
    assert np.asarray(bank.data[0], np.float64).sum() * 1e6 / 8 == pytest.approx(read, rel=1e-6)
    assert not sent[n:].any() and not sent[:, n:].any() and not external[n:].any()


def assert_no_task_starts_before_its_input(path, schedule, widest):
    """Check the times of a schedule on a network in which no path is faster than `widest` Mbit/s."""
    tasks, sizes, written = files_of(path)
    index = {task["id"]: j for j, task in enumerate(tasks)}
    placed = {p.microservice: p for p in schedule.placed}
    assert sorted(placed) == list(range(len(tasks))) and len(schedule.placed) == len(tasks), "the episode ends"
    slack = 1e-6 * schedule.makespan  # float32
    for j, task in enumerate(tasks):
        assert placed[j].finish > placed[j].start >= placed[j].data_ready
        received = {0: bytes_in(set(task["inputFiles"]) - written, sizes)}  # by node
        for k in (index[parent] for parent in task["parents"]):
            assert placed[j].start >= placed[k].finish - slack, "precedence"
            common = set(tasks[k]["outputFiles"]) & set(task["inputFiles"])
            received[placed[k].node] = received.get(placed[k].node, 0) + bytes_in(common, sizes)
            ready = placed[k].finish + (placed[k].node != placed[j].node) * bytes_in(common, sizes) * 8e-6 / widest
            assert placed[j].data_ready >= ready - slack, "a file arrives no sooner than its link can carry it"
        origins = {node for node, size in received.items() if size and node != placed[j].node}
        assert set(placed[j].origins) == origins, "input comes from where the task ran that wrote it"


def play(env, params):
    return record(env, params, Contender.of_rule("eft", BASELINES["eft"]), episode_keys(seed=0, count=1)[0])


@needs_real_files
@pytest.mark.parametrize("name", WORKFLOWS)
def test_real_workflow_on_real_network(name):
    path = SHARED / name
    env, params = build_instance(**instance_of(str(path), str(SHARED / NETWORK)), config=SIZES)
    assert params.dags.size.tolist() == [WORKFLOWS[name]]
    assert_every_byte_is_sent_by_its_writer(path, params)
    schedule = play(env, params)
    assert_no_task_starts_before_its_input(path, schedule, RATE)


@needs_real_files
@pytest.mark.parametrize(
    "name, nodes, links", [(NETWORK, 11, 14), ("Bics.graphml", 33, 48), ("Cesnet200706.graphml", 44, 51)]
)
def test_real_network_keeps_its_nodes_and_links(name, nodes, links, tmp_path):
    network = instance_of(write_workflow(tmp_path / "w.json"), str(SHARED / name))
    assert (len(network["node_speed"]), len(network["links"])) == (nodes, links)
    delays = [link[3] for link in network["links"]]
    assert max(delays) < 0.025 and sum(delay > 0 for delay in delays) > 0.8 * links


def test_network_by_hand_is_simplified(tmp_path):
    network = instance_of(write_workflow(tmp_path / "w.json"), write_network(tmp_path / "network.graphml"))
    assert network["node_speed"] == [SPEED, 0.0, SPEED, SPEED], "the island is left out, and the router runs nothing"
    links = {(a, b): (rates, delay) for a, b, rates, delay in network["links"]}
    assert links == {
        (0, 1): ((200.0, 200.0), 0.0),
        (1, 2): ((RATE, RATE), 0.0),
        (2, 3): ((10.0, 10.0), pytest.approx(40_030e3 / 360 / 2e8, rel=1e-3)),
    }


def test_workflow_by_hand_takes_the_time_computed_by_hand(tmp_path):
    workflow = write_workflow(tmp_path / "w.json")
    env, params = build_instance(**instance_of(workflow, write_network(tmp_path / "n.graphml")))
    assert_every_byte_is_sent_by_its_writer(workflow, params)
    schedule = play(env, params)
    assert_no_task_starts_before_its_input(workflow, schedule, RATE)
    runs = {TASKS[p.microservice][0]: (p.host, p.start, p.finish) for p in schedule.placed}
    assert runs == {
        "split": ("node 0", 0.0, 10.0),  # where the input is
        "half-a": ("node 0", 10.0, 30.0),
        "half-b": ("node 2", 10.5, 30.5),  # 100 Mbit through 200 Mbit/s
        "join": ("node 2", 31.0, 32.0),  # where most of its input is; 100 Mbit come from node 0 once both halves ended
    }


def test_command_prints_when_and_where(tmp_path):
    paths = write_workflow(tmp_path / "w.json"), write_network(tmp_path / "n.graphml")
    command = [sys.executable, "examples/real_world.py", *paths]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout == "ACT 32.0 s, nodes of the tasks: [2, 0, 0, 2]\n", done.stderr
