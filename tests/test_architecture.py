"""The structure of the package: which room may import which, no import cycles, and functions of a readable size."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

import jaxcec

PACKAGE = Path(jaxcec.__file__).parent
# Room: what it may import of the package. `commands` may import every room; `env` imports nothing else of the package.
ALLOWED = {
    "env": set(),
    "scenarios": {"env"},
    "policies": {"env", "checks"},
    "evaluation": {"env", "policies", "checks", "files"},
    "agents": {"env", "policies", "evaluation", "checks", "files", "mapping"},
    "adapters": {"env", "make", "registered_envs"},
    "experiments": {"env", "policies", "scenarios", "evaluation", "files"},
    "live": {"env", "policies", "scenarios", "evaluation", "agents", "checks", "files"},
}
# rich is not listed because flax.linen imports it.
EXTRAS = ["matplotlib", "polars", "gymnasium", "tyro", "orbax", "jaxcec.adapters", "jaxcec.live", "pydantic"]
MAX_LINES = 60  # of a function
MAX_POSITIONAL = 7  # parameters of a function, `self` and `cls` excluded
# `python -m jaxcec.train` needs a module outside `commands`; `env` and `agents` each name their data in `types.py`.
SHARED_NAMES = {"train.py", "types.py"}


def module_name(file: Path) -> str:
    """The dotted name of a file of the package; that of a package for its `__init__.py`."""
    parts = ("jaxcec", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imported_names(source: str, module: str, is_package: bool = False) -> set[str]:
    """Full names of everything a module imports, at any depth and for annotations only, as `package.name`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            parents = parts[: len(parts) - node.level + is_package] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def imports_of(module: str) -> set[str]:
    """Full names of everything a module of the package imports."""
    file = FILES[module]
    return imported_names(file.read_text(), module, file.name == "__init__.py")


def entered_rooms(names: set[str], room: str) -> set[str]:
    """Rooms of the package, other than `room`, that imported names belong to; `*` is the package itself."""
    paths = [name.split(".") for name in names]
    return {(path[1:2] or ["*"])[0] for path in paths if path[0] == "jaxcec"} - {room}


def import_graph() -> nx.DiGraph:
    """Modules of the package; an edge leads from a module to each module that it names in an import."""
    graph = nx.DiGraph()
    graph.add_nodes_from(FILES)
    for module in FILES:
        for name in sorted(imports_of(module)):
            target = name if name in FILES else name.rpartition(".")[0]
            if target in FILES:
                graph.add_edge(module, target)
    return graph


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method of the package, nested ones included, with the place of its definition."""
    for file in FILES.values():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{file.relative_to(PACKAGE.parent)}:{node.lineno} {node.name}", node


def positional_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of the parameters that a caller may pass by position."""
    names = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_every_room_has_its_rules():
    rooms = {file.relative_to(PACKAGE).parts[0] for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE}
    assert rooms == {*ALLOWED, "commands"}


@pytest.mark.parametrize("room", ALLOWED)
def test_each_room_imports_only_the_rooms_below_it(room):
    modules = [module for module in FILES if f"{module}.".startswith(f"jaxcec.{room}.")]
    assert modules
    for module in modules:
        wrong = entered_rooms(imports_of(module), room) - ALLOWED[room]
        assert not wrong, f"{module} must not import {sorted(wrong)}"


def test_no_other_room_imports_an_adapter():
    for module in FILES:
        if not module.startswith("jaxcec.adapters"):
            assert not any("adapters" in name for name in imports_of(module)), module


def test_imports_form_no_cycle():
    """Imports under `TYPE_CHECKING` and inside functions count like all others."""
    cycle = next(nx.simple_cycles(import_graph()), [])
    assert not cycle, " -> ".join([*cycle, cycle[0]])


@pytest.mark.parametrize(
    ("line", "rooms"),
    [
        ("import jaxcec.agents.ddpg as d", {"agents"}),
        ("from jaxcec import policies", {"policies"}),
        ("def f():\n    from jaxcec.scenarios.synthetic_dags import Dag", {"scenarios"}),
        ("if TYPE_CHECKING:\n    from jaxcec.agents.config import AgentConfig", {"agents"}),
        ("from ..agents import act", {"agents"}),
        ("from .. import agents", {"agents"}),
        ("from . import timeline", set()),
        ("import jaxcec", {"*"}),
        ("import jax", set()),
    ],
)
def test_every_form_of_import_is_recognised(line, rooms):
    assert entered_rooms(imported_names(line, "jaxcec.env.env"), "env") == rooms


def test_relative_imports_resolve_from_modules_and_from_packages():
    assert imported_names("from . import timeline", "jaxcec.env.env") == {"jaxcec.env.timeline"}
    assert imported_names("from . import timeline", "jaxcec.env", is_package=True) == {"jaxcec.env.timeline"}
    assert imported_names("from ..files import write_aside", "jaxcec.agents.checkpoint") == {"jaxcec.files.write_aside"}


def test_functions_are_short():
    lengths = {where: node.end_lineno - node.lineno + 1 for where, node in functions()}
    too_long = {where: lines for where, lines in lengths.items() if lines > MAX_LINES}
    assert not too_long


def test_functions_have_few_positional_parameters():
    counts = {where: len(positional_parameters(node)) for where, node in functions()}
    too_many = {where: count for where, count in counts.items() if count > MAX_POSITIONAL}
    assert not too_many


def test_no_file_name_occurs_in_two_rooms():
    counts = Counter(file.name for file in FILES.values())
    repeated = {name for name, count in counts.items() if count > 1} - {"__init__.py", "__main__.py"}
    assert repeated == SHARED_NAMES


def test_the_simulator_needs_no_optional_package(tmp_path):
    """The script imports `jaxcec.env` from outside the repository."""
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nimport jaxcec.env\nprint(*[name for name in {EXTRAS} if name in sys.modules])\n")
    loaded = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert loaded.stdout.split() == []
