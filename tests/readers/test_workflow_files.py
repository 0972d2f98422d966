"""Workflows from files and recipes: the facts are those written, and damage is refused by file, task and field.

Real files are read from `../shared/worlds`, next to the repository; tests that need them are skipped where that folder
is missing, and those that need wfcommons where it is not installed.
"""

import copy
import glob
import importlib.util
import json
import os
import random
import subprocess
import sys
import types
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from jaxcec.readers import read_workflows, workflow_files, workflow_formats, workflow_json

ROOT = Path(__file__).parents[2]
SHARED = ROOT / ".." / "shared" / "worlds"
REAL = {
    "helloworld-forkjoin-10-chameleon": 10,
    "blast-chameleon-small-001": 43,
    "montage-chameleon-2mass-005d-001": 58,
    "epigenomics-chameleon-hep-1seq-50k-001": 73,
}
needs_real_files = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/worlds with real files is missing")

# By hand: "split" reads 25 MB from the source; each half reads two files of 6.25 MB, one of which both read; "join"
# reads what the halves write and waits for "split", of which it reads nothing.
FILES = {"in": 25_000_000, "both": 6_250_000, "a": 6_250_000, "b": 6_250_000, "a.out": 12_500_000, "b.out": 25_000_000}
TASKS = [  # name, parents, files read, files written, run time in s, cores, memory in KB
    ("join", ["split", "half-a", "half-b"], ["a.out", "b.out"], [], 1.5, None, None),
    ("split", [], ["in"], ["a", "b", "both"], 10, 1, 2000),
    ("half-a", ["split"], ["a", "both"], ["a.out"], 20.0, 4, None),
    ("half-b", ["split"], ["both", "b"], ["b.out"], 20.0, 0.5, 500),
]
SENT = ({1: 0.0, 2: 100.0, 3: 200.0}, {}, {1: 100.0}, {1: 100.0})


def known(**fields):
    return {name: value for name, value in fields.items() if value is not None}


def nested(version="1.5"):
    """The workflow by hand in WfFormat from 1.5."""
    tasks = [
        {"name": "any", "id": name, "parents": [*parents], "inputFiles": [*read], "outputFiles": [*written]}
        for name, parents, read, written, *_ in TASKS
    ]
    ran = [
        {"id": name} | known(runtimeInSeconds=time, coreCount=cores, memoryInBytes=kb and 1000 * kb)
        for name, _, _, _, time, cores, kb in reversed(TASKS)
    ]
    files = [{"id": name, "sizeInBytes": size} for name, size in FILES.items()]
    execution = {"tasks": ran, "machines": [{"nodeName": "old", "cpu": {"speedInMHz": 1200}}]}
    specification = {"tasks": tasks, "files": files}
    return {"schemaVersion": version, "workflow": {"specification": specification, "execution": execution}}


def flat(version, key="tasks"):
    """The same in earlier versions; until 1.3 other names, memory in KB, and parents by name."""
    early = version != "1.4"
    tasks = []
    for number, (name, parents, read, written, time, cores, kb) in enumerate(TASKS):
        files = [
            {"name": file, "link": link, "size" if early else "sizeInBytes": FILES[file]}
            for link, names in (("input", read), ("output", written))
            for file in names
        ]
        memory = {"memory": kb} if early else {"memoryInBytes": kb and 1000 * kb}
        facts = known(**{"runtime" if early else "runtimeInSeconds": time}, cores=cores, **memory)
        tasks.append({"name": name, "id": f"ID{number}", "parents": [*parents], "files": files} | facts)
    return {"schemaVersion": version, "workflow": {key: tasks, "machines": [{"nodeName": "old"}]}}


def small(**tasks):
    """WfFormat 1.5 of tasks `name=(parents, files read, files written)`; every file has 1,250,000 bytes, 10 Mbit."""
    rows = [
        {"id": name, "parents": parents, "inputFiles": read, "outputFiles": written}
        for name, (parents, read, written) in tasks.items()
    ]
    names = {file for row in rows for file in row["inputFiles"] + row["outputFiles"]}
    files = [{"id": name, "sizeInBytes": 1_250_000} for name in sorted(names)]
    return {"schemaVersion": "1.5", "workflow": {"specification": {"tasks": rows, "files": files}}}


def graph(nodes, edges, **fields):
    return {"directed": True, "nodes": nodes, "edges": edges} | fields


def read(folder, document, name="w.json", **options):
    """Write a document as a file and read its only workflow."""
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    [workflow] = read_workflows(str(path), **options)
    return workflow


def facts(workflow):
    """All that two equal workflows share, whatever their names and notes."""
    return {
        name: getattr(workflow, name)
        for name in ("tasks", "sent", "external", "run_time", "load", "demand", "digest", "preds")
    }


@needs_real_files
@pytest.mark.parametrize("name", REAL)
def test_real_files_send_exactly_their_bytes(name):
    [workflow] = read_workflows(str(SHARED / f"{name}.json"))
    document = json.loads((SHARED / f"{name}.json").read_text())["workflow"]
    tasks = document["specification"]["tasks"]
    sizes = {file["id"]: file["sizeInBytes"] for file in document["specification"]["files"]}
    assert len(workflow.tasks) == REAL[name] and workflow.name == name
    assert workflow.tasks == tuple(task["id"] for task in tasks)
    written = set().union(*(task["outputFiles"] for task in tasks))
    for j, task in enumerate(tasks):
        expected = {
            k: sum(sizes[file] for file in set(task["inputFiles"]) & set(other["outputFiles"])) * 8 / 1e6
            for k, other in enumerate(tasks)
            if other["id"] in task["parents"]
        }
        assert workflow.sent[j] == expected, task["id"]
        assert workflow.external[j] == sum(sizes[file] for file in set(task["inputFiles"]) - written) * 8 / 1e6
    ran = {run["id"]: run for run in document["execution"]["tasks"]}
    assert workflow.run_time == tuple(ran[task].get("runtimeInSeconds") for task in workflow.tasks)
    for kind, field, unit in (("cpu", "coreCount", 1), ("mem", "memoryInBytes", 1e6)):
        rows = [ran[task].get(field) for task in workflow.tasks]
        expected = tuple(value and value / unit for value in rows) if any(rows) else None
        assert workflow.demand.get(kind) == expected


@pytest.mark.parametrize(
    "document",
    [nested(), nested("1.6"), flat("1.4"), flat("1.3"), flat("1.2", "jobs"), flat("1.0", "jobs")],
    ids=["1.5", "1.6", "1.4", "1.3", "1.2", "1.0"],
)
def test_every_version_gives_the_facts_by_hand(document, tmp_path):
    workflow = read(tmp_path, document, "by-hand.json")
    assert workflow.name == "by-hand"
    assert workflow.tasks == ("join", "split", "half-a", "half-b")
    assert workflow.sent == SENT and workflow.external == (0.0, 200.0, 0.0, 0.0)
    assert workflow.preds == [[1, 2, 3], [], [1], [1]]
    assert workflow.run_time == (1.5, 10.0, 20.0, 20.0) and workflow.load == (None,) * 4
    assert workflow.demand == {"cpu": (None, 1.0, 4.0, 0.5), "mem": (None, 2.0, None, 0.5)}
    assert workflow.notes == (
        "tasks: 4",
        "precedences: 5, of which without data: 1",
        "Mbit between tasks: 500, at the source: 200",
        "machines whose own speed is not used: run times are at the reference speed: 1",
    )


def test_parents_of_early_versions_are_names_or_ids(tmp_path):
    document = flat("1.4")
    for task in document["workflow"]["tasks"]:
        task["parents"] = [f"ID{[row[0] for row in TASKS].index(name)}" for name in task["parents"]]
    by_id = read(tmp_path, document)
    assert by_id.tasks[0] == "join" and by_id.sent == SENT
    for task in document["workflow"]["tasks"]:
        task["name"] = "program"
    assert read(tmp_path, document).tasks == ("ID0", "ID1", "ID2", "ID3"), "names that are not unique are no ids"


def test_a_path_is_part_of_the_name_of_a_file(tmp_path):
    document = flat("1.4")
    for task in document["workflow"]["tasks"]:
        for file in task["files"]:
            if task["name"] == "half-a" and file["link"] == "output":
                file["path"] = "elsewhere/"
    assert read(tmp_path, document).external[0] == 100.0


@pytest.mark.parametrize("key", ["edges", "links"])
def test_node_link_graphs_of_networkx(key, tmp_path):
    g = nx.DiGraph()
    g.add_node(1, load=3000, cpu=2, external=8)
    g.add_node("two", run_time=4.5, mem=512)
    g.add_node(3, load=0.5)
    g.add_edge(1, "two", data=40)
    g.add_edge("two", 3, bytes=1_000_000)
    g.add_edge(1, 3)
    workflow = read(tmp_path, nx.node_link_data(g, edges=key))
    assert workflow.tasks == ("1", "two", "3")
    assert workflow.sent == ({}, {0: 40.0}, {1: 8.0, 0: 0.0}) and workflow.external == (8.0, 0.0, 0.0)
    assert workflow.load == (3000.0, None, 0.5) and workflow.run_time == (None, 4.5, None)
    assert workflow.demand == {"cpu": (2.0, None, None), "mem": (None, 512.0, None)}


def test_the_whole_input_of_a_node_is_shared_by_its_predecessors(tmp_path):
    nodes = [{"id": "a", "data": 7}, {"id": "b"}, {"id": "c", "data": 30}, {"id": "d", "external": 2}]
    edges = [{"source": s, "target": t} for s, t in ("ac", "bc", "cd")]
    workflow = read(tmp_path, graph(nodes, edges))
    assert workflow.sent == ({}, {}, {0: 15.0, 1: 15.0}, {2: 0.0}) and workflow.external == (7.0, 0.0, 0.0, 2.0)


def test_parallel_edges_add_up(tmp_path):
    edges = [{"source": "a", "target": "b", "data": 1}, {"source": "a", "target": "b", "bytes": 250_000}]
    workflow = read(tmp_path, graph([{"id": "a"}, {"id": "b"}], edges, multigraph=True))
    assert workflow.sent == ({}, {0: 3.0}) and "parallel edges, added up: 1" in workflow.notes


@pytest.mark.parametrize(
    "tasks, sent, external, note",
    [
        ({"a": ([], [], ["f"]), "b": ([], ["f"], [])}, [{}, {0: 10}], [0, 0], "predecessors that are not among"),
        ({"a": ([], ["f"], ["f"])}, [{}], [0], "inputs that only their reader writes, left out: 1"),
        (  # the parent, not the later one of no relation
            {"a": ([], [], ["f"]), "b": (["a"], ["f"], []), "c": ([], [], ["f"])},
            [{}, {0: 10}, {}],
            [0, 0, 0],
            "inputs that several tasks write, taken from the latest before their reader: 1",
        ),
        (  # an ancestor, as no parent writes it
            {"a": ([], [], ["f"]), "b": (["a"], [], []), "c": (["b"], ["f"], []), "d": ([], [], ["f"])},
            [{}, {0: 0}, {1: 0, 0: 10}, {}],
            [0] * 4,
            "several tasks write",
        ),
        (  # a parent, even if a later ancestor writes it too
            {"a": ([], [], ["f"]), "b": (["a"], [], ["f"]), "c": (["b"], [], []), "d": (["c", "a"], ["f"], [])},
            [{}, {0: 0}, {1: 0}, {2: 0, 0: 10}],
            [0] * 4,
            "several tasks write",
        ),
        (  # the latest of two parents, whatever their order
            {"b": (["a"], [], ["f"]), "a": ([], [], ["f"]), "c": (["a", "b"], ["f"], [])},
            [{1: 0}, {}, {1: 0, 0: 10}],
            [0] * 3,
            "several tasks write",
        ),
        (  # the latest of all, as no one is before the reader
            {"a": ([], [], ["f"]), "b": (["a"], [], ["f"]), "c": ([], ["f"], [])},
            [{}, {0: 0}, {1: 10}],
            [0] * 3,
            "several tasks write",
        ),
        (  # updated in place: the first reads what was there before, the second what the first wrote
            {"a": ([], ["f"], ["f"]), "b": (["a"], ["f"], ["f"])},
            [{}, {0: 10}],
            [0, 0],
            "inputs that only their reader writes, left out: 1",
        ),
        ({"a": ([], ["f", "g", "f"], [])}, [{}], [20], "files that a task lists twice as its input, of which one"),
        ({"a": ([], [], ["f"]), "b": (["a"], ["f"], []), "c": (["a"], ["f"], [])}, [{}, {0: 10}, {0: 10}], [0] * 3, ""),
    ],
    ids=[
        "implied",
        "own",
        "parent",
        "ancestor",
        "parent first",
        "latest parent",
        "latest",
        "in place",
        "twice",
        "two readers",
    ],
)
def test_a_file_comes_from_the_task_that_writes_it(tasks, sent, external, note, tmp_path):
    workflow = read(tmp_path, small(**tasks))
    assert list(workflow.sent) == sent and list(workflow.external) == external
    assert any(note in line for line in workflow.notes)


def test_notes_say_what_is_missing_or_contradictory(tmp_path):
    document = nested()
    specification, execution = document["workflow"]["specification"], document["workflow"]["execution"]
    del specification["files"][0]["sizeInBytes"], execution["tasks"][0]["runtimeInSeconds"], execution["machines"]
    specification["files"].append({"id": "a", "sizeInBytes": 1})
    specification["tasks"][2] |= {"parents": [], "inputFiles": []}
    specification["tasks"][1]["children"] = ["half-a", "half-b"]
    workflow = read(tmp_path, document)
    assert workflow.sent == ({1: 0.0, 2: 100.0, 3: 200.0}, {}, {1: 0.0}, {1: 100.0})
    assert workflow.external == (0.0,) * 4 and workflow.run_time == (1.5, 10.0, 20.0, None)
    assert workflow.notes[3:] == (
        "precedences that only the `children` of a task state: 1",
        "files listed again with another size, of which the first counts: 1",
        "inputs without a size, taken as 0 bytes: 1",
        "tasks without a run time: 1",
    )


@pytest.mark.parametrize(
    "document",
    [
        nested(),
        flat("1.3"),
        graph([{"id": "a"}], []),
        graph(
            [
                {"id": n, "load": 1 / 3, "cpu": 0.7, "mem": 1 / 7, "external": x}
                for n, x in (("a", 0.1), ("b", 7), ("c", 1e-9))
            ],
            [{"source": "a", "target": "b", "data": 1 / 3}, {"source": "b", "target": "c", "data": 8e9}],
        ),
        graph([{"id": "a", "run_time": 2.5}, {"id": "b", "load": 1}], [{"source": "a", "target": "b"}]),
    ],
    ids=["1.5", "1.3", "bare", "fractions", "mixed"],
)
def test_a_workflow_written_and_read_is_the_same(document, tmp_path):
    workflow = read(tmp_path, document)
    assert facts(read(tmp_path, workflow_json(workflow))) == facts(workflow)


@needs_real_files
def test_real_workflows_written_and_read_are_the_same(tmp_path):
    workflows = read_workflows(str(SHARED / "*.json"))
    assert [workflow.name for workflow in workflows] == sorted(REAL)
    for workflow in workflows:
        written = workflow_json(workflow)
        assert facts(read(tmp_path, written)) == facts(workflow)
        assert all(type(f["sizeInBytes"]) is int for f in written["workflow"]["specification"]["files"])


def test_the_digest_depends_on_every_fact_and_on_no_name(tmp_path):
    def digest(change=lambda document: None, name="w.json"):
        document = nested()
        change(document["workflow"])
        return read(tmp_path, document, name).digest

    renamed = json.loads(json.dumps(nested()).replace('"half-a"', '"other"'))
    assert read(tmp_path, renamed).digest == digest() == digest(name="other.json")
    changes = [
        lambda w: w["specification"]["files"][0].update(sizeInBytes=25_000_001),
        lambda w: w["specification"]["files"][2].update(sizeInBytes=6_250_001),
        lambda w: w["specification"]["tasks"][0]["parents"].remove("split"),
        lambda w: w["execution"]["tasks"][0].update(runtimeInSeconds=20.5),
        lambda w: w["execution"]["tasks"][0].update(coreCount=5),
        lambda w: w["execution"]["tasks"][0].update(memoryInBytes=5),
        lambda w: w["execution"]["tasks"][0].update(loadInMcycles=5),
    ]
    assert len({digest(), *map(digest, changes)}) == len(changes) + 1


def test_folders_and_globs_are_read_in_order(tmp_path):
    folder = tmp_path / "some [folder]"
    folder.mkdir()
    for name in ("b.json", "a.json", "c.json", "notes.txt"):
        (folder / name).write_text(json.dumps(nested()) if name.endswith("json") else "no workflow")
    assert [workflow.name for workflow in read_workflows(str(folder))] == ["a", "b", "c"]
    assert [workflow.name for workflow in read_workflows(f"{tmp_path}/*/[bc].*")] == ["b", "c"]
    (folder / "b.json").write_text("{")
    with pytest.raises(ValueError, match=r"b\.json"):
        read_workflows(str(folder))


def test_the_order_is_not_that_of_the_file_system(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps(nested()))
    monkeypatch.setattr(glob, "glob", lambda pattern: [str(tmp_path / "b.json"), str(tmp_path / "a.json")])
    assert [workflow.name for workflow in read_workflows(str(tmp_path))] == ["a", "b"]


def test_larger_workflows_are_left_out(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(nested()))
    for name in "bc":
        (tmp_path / f"{name}.json").write_text(json.dumps(small(one=([], [], []), two=([], [], []))))
    assert len(read_workflows(str(tmp_path), most_tasks=4)) == 3
    kept = read_workflows(str(tmp_path), most_tasks=2)
    assert [workflow.name for workflow in kept] == ["b", "c"]
    assert kept[0].notes[-1] == "workflows left out, of more than 2 tasks: 1 of 3"
    assert not any("left out" in line for line in kept[1].notes)
    with pytest.raises(ValueError, match="smallest workflow has 2 tasks; most_tasks allows 1"):
        read_workflows(str(tmp_path), most_tasks=1)


@pytest.mark.parametrize("options", [{"most_tasks": 0}, {"most_tasks": True}, {"most_tasks": 2.0}, {"count": 0}])
def test_wrong_options_are_refused(options, tmp_path):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: got .*; must be a whole number from 1"):
        read(tmp_path, nested(), **options)


@pytest.mark.parametrize("source", ["", "no/such/file.json", "no/such/*.json", "a\0b"])
def test_a_missing_source_is_refused(source):
    with pytest.raises(ValueError):
        read_workflows(source)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file; expected a JSON file, a folder of some, or a glob"):
        read_workflows(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"nodes": NaN}', b'{"nodes": -Infinity}', b"[" * 100_000, b"1" * 5000, b"\xef\xbb\xbf"],
    ids=["empty", "cut", "no text", "NaN", "infinite", "deep", "long number", "mark"],
)
def test_a_file_that_is_no_json_is_refused(content, tmp_path):
    path = tmp_path / "w.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.json: ") as caught:
        read_workflows(str(path))
    assert type(caught.value) is ValueError and len(str(caught.value)) < 600


def test_a_byte_order_mark_is_skipped(tmp_path):
    assert read(tmp_path, "\ufeff" + json.dumps(nested())).sent == SENT


def test_a_file_above_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(workflow_files, "_LARGEST_FILE", 100)
    with pytest.raises(ValueError, match=r"w.json: got [\d,]+ bytes; at most 100 are read"):
        read(tmp_path, nested())


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=r"w\.json: cannot be read: Permission denied"):
        read(tmp_path, nested())


def test_the_number_of_tasks_is_limited(tmp_path, monkeypatch):
    assert workflow_formats._MOST_TASKS == 20_000
    monkeypatch.setattr(workflow_formats, "_MOST_TASKS", 3)
    with pytest.raises(ValueError, match="tasks: got 4 tasks; must be 1 to 3"):
        read(tmp_path, nested())


NUMBER = "must be a number from 0 to 1e+15"


def changed(at, value, document=None):
    """A document in which the value at a path of keys is another."""
    document = copy.deepcopy(document or nested())
    place = document
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = value
    return document


TASK, RUN = ("workflow", "specification", "tasks"), ("workflow", "execution", "tasks")
FILE = ("workflow", "specification", "files")
NODES = [{"id": "a"}, {"id": "b"}]
EDGE = {"source": "a", "target": "b"}
BAD = {
    "list": ([], "got []; must be WfFormat"),
    "neither": ({"a": 1}, "must be WfFormat, an object with `workflow`, or a node-link graph, an object with `nodes`"),
    "version": (nested("2.0"), "schemaVersion: got '2.0'; must be one of 1.5, 1.6 with workflow.specification"),
    "version of another form": (flat("1.5"), "got '1.5'; must be one of 1.0, 1.1, 1.2, 1.3, 1.4 without"),
    "workflow": (changed(["workflow"], 3), "workflow: got 3; must be an object"),
    "no tasks": (changed(TASK, []), "workflow.specification.tasks: got 0 tasks; must be 1 to 20,000"),
    "tasks": (changed(TASK, {}), "workflow.specification.tasks: got {}; must be a list of objects"),
    "task": (changed([*TASK, 1], "a"), "tasks[1]: got 'a'; must be an object"),
    "no id": (changed([*TASK, 1], {}), "tasks[1].id: got None; must be a text that is not empty"),
    "duplicate": (changed([*TASK, 1, "id"], "join"), "tasks[1].id: got 'join'; must be different from that of [0]"),
    "parent": (changed([*TASK, 3, "parents"], ["x"]), "task 'half-b', parents: got 'x'; must be tasks of the"),
    "parents": (changed([*TASK, 3, "parents"], "split"), "task 'half-b', parents: got 'split'; must be a list of"),
    "child": (changed([*TASK, 3, "children"], ["x"]), "task 'half-b', children: got 'x'; must be tasks of the"),
    "input": (changed([*TASK, 3, "inputFiles"], [1]), "task 'half-b', inputFiles[0]: got 1; must be a text"),
    "own parent": (changed([*TASK, 1, "parents"], ["split"]), "1 tasks wait for each other: 'split' -> 'split'"),
    "cycle": (changed([*TASK, 1, "parents"], ["join"]), "tasks wait for each other: '"),
    "cycle by a file": (changed([*TASK, 1, "inputFiles"], ["a.out"]), "wait for each other: 'split' -> 'half-a' ->"),
    "execution": (changed(["workflow", "execution"], []), "workflow.execution: got []; must be an object"),
    "ran twice": (changed([*RUN, 1, "id"], "half-b"), "workflow.execution.tasks[1].id: got 'half-b'; must be differ"),
    "ran unknown": (changed([*RUN, 1, "id"], "x"), "workflow.execution.tasks: got 'x'; must be ids of tasks"),
    "file": (changed([*FILE, 0, "id"], None), "workflow.specification.files, id: got None; must be a text"),
    "size": (changed([*FILE, 0, "sizeInBytes"], -1), f"file 'in', sizeInBytes: got -1; {NUMBER}"),
    "run time as text": (changed([*RUN, 1, "runtimeInSeconds"], "1"), f"'half-a', runtimeInSeconds: got '1'; {NUMBER}"),
    "run time true": (changed([*RUN, 1, "runtimeInSeconds"], True), f"runtimeInSeconds: got True; {NUMBER}"),
    "run time large": (changed([*RUN, 1, "runtimeInSeconds"], 1.1e15), f"got 1100000000000000.0; {NUMBER}"),
    "run time huge": (changed([*RUN, 1, "runtimeInSeconds"], 10**400), NUMBER),
    "cores": (changed([*RUN, 1, "coreCount"], [1]), f"task 'half-a', coreCount: got [1]; {NUMBER}"),
    "machines": (changed(["workflow", "execution", "machines"], 4), "machines: got 4; must be a list of objects"),
    "sum": (changed([*FILE, 0, "sizeInBytes"], 1e15, small(a=([], ["f", "g"], []))), "sent at most 1e+15 bytes"),
    "link": (
        changed(["workflow", "tasks", 1, "files", 0, "link"], "inout", flat("1.3")),
        "task 'split', files, 'in', link: got 'inout'; must be input or output",
    ),
    "early size": (
        changed(["workflow", "tasks", 1, "files", 0, "size"], "1 KB", flat("1.3")),
        f"task 'split', files, 'in', size: got '1 KB'; {NUMBER}",
    ),
    "early name": (
        {"workflow": {"jobs": [{"name": "a"}, {"name": "a"}]}},
        "workflow.jobs[1].name: got 'a'; must be different from that of [0]",
    ),
    "early id": (
        changed(["workflow", "tasks", 1, "id"], "ID0", flat("1.3")),
        "workflow.tasks[1].id: got 'ID0'; must be different from that of [0]",
    ),
    "early memory": (
        changed(["workflow", "tasks", 1, "memory"], 2e12, flat("1.3")),
        "task 'split', memory: got 2000000000000.0; must be a number from 0 to 1e+12",
    ),
    "undirected": (graph(NODES, [], directed=False), "directed: got False; must be true"),
    "no nodes": (graph([], []), "nodes: got 0 tasks; must be 1 to 20,000"),
    "no edges": ({"directed": True, "nodes": NODES}, "links: got None; must be a list of objects"),
    "node id": (graph([{"id": True}], []), "nodes[0].id: got True; must be a text"),
    "same id": (graph([{"id": 1}, {"id": "1"}], []), "nodes[1].id: got '1'; must be different from that of [0]"),
    "target": (graph(NODES, [EDGE | {"target": "c"}]), "edges[0].target: got 'c'; must be the id of a node"),
    "source": (graph(NODES, [EDGE | {"source": []}]), "edges[0].source: got []; must be the id of a node"),
    "both sizes": (
        graph(NODES, [EDGE | {"data": 1, "bytes": 1}]),
        "bytes: got 1; must be absent where `data` is given",
    ),
    "Mbit": (
        graph(NODES, [EDGE | {"data": 8.1e9}]),
        "'a' to 'b', data: got 8100000000.0; must be a number from 0 to 8e",
    ),
    "load": (graph([{"id": "a", "load": -0.5}], []), f"task 'a', load: got -0.5; {NUMBER}"),
    "memory": (graph([{"id": "a", "mem": "1G"}], []), "task 'a', mem: got '1G'; must be a number from 0 to 1e+09"),
    "self-loop": (graph(NODES, [EDGE | {"source": "b"}]), "1 tasks wait for each other: 'b' -> 'b'"),
    "whole and part": (
        graph([{"id": "a", "data": 1, "external": 0}], []),
        "task 'a', data: got 1; must be absent where",
    ),
    "whole and edge": (graph([NODES[0], NODES[1] | {"data": 1}], [EDGE | {"data": 0}]), "task 'b', data: got 1; must"),
}


@pytest.mark.parametrize("document, message", BAD.values(), ids=BAD)
def test_damage_is_refused_by_file_task_and_field(document, message, tmp_path):
    with pytest.raises(ValueError) as caught:
        read(tmp_path, document)
    assert str(caught.value).startswith(f"{tmp_path / 'w.json'}") and message in str(caught.value)
    assert type(caught.value) is ValueError and len(str(caught.value)) < 600


def test_a_null_is_as_good_as_nothing(tmp_path):
    assert read(tmp_path, changed([*RUN, 0, "runtimeInSeconds"], None)).run_time[3] is None


def test_a_negative_zero_is_zero(tmp_path):
    zeros = [read(tmp_path, changed([*RUN, 0, "runtimeInSeconds"], zero)) for zero in (0.0, -0.0)]
    assert zeros[0].digest == zeros[1].digest


class FakeRecipe:
    """A recipe that draws from the global generators, as those of WfCommons do."""

    def __init__(self, size):
        self.size = size

    @classmethod
    def from_num_tasks(cls, size):
        if size < 5:
            raise KeyError("too small")
        return cls(size)

    def build_workflow(self):
        return self

    def write_json(self, path):
        document = nested()
        document["workflow"]["execution"]["tasks"][0]["runtimeInSeconds"] = random.random()
        document["workflow"]["execution"]["tasks"][1]["runtimeInSeconds"] = float(np.random.rand())
        document["workflow"]["execution"]["tasks"][2]["runtimeInSeconds"] = self.size
        if self.size == 9:
            document = small(a=([], [], []), b=([], ["f"], []))
        path.write_text(json.dumps(document))


@pytest.fixture
def fake_recipes(monkeypatch):
    """A package wfcommons with one recipe."""
    recipes = types.ModuleType("wfcommons.wfchef.recipes")
    recipes.MontageRecipe = FakeRecipe
    parent = types.ModuleType("wfcommons.wfchef")
    parent.recipes = recipes
    for module in (types.ModuleType("wfcommons"), parent, recipes):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_recipes_draw_from_the_generator_and_from_nothing_else(fake_recipes):
    def draw(seed, source="wfcommons:montage:50", **options):
        return read_workflows(source, rng=np.random.default_rng(seed), **options)

    random.seed(7)
    np.random.seed(7)
    first, expected = draw(1, count=3), (random.random(), np.random.rand())
    random.seed(7)
    np.random.seed(7)
    assert (random.random(), np.random.rand()) == expected, "the global generators are as before"
    assert [workflow.name for workflow in first] == ["montage-50-0", "montage-50-1", "montage-50-2"]
    assert len({workflow.digest for workflow in first}) == 3
    assert draw(1, count=3) == first and draw(2, count=3) != first
    assert len(draw(1)) == 16 and draw(1, "wfcommons:MontageRecipe:50", count=3) == first
    assert first[0].run_time[1] == 52, "of which two are the package's own"
    assert draw(1, "wfcommons:montage")[0].name == "montage-200-0"
    assert draw(1, "wfcommons:montage", most_tasks=60)[0].name == "montage-60-0"
    assert read_workflows("wfcommons:montage")[0] == read_workflows("wfcommons:montage")[0]


@pytest.mark.parametrize(
    "source, message",
    [
        ("wfcommons:blas", "RECIPE: got 'blas'; must be one of montage"),
        ("wfcommons:", "RECIPE: got ''; must be one of montage"),
        ("wfcommons:montage:", "SIZE: got ''; must be a whole number of tasks"),
        ("wfcommons:montage:-5", "SIZE: got '-5'; must be"),
        ("wfcommons:montage:5:5", "SIZE: got '5:5'; must be"),
        ("wfcommons:montage:\u0665", "SIZE: got '\u0665'; must be"),
        ("wfcommons:montage:7", "wfcommons draws tasks without dependencies; another RECIPE must be chosen"),
        (
            "wfcommons:montage:2",
            "wfcommons:montage:2: wfcommons draws no workflow of at most 2 tasks; a larger SIZE may do: 'too small'",
        ),
    ],
)
def test_wrong_recipes_are_refused(source, message, fake_recipes):
    with pytest.raises(ValueError) as caught:
        read_workflows(source)
    assert message in str(caught.value)


def test_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wfcommons.wfchef", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxcec\[data\]'"):
        read_workflows("wfcommons:montage")


RECIPES = ["blast", "bwa", "cycles", "epigenomics", "genome", "montage", "seismology", "soykb", "srasearch"]


needs_package = pytest.mark.skipif(importlib.util.find_spec("wfcommons") is None, reason="wfcommons is not installed")


@needs_package
@pytest.mark.parametrize(
    "recipe", [pytest.param(name, marks=[] if name == "epigenomics" else pytest.mark.slow) for name in RECIPES]
)
def test_recipes_of_the_package(recipe):
    workflows = read_workflows(f"wfcommons:{recipe}", count=2)
    assert len({workflow.digest for workflow in workflows}) == 2
    for workflow in workflows:
        assert 2 < len(workflow.tasks) <= 200 and sum(map(len, workflow.sent))
        assert None not in workflow.run_time and sum(workflow.external) > 0


@needs_package
@pytest.mark.slow
def test_recipes_of_the_package_are_the_same_in_every_process():
    script = (
        "from jaxcec.readers import read_workflows\n"
        f"print(*[read_workflows(f'wfcommons:{{r}}:110', count=1)[0].digest.hex() for r in {RECIPES}])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment | {"PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2")
    ]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
