"""The forms in which workflows come, WfFormat and node-link graphs, as one draft; damage is reported by task and field.

All amounts of data and memory are in bytes here, whatever their unit in the file, so that what was written in bytes is
never rounded.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import networkx as nx

MBIT = 125_000  # bytes
MB = 1_000_000  # bytes
# Fact: the names of its field, the preferred one first, and what one unit is. Until WfFormat 1.3 memory is in KB, as
# its schema says. That schema has KB for the `size` of a file as well, but what programs wrote are bytes, and the
# migration tool of WfFormat takes them as such. `loadInMcycles` is no part of WfFormat; `workflow_json` writes it.
EXECUTION: dict[str, dict[str, float]] = {
    "run_time": {"runtimeInSeconds": 1, "runtime": 1},
    "load": {"loadInMcycles": 1},
    "cpu": {"coreCount": 1, "cores": 1},
    "mem": {"memoryInBytes": 1, "memory": 1000},
}
_FILE_SIZE = {"sizeInBytes": 1.0, "size": 1.0}
_NODE: dict[str, dict[str, float]] = {
    "run_time": {"run_time": 1},
    "load": {"load": 1},
    "cpu": {"cpu": 1},
    "mem": {"mem": MB},
}
_FLAT = ("1.0", "1.1", "1.2", "1.3", "1.4")  # versions of WfFormat in which a task holds all that is known of it
_NESTED = ("1.5", "1.6")  # those with workflow.specification and workflow.execution
_FORMS = "WfFormat, an object with `workflow`, or a node-link graph, an object with `nodes`"
_MOST_TASKS = 20_000
_LARGEST = 1e15  # of a number; larger ones, or their products, would be infinite in float32
_SHOWN = reprlib.Repr()  # shortens values in messages
_SHOWN.maxstring = _SHOWN.maxlong = _SHOWN.maxother = 80


@dataclasses.dataclass
class Draft:
    """The facts of n tasks, before all of the file is read."""

    where: str  # the beginning of an error message: the file
    index: dict[str, int]  # of each task by its id
    sent: list[dict[int, float]]  # of each task {predecessor: bytes}
    external: list[float]  # bytes
    facts: dict[str, list[float | None]]  # of each task, by the names in `EXECUTION`; memory in bytes
    notes: list[str] = dataclasses.field(default_factory=list)

    def graph(self) -> nx.DiGraph:
        """Return the graph of precedences, without cycles.

        Raises:
            ValueError: tasks wait for each other; the message names them.
        """
        graph = nx.DiGraph()
        graph.add_nodes_from(range(len(self.sent)))
        graph.add_edges_from((k, j) for j, row in enumerate(self.sent) for k in row)
        if not nx.is_directed_acyclic_graph(graph):
            names = list(self.index)
            cycle = [names[k] for k, _ in nx.find_cycle(graph)]
            shown = " -> ".join(map(_SHOWN.repr, cycle[:10])) + (" -> ..." if len(cycle) > 10 else "")
            raise ValueError(
                f"{self.where}: {len(cycle)} tasks wait for each other: {shown} -> {_SHOWN.repr(cycle[0])}; "
                "the tasks that a task waits for must not wait for it"
            )
        return graph

    def note(self, what: str, count: int) -> None:
        """Note how often something was taken, left out or missing, if ever."""
        if count:
            self.notes.append(f"{what}: {count}")


def draft_of(document: Any, where: str) -> Draft:
    """Return the draft of a parsed JSON file, without cycles.

    Args:
        document: what was parsed.
        where: the beginning of an error message: the file.

    Raises:
        ValueError: it is in no known form or damaged. The message gives the task, the field, its value and what is
            allowed.
    """
    if not isinstance(document, dict) or not {"workflow", "nodes"} & set(document):
        raise refusal(where, document, _FORMS)
    draft = _wfformat(document, where) if "workflow" in document else _node_link(document, where)
    draft.graph()
    for j, (task, row) in enumerate(zip(draft.index, draft.sent, strict=True)):
        most = max(draft.external[j], *row.values(), 0.0)
        if most > _LARGEST:
            raise refusal(f"{where}, task {_SHOWN.repr(task)}", most, f"sent at most {_LARGEST:g} bytes from one task")
    unknown = zip(draft.facts["run_time"], draft.facts["load"], strict=True)
    draft.note("tasks without a run time", sum(run_time is None and load is None for run_time, load in unknown))
    return draft


def refusal(where: str, value: Any, allowed: str) -> ValueError:
    """Return the error of a field: its value, shortened, and what is allowed."""
    return ValueError(f"{where}: got {_SHOWN.repr(value)}; must be {allowed}")


def _draft(where: str, index: dict[str, int], facts: Iterable[Mapping[str, float | None]]) -> Draft:
    """A draft of tasks without precedences; `facts` are those of each task."""
    rows = list(facts)
    columns = {fact: [row[fact] for row in rows] for fact in EXECUTION}
    return Draft(where, index, [{} for _ in rows], [0.0] * len(rows), columns)


def _wfformat(document: dict[str, Any], where: str) -> Draft:
    """The draft of a document in a version of WfFormat."""
    workflow = _mapping(f"{where}, workflow", document["workflow"])
    nested = "specification" in workflow
    version, known = document.get("schemaVersion"), _NESTED if nested else _FLAT
    if version is not None and version not in known:
        form = "with" if nested else "without"
        raise refusal(f"{where}, schemaVersion", version, f"one of {', '.join(known)} {form} workflow.specification")
    return _nested(workflow, where) if nested else _flat(workflow, where)


def _nested(workflow: dict[str, Any], where: str) -> Draft:
    """The draft of WfFormat from 1.5: the specification names tasks and files, the execution says how tasks ran."""
    specification = _mapping(f"{where}, workflow.specification", workflow["specification"])
    execution = _mapping(f"{where}, workflow.execution", workflow.get("execution", {}))
    tasks = _tasks(f"{where}, workflow.specification.tasks", specification.get("tasks"))
    index = _index(f"{where}, workflow.specification.tasks", [task.get("id") for task in tasks])
    at = f"{where}, workflow.execution.tasks"
    ran = _records(at, execution.get("tasks", []))
    place = _index(at, [run.get("id") for run in ran])
    if place.keys() - index.keys():
        raise refusal(at, min(place.keys() - index.keys()), "ids of tasks of the specification")
    runs = [ran[place[task]] if task in place else {} for task in index]
    facts = [_facts(f"{where}, task {_SHOWN.repr(task)}", run) for task, run in zip(index, runs, strict=True)]
    draft = _draft(where, index, facts)
    _precede(draft, tasks, index)
    files = [
        (file.get("id"), _number(f"{where}, file {_SHOWN.repr(file.get('id'))}", file, _FILE_SIZE))
        for file in _records(f"{where}, workflow.specification.files", specification.get("files", []))
    ]
    read, written = (
        [
            _texts(f"{where}, task {_SHOWN.repr(task)}, {field}", row.get(field, []))
            for task, row in zip(index, tasks, strict=True)
        ]
        for field in ("inputFiles", "outputFiles")
    )
    _deliver(draft, read, written, sizes=_sizes(draft, files))
    _note_machines(draft, execution)
    return draft


def _flat(workflow: dict[str, Any], where: str) -> Draft:
    """The draft of WfFormat to 1.4: a task, called job at first, lists its files; parents are names, rarely ids."""
    field = "jobs" if "jobs" in workflow else "tasks"
    at = f"{where}, workflow.{field}"
    tasks = _tasks(at, workflow.get(field))
    names, ids = ([task.get(key) for task in tasks] for key in ("name", "id"))
    by_id = {} if None in ids else _index(at, ids)
    # Names need not be unique where there are ids.
    index = by_id if by_id and len(set(map(repr, names))) < len(names) else _index(at, names, field="name")
    facts = [_facts(f"{where}, task {_SHOWN.repr(name)}", task) for name, task in zip(index, tasks, strict=True)]
    draft = _draft(where, index, facts)
    _precede(draft, tasks, by_id | index)
    files: list[tuple[Any, float | None]] = []
    links: dict[str, list[list[str]]] = {"input": [[] for _ in tasks], "output": [[] for _ in tasks]}
    for j, (name, task) in enumerate(zip(index, tasks, strict=True)):
        at = f"{where}, task {_SHOWN.repr(name)}, files"
        for file in _records(at, task.get("files", [])):
            called = _text(f"{at}, name", file.get("name"))
            path = file.get("path") or ""  # part of the name, as the migration tool of WfFormat has it
            called = _text(f"{at}, path", path) + called if path else called
            link = file.get("link")
            if not isinstance(link, str) or link.lower() not in links:
                raise refusal(f"{at}, {_SHOWN.repr(called)}, link", link, "input or output")
            links[link.lower()][j].append(called)
            files.append((called, _number(f"{at}, {_SHOWN.repr(called)}", file, _FILE_SIZE)))
    _deliver(draft, links["input"], links["output"], sizes=_sizes(draft, files))
    _note_machines(draft, workflow)
    return draft


def _precede(draft: Draft, tasks: Sequence[dict[str, Any]], known: Mapping[str, int]) -> None:
    """Add the precedences that tasks state as their parents, or as their children alone."""
    stated: dict[str, list[tuple[int, int]]] = {"parents": [], "children": []}
    for j, (name, task) in enumerate(zip(draft.index, tasks, strict=True)):
        for field, pairs in stated.items():
            at = f"{draft.where}, task {_SHOWN.repr(name)}, {field}"
            for other in _texts(at, task.get(field, [])):
                if other not in known:
                    raise refusal(at, other, "tasks of the workflow")
                k = known[other]
                pairs.append((k, j) if field == "parents" else (j, k))
    for k, j in stated["parents"]:
        draft.sent[j][k] = 0.0
    alone = set(stated["children"]) - set(stated["parents"])
    for k, j in sorted(alone):
        draft.sent[j][k] = 0.0
    draft.note("precedences that only the `children` of a task state", len(alone))


def _sizes(draft: Draft, files: Iterable[tuple[Any, float | None]]) -> dict[str, float]:
    """The bytes of each file that has a size; the first one counts."""
    sizes: dict[str, float] = {}
    conflicts = 0
    for name, size in files:
        name = _text(f"{draft.where}, workflow.specification.files, id", name)
        if size is not None:
            conflicts += sizes.setdefault(name, size) != size
    draft.note("files listed again with another size, of which the first counts", conflicts)
    return sizes


def _deliver(
    draft: Draft, read: Sequence[Sequence[str]], written: Sequence[Sequence[str]], *, sizes: Mapping[str, float]
) -> None:
    """Let every file that a task reads come from the task that writes it, or else from the source."""
    writers: dict[str, set[int]] = {}
    for writer, names in enumerate(written):
        for name in names:
            writers.setdefault(name, set()).add(writer)
    stated = draft.graph()
    turn = {task: place for place, task in enumerate(nx.topological_sort(stated))}
    counts: Counter[str] = Counter()
    for j, names in enumerate(read):
        counts["twice"] += len(names) - len(set(names))
        for name in dict.fromkeys(names):
            size, candidates = sizes.get(name, 0.0), writers.get(name, set())
            counts["without size"] += name not in sizes
            k = _writer(j, candidates, stated, turn=turn)
            if not candidates:
                draft.external[j] += size
            elif k is None:
                counts["own"] += 1
            else:
                counts["several"] += len(candidates) > 1
                counts["implied"] += k not in draft.sent[j]
                draft.sent[j][k] = draft.sent[j].get(k, 0.0) + size
    draft.note("files that a task lists twice as its input, of which one counts", counts["twice"])
    draft.note("inputs without a size, taken as 0 bytes", counts["without size"])
    draft.note("inputs that only their reader writes, left out", counts["own"])
    draft.note("inputs that several tasks write, taken from the latest before their reader", counts["several"])
    draft.note("predecessors that are not among the parents but write an input", counts["implied"])


def _writer(j: int, writers: set[int], stated: nx.DiGraph, *, turn: Mapping[int, int]) -> int | None:
    """The task from which task j reads a file: of several, the latest parent, else ancestor, else of all."""
    near = writers - {j}
    if len(writers) > 1:
        near = {k for k in stated.pred[j] if k in writers} or nx.ancestors(stated, j) & writers
        # A task that updates a file in place reads what was there before, not what an unrelated task writes.
        if not near and j not in writers:
            near = writers
    return max(near, key=lambda k: turn[k], default=None)


def _note_machines(draft: Draft, section: Mapping[str, Any]) -> None:
    machines = _records(f"{draft.where}, machines", section.get("machines", []))
    draft.note("machines whose own speed is not used: run times are at the reference speed", len(machines))


def _node_link(document: dict[str, Any], where: str) -> Draft:
    """The draft of a graph as `networkx.node_link_data` writes it, its edges called `edges` or, before, `links`."""
    if document.get("directed") is not True:
        raise refusal(f"{where}, directed", document.get("directed"), "true")
    nodes = _tasks(f"{where}, nodes", document["nodes"])
    index = _index(f"{where}, nodes", [_node_id(node.get("id")) for node in nodes])
    ats = [f"{where}, task {_SHOWN.repr(task)}" for task in index]
    draft = _draft(where, index, [_facts(at, node, _NODE) for at, node in zip(ats, nodes, strict=True)])
    key = "edges" if "edges" in document else "links"
    sized, parallel = set(), 0
    for i, edge in enumerate(_records(f"{where}, {key}", document.get(key))):
        ends = [_node_id(edge.get(end)) for end in ("source", "target")]
        for end, task in zip(("source", "target"), ends, strict=True):
            if not isinstance(task, str) or task not in index:
                raise refusal(f"{where}, {key}[{i}].{end}", task, "the id of a node")
        k, j = (index[task] for task in ends)
        at = f"{where}, edge from {_SHOWN.repr(ends[0])} to {_SHOWN.repr(ends[1])}"
        size = _number(at, edge, {"data": MBIT, "bytes": 1}, alone=True)
        sized |= {j} if size is not None else set()
        parallel += k in draft.sent[j]
        draft.sent[j][k] = draft.sent[j].get(k, 0.0) + (size or 0.0)
    for j, (at, node) in enumerate(zip(ats, nodes, strict=True)):
        whole, lies = _number(at, node, {"data": MBIT}), _number(at, node, {"external": MBIT})
        if whole is not None and (lies is not None or j in sized):
            raise refusal(f"{at}, data", node["data"], "absent where `external` or an edge to the task has a size")
        if whole is not None and draft.sent[j]:
            draft.sent[j] = dict.fromkeys(draft.sent[j], whole / len(draft.sent[j]))
        else:
            draft.external[j] = lies or whole or 0.0
    draft.note("parallel edges, added up", parallel)
    return draft


def _node_id(value: Any) -> Any:
    """The id of a node as text; networkx also has whole numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _tasks(where: str, value: Any) -> list[dict[str, Any]]:
    """The tasks of a workflow, as many as are allowed."""
    tasks = _records(where, value)
    if not 1 <= len(tasks) <= _MOST_TASKS:
        raise ValueError(f"{where}: got {len(tasks)} tasks; must be 1 to {_MOST_TASKS:,}")
    return tasks


def _index(where: str, ids: Sequence[Any], field: str = "id") -> dict[str, int]:
    """The place of each id; all must be different."""
    index: dict[str, int] = {}
    for j, value in enumerate(ids):
        name = _text(f"{where}[{j}].{field}", value)
        if index.setdefault(name, j) != j:
            raise refusal(f"{where}[{j}].{field}", name, f"different from that of [{index[name]}]")
    return index


def _facts(
    where: str, record: Mapping[str, Any], fields: Mapping[str, Mapping[str, float]] = EXECUTION
) -> dict[str, float | None]:
    """The facts of one task."""
    return {fact: _number(where, record, units) for fact, units in fields.items()}


def _number(where: str, record: Mapping[str, Any], units: Mapping[str, float], *, alone: bool = False) -> float | None:
    """The number in the first field that is there, times its unit; None if none is. `alone` refuses two fields."""
    there = [field for field in units if record.get(field) is not None]
    if not there:
        return None
    field, value = there[0], record[there[0]]
    if alone and len(there) > 1:
        raise refusal(f"{where}, {there[1]}", record[there[1]], f"absent where `{field}` is given")
    most = _LARGEST / units[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise refusal(f"{where}, {field}", value, f"a number from 0 to {most:g}")
    return value * units[field] + 0.0  # no negative zero


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise refusal(where, value, "a text that is not empty")
    return value


def _texts(where: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise refusal(where, value, "a list of texts")
    return [_text(f"{where}[{i}]", each) for i, each in enumerate(value)]


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refusal(where, value, "an object")
    return value


def _records(where: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise refusal(where, value, "a list of objects")
    return [_mapping(f"{where}[{i}]", each) for i, each in enumerate(value)]
