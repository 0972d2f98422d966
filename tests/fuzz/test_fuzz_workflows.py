"""Random workflows and damaged files: facts that equal what was written, or a ValueError that names the file."""

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcec.readers import read_workflows, workflow_json

EXAMPLES = pytest.mark.parametrize("examples", [60, pytest.param(2500, marks=pytest.mark.slow)])

sizes = st.integers(0, 10**9) | st.sampled_from([0, 1, 10**15])
numbers = st.none() | st.integers(0, 10**6) | st.floats(0, 1e15, allow_subnormal=True)
junk = st.sampled_from(
    [
        None,
        True,
        -1,
        -0.5,
        1e16,
        10**30,
        "1",
        "",
        [],
        {},
        [[]],
        "t0",
        "f0",
        ["t0"],
        ["t1", "t1"],
        "2.0",
        0.1,
        {"id": "t0"},
    ]
)


def many(examples):
    """Settings for a number of examples that share a folder."""
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=suppressed)


@st.composite
def workflows(draw):
    """Tasks in topological order, {name: (parents, files read, files written, facts)}, and the size of each file."""
    count = draw(st.integers(1, 7))
    files = {f"f{i}": draw(sizes) for i in range(draw(st.integers(0, 8)))}
    writer = {name: draw(st.integers(-1, count - 1)) for name in files}  # -1: it lies at the source
    tasks = {}
    for j in range(count):
        readable = [name for name, k in writer.items() if k < j]
        tasks[f"t{j}"] = (
            draw(st.lists(st.integers(0, j - 1), unique=True) if j else st.just([])),
            draw(st.lists(st.sampled_from(readable), unique=True) if readable else st.just([])),
            [name for name, k in writer.items() if k == j],
            draw(st.fixed_dictionaries({name: numbers for name in ("run_time", "load", "cpu", "mem")})),
        )
    return tasks, files, draw(st.permutations(list(tasks)))


def nested(tasks, files, order):
    """A workflow as WfFormat 1.5, its tasks in some order."""
    names = list(tasks)
    rows = [
        {"id": name, "parents": [names[k] for k in tasks[name][0]], "children": []}
        | {"inputFiles": tasks[name][1], "outputFiles": tasks[name][2]}
        for name in order
    ]
    fields = {"run_time": "runtimeInSeconds", "load": "loadInMcycles", "cpu": "coreCount", "mem": "memoryInBytes"}
    ran = [
        {"id": name} | {fields[fact]: value for fact, value in tasks[name][3].items() if value is not None}
        for name in sorted(order)
    ]
    specification = {"tasks": rows, "files": [{"id": name, "sizeInBytes": size} for name, size in files.items()]}
    return {"schemaVersion": "1.5", "workflow": {"specification": specification, "execution": {"tasks": ran}}}


def flat(tasks, files, order):
    """A workflow as WfFormat 1.4."""
    names = list(tasks)
    fields = {"run_time": "runtimeInSeconds", "load": "loadInMcycles", "cpu": "cores", "mem": "memoryInBytes"}
    rows = []
    for name in order:
        parents, read, written, facts = tasks[name]
        listed = [{"name": f, "link": "input", "sizeInBytes": files[f]} for f in read]
        listed += [{"name": f, "link": "output", "sizeInBytes": files[f]} for f in written]
        row = {"name": name, "parents": [names[k] for k in parents], "files": listed}
        rows.append(row | {fields[fact]: value for fact, value in facts.items()})
    return {"schemaVersion": "1.4", "workflow": {"tasks": rows}}


def node_link(tasks, files, order):
    """A workflow as a graph, an edge for every file and every parent."""
    names, writer = list(tasks), {file: name for name, row in tasks.items() for file in row[2]}
    edges = [{"source": names[k], "target": name} for name, row in tasks.items() for k in row[0]]
    edges += [
        {"source": writer[f], "target": name, "bytes": files[f]}
        for name, row in tasks.items()
        for f in row[1]
        if f in writer
    ]
    nodes = []
    for name in order:
        external = sum(files[f] for f in tasks[name][1] if f not in writer) * 8 / 1e6
        facts = tasks[name][3]
        mem = None if facts["mem"] is None else facts["mem"] / 1e6
        nodes.append({"id": name, "external": external} | facts | {"mem": mem})
    return {"directed": True, "multigraph": True, "nodes": nodes, "links": edges}


def expected_sent(tasks, files, order):
    """Of each task {predecessor: Mbit} and the Mbit at the source, computed plainly."""
    names, writer = list(tasks), {file: name for name, row in tasks.items() for file in row[2]}
    sent, external = [], []
    for name in order:
        parents, read, _, _ = tasks[name]
        before = {names[k] for k in parents} | {writer[f] for f in read if f in writer}
        sent.append({order.index(k): sum(files[f] for f in read if writer.get(f) == k) * 8 / 1e6 for k in before})
        external.append(sum(files[f] for f in read if f not in writer) * 8 / 1e6)
    return sent, external


def read_or_refuse(path, text):
    """The workflow of a file, or None if it is refused by a ValueError that names the file."""
    path.write_text(text)
    try:
        [workflow] = read_workflows(str(path))
        return workflow
    except ValueError as error:
        assert type(error) is ValueError and str(path) in str(error) and len(str(error)) < 2000
        return None


def facts(workflow):
    return workflow.tasks, workflow.sent, workflow.external, workflow.run_time, workflow.load, workflow.demand


@EXAMPLES
@pytest.mark.parametrize("form", [nested, flat, node_link])
def test_the_facts_are_those_written(examples, form, tmp_path):
    @many(examples)
    @given(workflows())
    def check(drawn):
        tasks, _, order = drawn
        workflow = read_or_refuse(tmp_path / "w.json", json.dumps(form(*drawn)))
        sent, external = expected_sent(*drawn)
        if workflow is None:
            assert max([*external, *(mbit for row in sent for mbit in row.values())]) > 8e9
            return
        assert workflow.tasks == tuple(order)
        assert list(workflow.sent) == sent and list(workflow.external) == external
        for fact, found in {"run_time": workflow.run_time, "load": workflow.load}.items():
            assert list(found) == [tasks[name][3][fact] for name in order]
        for kind, unit in (("cpu", 1), ("mem", 1e6)):
            values = [tasks[name][3][kind] for name in order]
            found = workflow.demand.get(kind, (None,) * len(order))
            assert list(found) == [
                None if value is None else pytest.approx(value / unit, rel=1e-15) for value in values
            ]
        again = read_or_refuse(tmp_path / "again.json", json.dumps(workflow_json(workflow)))
        assert facts(again) == facts(workflow) and again.digest == workflow.digest

    check()


def places(value, path=()):
    """All places of a document, as paths of keys."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def mutated(document, path, new):
    """A document in which the value at a place is another, or absent."""
    if not path:
        return new
    document = copy.deepcopy(document)
    place = document
    for key in path[:-1]:
        place = place[key]
    if new == "absent":
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return document


def check_sound(workflow):
    """Check what holds for every workflow that is read."""
    count = len(workflow.tasks)
    assert len(set(workflow.tasks)) == count > 0
    rows = [workflow.external, workflow.run_time, workflow.load, *workflow.demand.values()]
    assert {len(row) for row in rows} == {count} == {len(workflow.sent)}
    values = [value for row in [*rows, *(each.values() for each in workflow.sent)] for value in row]
    assert all(value is None or (type(value) is float and 0 <= value <= 1e15) for value in values)
    left, preds = set(range(count)), workflow.preds
    while left:
        ready = {j for j in left if not left & set(preds[j])}
        assert ready, "no cycle"
        left -= ready
    assert not any(math.isnan(value) for value in values if value is not None)


@EXAMPLES
@pytest.mark.parametrize("form", [nested, flat, node_link])
def test_damaged_documents_are_read_soundly_or_refused(examples, form, tmp_path):
    @many(examples)
    @given(workflows(), st.data())
    def check(drawn, data):
        document = form(*drawn)
        for _ in range(data.draw(st.integers(1, 3))):
            path = data.draw(st.sampled_from(sorted(places(document), key=repr)))
            document = mutated(document, path, data.draw(junk | st.just("absent")))
        workflow = read_or_refuse(tmp_path / "w.json", json.dumps(document))
        if workflow is not None:
            check_sound(workflow)
            again = read_or_refuse(tmp_path / "again.json", json.dumps(workflow_json(workflow)))
            assert facts(again) == facts(workflow)

    check()


@EXAMPLES
def test_damaged_text_is_read_soundly_or_refused(examples, tmp_path):
    pieces = st.text(max_size=3) | st.sampled_from(
        ["NaN", "Infinity", "1e999", "[[[[", '"', "\\ud800", "}", "-", "\x00"]
    )

    @many(examples)
    @given(workflows(), st.floats(0, 1), st.integers(0, 4), pieces)
    def check(drawn, where, length, new):
        text = json.dumps(nested(*drawn))
        at = round(where * len(text))
        workflow = read_or_refuse(tmp_path / "w.json", text[:at] + new + text[at + length :])
        if workflow is not None:
            check_sound(workflow)

    check()


@EXAMPLES
def test_random_json_is_refused(examples, tmp_path):
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    keys = st.sampled_from(["workflow", "nodes", "directed", "links", "specification", "tasks", "files", "id"])
    values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))

    @many(examples)
    @given(values)
    def check(value):
        workflow = read_or_refuse(tmp_path / "w.json", json.dumps(value))
        if workflow is not None:
            check_sound(workflow)

    check()
