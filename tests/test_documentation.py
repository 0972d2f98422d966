"""Code in README and docs: Python blocks run, and commands exist and accept the flags they are shown with."""

import argparse
import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxcec.commands import evaluate, train

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "jaxcec").rglob("README.md"))
LANGUAGES = {"python", "sh", "text", "yaml", "bibtex"}
OPTIONAL = {"altair", "brax", "envelope", "gymnasium", "gymnax", "matplotlib", "polars", "rejax", "stable_baselines3"}
# Values for the placeholders that a reader replaces.
PLACEHOLDERS = {"ALGORITHM": "ddpg", "SEED": "1", "DATASET": "alibaba"}
PROGRAMS = {"apt-get", "pip", "pre-commit", "pytest", "ruff", "mypy", "tox", "mkdocs", "."}
PROGRAMS |= {"cosmic-ray", "cr-filter-operators", "cr-http-workers", "cr-report"}
MAINS = {"train": train, "eval": evaluate}
SLOW = ("import rejax", "from brax.training", "train_jittable", "RunFolder")  # whole trainings; the notebook has one
CHEAP = ("--config smoke", "--schedule", "import_time.py", "--help")


def blocks(language: str) -> list:
    """Return every block of a language as a test parameter, named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text[: match.start()].count("\n") + 2
            marks = [pytest.mark.slow] if any(name in match[1] for name in SLOW) else []
            found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{line}", marks=marks))
    return found


def commands() -> list:
    """Return every command in a shell block, and every one in the text that begins with python, as a test parameter."""
    found = {}
    for block in blocks("sh"):
        for line in re.sub(r"\\\n\s*", "", block.values[0]).splitlines():
            found |= {part.strip(): block.id for part in re.sub(r"(^|\s)#.*", "", line).split("&&") if part.strip()}
    for page in PAGES:
        for code in re.findall(r"`((?:python |jaxcec-)[^`]*)`", page.read_text()):
            found.setdefault(" ".join(code.split()), str(page.relative_to(ROOT)))
    return [pytest.param(command, id=f"{where}: {command}") for command, where in found.items()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_names_its_language(page):
    fences = re.findall(r"^```(.*)$", page.read_text(), re.MULTILINE)
    assert set(fences[::2]) <= LANGUAGES
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_wrapped_at_100_columns(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in prose.splitlines() if len(line) > 100 and not line.startswith(("|", "!["))] == []


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_run(block, tmp_path, monkeypatch):
    for node in ast.walk(ast.parse(block)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in {name.partition(".")[0] for name in names} & OPTIONAL:
            pytest.importorskip(name, exc_type=ImportError)
    if "jaxcec.live" in block:
        pytest.importorskip("pydantic")
    if not hasattr(jax, "device_put_replicated"):
        monkeypatch.setattr(jax, "device_put_replicated", None, raising=False)  # restored after the block
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # the defaults that a reader has
        exec(block, {"__name__": "__main__"})


class Parsed(BaseException):
    """Stops a program once it has parsed its command line."""


def stop(*_, **__):
    raise Parsed


def parse_python(words: list[str], monkeypatch) -> None:
    """Let a script or module of the repository parse its command line and stop; the current folder is empty."""
    script, arguments = words[0], words[1:]
    if script == "-m" and arguments[0] in ("jaxcec.train", "jaxcec.eval"):
        script, arguments = f"{arguments[0].removeprefix('jaxcec.')}.py", arguments[1:]
    if script in ("-m", "-X"):
        return
    assert (ROOT / script).is_file()
    if script in ("train.py", "eval.py"):
        main = MAINS[script.removesuffix(".py")]
        for name in (word for word in arguments if word.endswith(".yaml")):  # stands in for a run of the reader
            Path(name).parent.mkdir(parents=True)
            shutil.copy(ROOT / "configs" / "smoke.yaml", name)
        monkeypatch.setattr(main, "use_compilation_cache", stop)
        with pytest.raises(SystemExit if "--help" in arguments else Parsed) as left:
            main.main(arguments)
        assert "--help" not in arguments or left.value.code == 0
    elif script.startswith("benchmarks/"):
        parse = argparse.ArgumentParser.parse_args
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda self, *a: stop(parse(self, *a)))
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
        if "reference" in script:
            pytest.importorskip("numba")
        if "mutation" in script:
            pytest.importorskip("cosmic_ray")
        with pytest.raises(Parsed):
            importlib.import_module(Path(script).stem).main()


@pytest.mark.parametrize("command", commands())
def test_commands_accept_their_flags(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
    if words[0] == "python":
        parse_python(words[1:], monkeypatch)
    elif words[0] == "jaxcec-live":
        pytest.importorskip("pydantic")
        importlib.import_module("jaxcec.commands.live").parse_live(words[1:])
    elif words[0].startswith("jaxcec-"):
        parse_python([f"{words[0].removeprefix('jaxcec-')}.py", *words[1:]], monkeypatch)
    else:
        assert words[0] in PROGRAMS
        missing = [word for word in words if word.startswith("tests/") and not list(ROOT.glob(word))]
        assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if any(sign in c.values[0] for sign in CHEAP)])
def test_cheap_commands_run(command, tmp_path):
    words = shlex.split(command)
    assert words[0] == "python"
    script = [str(ROOT / words[1])] if words[1].endswith(".py") else words[1:2]
    done = subprocess.run([sys.executable, *script, *words[2:]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
