"""Settings of a run, as dataclasses, YAML files and flags.

Precedence: a flag, then the file given by --config, then the dataclass's default.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from jaxcec.agents import AgentConfig, learner_for
from jaxcec.checks import check_numbers
from jaxcec.files import write_aside
from jaxcec.mapping import from_mapping
from jaxcec.scenarios import Scenario

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "configs", _PACKAGE.parent / "configs")  # as installed; next to the package, as in the repository
CONFIGS = next(folder for folder in _PLACES if folder.is_dir())
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training run."""

    scenario: Scenario = dataclasses.field(default_factory=lambda: Scenario(dataset="both", reward="expected-act"))
    agent: AgentConfig = dataclasses.field(default_factory=AgentConfig)
    # Your own environment in place of the scenario: MODULE:FUNCTION, from a split (train, test) to (env, params).
    world: str | None = None
    varied_networks: bool = True  # whether training draws `varied` networks where the scenario has generated ones
    num_envs: int = 4096  # environments that are stepped together
    total_decisions: int = 400_000  # over all environments, rounded up to whole compiled chunks
    seed: int = 0  # of networks, exploration and episodes; `scenario.seed` is that of the banks

    def __post_init__(self) -> None:
        check_numbers(self, "", least={"num_envs": 1, "total_decisions": 1, "seed": 0})
        learner_for(self.agent)  # checks that the settings suit the algorithm

    @property
    def trained_on(self) -> Scenario:
        """The scenario of the training banks."""
        varied = self.varied_networks and self.scenario.network == "generated"
        return dataclasses.replace(self.scenario, network="varied") if varied else self.scenario


class _Loader(yaml.SafeLoader):
    """Plain values only; a repeated key is an error, where PyYAML would take the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.YAMLError(f"key {key.value!r} given twice, {str(key.start_mark).strip()}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_config(name_or_path: str) -> TrainConfig:
    """Read `configs/NAME.yaml` or the file at a path.

    Raises:
        ValueError: no such file, not YAML, an unknown key, or a bad value; the message names file and key.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = CONFIGS / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise ValueError(f"--config: got {name_or_path!r}; must be a YAML file or one of {known}")
    try:
        content = yaml.load(path.read_bytes(), _Loader)
    except Exception as error:  # PyYAML raises whatever Python does for a bad date, a bad number or deep nesting
        raise ValueError(f"{path}: not valid YAML: {type(error).__name__}: {error}") from None
    try:
        return from_mapping(TrainConfig, {} if content is None else content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_config(config: TrainConfig | Scenario, path: Path) -> None:
    """Write every setting, or those of the scenario alone, in the form that `load_config` reads."""
    settings = dataclasses.asdict(config)
    nested = {"scenario": settings} if isinstance(config, Scenario) else settings
    without_tuples = json.loads(json.dumps(nested))  # YAML does not have any
    write_aside(path, yaml.safe_dump(without_tuples, sort_keys=False))


def parse(cls: type[T], arguments: Sequence[str] | None, description: str, base: Callable[[str], T]) -> T:
    """Parse a command line, by default the process's; flags override the defaults to which `base` maps --config."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", default="default")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    known, _ = first.parse_known_args(arguments)
    return tyro.cli(cls, args=arguments, default=base(known.config), description=description)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """A context, also a decorator, in which an error of the user's is one line on stderr and exit code 2."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
