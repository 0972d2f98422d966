"""The files in the sdist and the wheel, and the installed wheel in use outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("jaxcec", "configs", "pyproject.toml", "README.md", "LICENSE")
DATA_FILES = {
    "py.typed",
    *(f"configs/{name}.yaml" for name in ("default", "paper", "smoke")),
    *(f"agents/pretrained/{name}.msgpack" for name in ("ddpg", "dtdrlmo", "dtdrlmo-plan")),
    "agents/pretrained/README.md",
    "evaluation/result_page.html.j2",
    "live/live_page.html",
    "scenarios/data/adversarial.json",
    "scenarios/data/alibaba_hour.npz",
    "scenarios/data/README.md",
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Folder with an sdist and the wheel built from it; built from a copy, so that the repository stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    shutil.rmtree(source / "jaxcec.egg-info", ignore_errors=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def code_files():
    """Paths of all modules of the repository, as the wheel names them."""
    return {str(path.relative_to(ROOT)) for path in (ROOT / "jaxcec").rglob("*.py")}


def test_wheel_contains_exactly_the_package_and_its_data(dist):
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        shipped = {name for name in archive.namelist() if not name.startswith("jaxcec-")}
    assert shipped == code_files() | {f"jaxcec/{name}" for name in DATA_FILES}


def test_sdist_contains_the_sources_of_the_wheel(dist):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= code_files() | {"pyproject.toml", "README.md", "LICENSE", "configs/default.yaml"}


@pytest.mark.slow
def test_wheel_works_outside_the_repository(dist, tmp_path):
    """The wheel runs in a fresh virtual environment with the core dependencies only, from an empty folder."""
    venv.create(tmp_path / "venv", with_pip=True)
    programs, empty = tmp_path / "venv" / "bin", tmp_path / "empty"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    def run(program, *arguments):
        command = [programs / program, *arguments]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("python", "-m", "pip", "install", "--quiet", next(dist.glob("*.whl")))
    where = run("python", "-c", "import jaxcec.env; print(jaxcec.env.__file__)")
    assert where.startswith(str(tmp_path / "venv"))
    run("jaxcec-train", "--config", "smoke", "--out", "run")
    assert {path.name for path in (empty / "run").iterdir()} >= {"config.yaml", "metrics.csv", "policy.msgpack"}
    policies = ("--policies", "eft", "dtdrlmo", "--checkpoint", "run")
    table = run("jaxcec-eval", "--config", "smoke", "--episodes", "4", *policies, "--out", "ev")
    assert "dtdrlmo" in table
    assert json.loads((empty / "ev" / "results.json").read_text())["repeat"].startswith("jaxcec-eval ")
    shipped = run("jaxcec-eval", "--dataset", "alibaba", "--episodes", "2", "--policies", "eft", "dtdrlmo-plan")
    assert "the policy shipped" in shipped
    assert "--total-decisions" in run("python", "-m", "jaxcec.train", "--help")
    assert "--checkpoint" in run("python", "-m", "jaxcec.eval", "--help")
