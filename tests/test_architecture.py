"""Which part of the package may import which, and how little the simulator needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxcec

PACKAGE = Path(jaxcec.__file__).parent
ALLOWED = {
    "env": set(),
    "scenarios": {"env"},
    "policies": {"env"},
    "evaluation": {"env", "policies", "files"},
    "agents": {"env", "policies", "evaluation", "files"},
    "adapters": {"env", "make", "registered_envs"},
    "experiments": {"env", "policies", "scenarios", "evaluation", "files"},
}
# rich is not among them: flax.linen imports it.
EXTRAS = ["matplotlib", "polars", "gymnasium", "tyro", "orbax", "jaxcec.adapters"]


def modules_imported(source: str, module: str) -> set[str]:
    """Full names of what a module imports, wherever in it; `from a import b` counts as a.b, which a.b may well be."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def rooms_entered(source: str, module: str) -> set[str]:
    """Which parts of the package a module imports, its own left out; `*` for the package itself."""
    paths = [name.split(".") for name in modules_imported(source, module)]
    rooms = {(path[1:2] or ["*"])[0] for path in paths if path[0] == "jaxcec"}
    return rooms - {module.split(".")[1]}


def room_of(file: Path) -> str:
    """The innermost part of the package that a file belongs to."""
    path = file.relative_to(PACKAGE).parent.as_posix()
    return max((room for room in ALLOWED if f"{path}/".startswith(f"{room}/")), key=len)


@pytest.mark.parametrize("room", ALLOWED)
def test_each_part_imports_only_the_parts_below_it(room):
    files = [file for file in sorted((PACKAGE / room).rglob("*.py")) if room_of(file) == room]
    assert files
    for file in files:
        module = ".".join(["jaxcec", *file.relative_to(PACKAGE).with_suffix("").parts])
        wrong = rooms_entered(file.read_text(), module) - ALLOWED[room]
        assert not wrong, f"{module} must not import {sorted(wrong)}"


def test_nothing_imports_an_adapter():
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(["jaxcec", *file.relative_to(PACKAGE).with_suffix("").parts])
        if "adapters" not in module:
            assert not any("adapters" in name for name in modules_imported(file.read_text(), module)), module


@pytest.mark.parametrize(
    ("line", "rooms"),
    [
        ("import jaxcec.agents.ddpg as d", {"agents"}),
        ("from jaxcec import policies", {"policies"}),
        ("def f():\n    from jaxcec.scenarios.synthetic_dags import Dag", {"scenarios"}),
        ("from ..agents import act", {"agents"}),
        ("from .. import agents", {"agents"}),
        ("from . import timeline", set()),
        ("import jaxcec", {"*"}),
        ("import jax", set()),
    ],
)
def test_every_form_of_import_is_recognised(line, rooms):
    assert rooms_entered(line, "jaxcec.env.env") == rooms


def test_the_simulator_needs_no_optional_package(tmp_path):
    """As a script outside of the repository imports it."""
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nimport jaxcec.env\nprint(*[name for name in {EXTRAS} if name in sys.modules])\n")
    loaded = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert loaded.stdout.split() == []
