"""Reads workflows of other programs as plain facts: WfFormat and node-link JSON, and workflows drawn from recipes."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import random
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from jaxcec.readers.workflow_formats import EXECUTION, MB, MBIT, Draft, draft_of, refusal

_RECIPES = "wfcommons:"
_USUAL_SIZE = 200  # tasks of a recipe for which no size is given: all recipes have workflows of this size
_LARGEST_FILE = 500_000_000  # bytes


@dataclasses.dataclass(frozen=True)
class WorkflowFile:
    """The facts of one workflow of n tasks; those that its file does not state are None."""

    name: str  # of the file without suffix, or RECIPE-SIZE-INDEX
    tasks: tuple[str, ...]  # n ids, in the file's order
    sent: tuple[dict[int, float], ...]  # of each task {predecessor: Mbit}; 0.0 where there is precedence alone
    external: tuple[float, ...]  # Mbit that lie at the source: inputs that no task of the workflow writes
    run_time: tuple[float | None, ...]  # s, at the reference speed
    load: tuple[float | None, ...]  # Mcycles, where the file gives work itself
    demand: dict[str, tuple[float | None, ...]]  # by kind of resource that some task names: `cpu` cores, `mem` MB
    notes: tuple[str, ...]  # what was taken, left out or missing, with counts, one line each
    digest: bytes  # hash of the facts in the order of the tasks, without the names of tasks and workflow

    @property
    def preds(self) -> list[list[int]]:
        """Predecessors of each task, in increasing order."""
        return [sorted(row) for row in self.sent]

    @property
    def data(self) -> list[float]:
        """Input of each task, Mbit."""
        return [sum(row.values()) + mbit for row, mbit in zip(self.sent, self.external, strict=True)]

    def loads(self, speed: float) -> list[float | None]:
        """Work of each task in Mcycles, as the run times were measured at a speed in Mcycles/s; None if not known."""
        known = zip(self.load, self.run_time, strict=True)
        return [load if load is not None or time is None else speed * time for load, time in known]


def read_workflows(
    source: str, *, most_tasks: int | None = None, rng: np.random.Generator | None = None, count: int = 16
) -> list[WorkflowFile]:
    """Read workflows from files, or draw them from a recipe of WfCommons.

    A file is WfFormat 1.0 to 1.6 or a directed node-link graph as networkx writes it: nodes with `run_time` s or `load`
    Mcycles, `cpu` cores, `mem` MB, and `external` Mbit that lie at the source; edges with `data` Mbit or `bytes`. A
    node's `data` is its whole input, Mbit: every predecessor sends an equal share, and without predecessors it lies at
    the source; it excludes `external` and sizes of edges. Parallel edges add up.

    A task of WfFormat receives each file from the task that writes it, also if that is not named among its parents. If
    several write it, the latest of its parents counts, else the latest of its ancestors, else the latest of all. A file
    that no task writes lies at the source; one that only its reader writes is left out. The speeds of machines are
    not used.

    Args:
        source: a file; a folder, of which every `.json` is read; a glob; or `wfcommons:RECIPE` or
            `wfcommons:RECIPE:SIZE` such as `wfcommons:montage:200`, of at most SIZE tasks each.
        most_tasks: workflows of more tasks are left out.
        rng: draws from a recipe; by default of seed 0. Files need none.
        count: number of workflows drawn from a recipe.

    Returns:
        The workflows, of files in the order of their paths.

    Raises:
        ImportError: a recipe needs the package wfcommons, which is not installed.
        ValueError: there is no such file or recipe, none has at most `most_tasks` tasks, or a file is damaged or in no
            known form. The message gives the file, the task, the field, its value and what is allowed.
    """
    for name, number in (("most_tasks", most_tasks), ("count", count)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise refusal(name, number, "a whole number from 1")
    if source.startswith(_RECIPES):
        found = _from_recipe(source, count, size=min(_USUAL_SIZE, most_tasks or _USUAL_SIZE), rng=rng)
    else:
        found = [_finished(draft_of(_parsed(path), str(path)), path.stem) for path in _paths(source)]
    kept = [workflow for workflow in found if most_tasks is None or len(workflow.tasks) <= most_tasks]
    if not kept:
        least = min(len(workflow.tasks) for workflow in found)
        raise ValueError(f"{source}: the smallest workflow has {least} tasks; most_tasks allows {most_tasks}")
    if len(kept) < len(found):
        line = f"workflows left out, of more than {most_tasks} tasks: {len(found) - len(kept)} of {len(found)}"
        kept[0] = dataclasses.replace(kept[0], notes=(*kept[0].notes, line))
    return kept


def workflow_json(workflow: WorkflowFile) -> dict[str, Any]:
    """Return a workflow as WfFormat 1.5, of which `read_workflows` reads the same facts.

    What a task sends to another is one file. A load is `loadInMcycles`, which is no part of WfFormat. What WfFormat
    requires and the facts lack, the instant and the makespan of the run, is 1970 and 0; unknown run times are absent.
    """
    ids, preds = workflow.tasks, workflow.preds
    files: list[dict[str, Any]] = []
    inputs: list[list[str]] = [[] for _ in ids]
    outputs: list[list[str]] = [[] for _ in ids]
    children: list[list[str]] = [[] for _ in ids]

    def add_file(name: str, mbit: float, reader: int) -> None:
        files.append({"id": name, "sizeInBytes": _in_bytes(mbit, MBIT)})
        inputs[reader].append(name)

    for j, (row, external) in enumerate(zip(workflow.sent, workflow.external, strict=True)):
        if external:
            add_file(f"source-to-{j}", external, j)
        for k in preds[j]:
            children[k].append(ids[j])
            if row[k]:
                add_file(f"{k}-to-{j}", row[k], j)
                outputs[k].append(f"{k}-to-{j}")
    tasks = [
        {
            "name": name,
            "id": name,
            "parents": [ids[k] for k in preds[j]],
            "children": children[j],
            "inputFiles": inputs[j],
            "outputFiles": outputs[j],
        }
        for j, name in enumerate(ids)
    ]
    execution = {"makespanInSeconds": 0, "executedAt": "1970-01-01T00:00:00Z", "tasks": _runs(workflow)}
    return {
        "name": workflow.name,
        "schemaVersion": "1.5",
        "workflow": {"specification": {"tasks": tasks, "files": files}, "execution": execution},
    }


def _runs(workflow: WorkflowFile) -> list[dict[str, Any]]:
    """What is known of how each task runs; tasks of which nothing is known are absent."""
    facts = {"run_time": workflow.run_time, "load": workflow.load} | workflow.demand
    runs: list[dict[str, Any]] = [{"id": name} for name in workflow.tasks]
    for fact, values in facts.items():
        field = next(iter(EXECUTION[fact]))
        for run, value in zip(runs, values, strict=True):
            if value is not None:
                run[field] = _in_bytes(value, MB) if fact == "mem" else value
    return [run for run in runs if len(run) > 1]


def _in_bytes(value: float, unit: int) -> float:
    """Return the bytes that are read as `value` units: a whole number if there is one, as WfFormat requires."""
    whole = round(value * unit)
    return whole if whole / unit == value else value * unit


def _finished(draft: Draft, name: str) -> WorkflowFile:
    """Return the facts of a draft, in their final units."""
    # Bytes that were computed from Mbit become the same Mbit again when these are written as bytes and read.
    sent = tuple({k: size / MBIT for k, size in row.items()} for row in draft.sent)
    external = tuple(size / MBIT for size in draft.external)
    run_time, load, cpu = (tuple(draft.facts[fact]) for fact in ("run_time", "load", "cpu"))
    mem = tuple(None if size is None else size / MB for size in draft.facts["mem"])
    demand = {kind: row for kind, row in (("cpu", cpu), ("mem", mem)) if any(each is not None for each in row)}
    content = repr(([sorted(row.items()) for row in sent], external, run_time, load, sorted(demand.items())))
    precedences = [mbit for row in sent for mbit in row.values()]
    taken = (
        f"tasks: {len(sent)}",
        f"precedences: {len(precedences)}, of which without data: {precedences.count(0.0)}",
        f"Mbit between tasks: {sum(precedences):.9g}, at the source: {sum(external):.9g}",
    )
    return WorkflowFile(
        name=name,
        tasks=tuple(draft.index),
        sent=sent,
        external=external,
        run_time=run_time,
        load=load,
        demand=demand,
        notes=(*taken, *draft.notes),
        digest=hashlib.blake2b(content.encode(), digest_size=16).digest(),
    )


def _paths(source: str) -> list[Path]:
    """The files that a path or a glob names, in the order of their paths."""
    if Path(source).is_file():
        return [Path(source)]
    pattern = f"{glob.escape(source)}/*.json" if source and Path(source).is_dir() else source
    paths = sorted(path for path in map(Path, glob.glob(pattern)) if path.is_file())
    if not paths:
        raise ValueError(f"{source or 'no path'}: no such file; expected a JSON file, a folder of some, or a glob")
    return paths


def _parsed(path: Path) -> Any:
    """Return the content of a JSON file."""
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise ValueError(f"{path}: got {size:,} bytes; at most {_LARGEST_FILE:,} are read")
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return json.loads(text.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{path}: lists or objects are nested too deeply; expected WfFormat or a graph") from None
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise ValueError(f"{path}: not a JSON file: {str(error)[:200]}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _from_recipe(source: str, count: int, *, size: int, rng: np.random.Generator | None) -> list[WorkflowFile]:
    """Draw workflows from a recipe of WfCommons; `size` is that of a source that names none."""
    recipes = _recipes()
    name, *sizes = source.removeprefix(_RECIPES).split(":")
    name = name.lower().removesuffix("recipe")
    if name not in recipes:
        raise refusal(f"{source}, RECIPE", name, f"one of {', '.join(recipes)}")
    if len(sizes) > 1 or any(not (each.isascii() and each.isdigit() and 0 < len(each) < 7) for each in sizes):
        raise refusal(f"{source}, SIZE", ":".join(sizes), "a whole number of tasks")
    size = int(sizes[0]) if sizes else size
    found = []
    with tempfile.TemporaryDirectory() as folder, _seeded(rng or np.random.default_rng(0)):
        for i in range(count):
            path = Path(folder, f"{name}-{size}-{i}.json")
            try:
                # The package counts a source and a sink of its own as tasks.
                recipes[name].from_num_tasks(size + 2).build_workflow().write_json(path)
            except Exception as error:  # of the package, which raises many kinds
                tried = f"wfcommons draws no workflow of at most {size} tasks; a larger SIZE may do"
                raise ValueError(f"{source}: {tried}: {error}") from error
            found.append(_finished(draft_of(_parsed(path), f"{source}, workflow {i}"), path.stem))
            if not any(found[-1].sent):  # `rnaseq` of wfcommons 1.6 has no dependencies, no files, and no variety
                raise ValueError(f"{source}: wfcommons draws tasks without dependencies; another RECIPE must be chosen")
    return found


def _recipes() -> dict[str, Any]:
    """Return the recipes of WfCommons by their names in lower case.

    Raises:
        ImportError: wfcommons is not installed; the message says how to install it.
    """
    try:
        with warnings.catch_warnings():  # the package silences all warnings for good when it is imported
            warnings.simplefilter("ignore")
            from wfcommons.wfchef import recipes
    except ImportError as error:
        raise ImportError("drawing workflows from recipes needs wfcommons: pip install 'jaxcec[data]'") from error
    suffix = "Recipe"
    return {name.removesuffix(suffix).lower(): each for name, each in vars(recipes).items() if name.endswith(suffix)}


@contextlib.contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global generators, from which WfCommons draws, and restore them afterwards."""
    states = random.getstate(), np.random.get_state()
    random.seed(int(rng.integers(2**32)))
    np.random.seed(int(rng.integers(2**32)))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
