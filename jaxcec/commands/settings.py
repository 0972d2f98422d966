"""Settings of a run: dataclasses, YAML files and flags are the same thing.

Precedence: flag, then the file given by --config, then the dataclass's default.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import reprlib
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from jaxcec.agents.config import AgentConfig
from jaxcec.files import write_aside
from jaxcec.scenarios import Scenario

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "configs", _PACKAGE.parent / "configs")  # as installed; beside the package, as in the repository
CONFIGS = next(folder for folder in _PLACES if folder.is_dir())
T = TypeVar("T")
_SHOWN = reprlib.Repr()  # of a value in a message: its beginning, however large or nested it is
_SHOWN.maxlevel = 3
_LARGEST = 2**53  # of an integer setting: every one up to it is a float as well


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training run."""

    scenario: Scenario = dataclasses.field(default_factory=lambda: Scenario(dataset="both", reward="expected-act"))
    agent: AgentConfig = dataclasses.field(default_factory=AgentConfig)
    num_envs: int = 4096  # environments side by side
    total_decisions: int = 1_600_000  # over all environments, rounded up to whole compiled chunks
    seed: int = 0  # of networks, exploration and episodes; the banks have `scenario.seed`

    def __post_init__(self) -> None:
        for name in ("num_envs", "total_decisions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}; must be at least 0")


class _Loader(yaml.SafeLoader):
    """Plain values alone, and no key twice, of which PyYAML would take the last."""

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
        return from_mapping(TrainConfig, {} if content is None else content, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_config(config: TrainConfig, path: Path) -> None:
    """Write every setting as YAML that `load_config` reads back."""
    write_aside(path, yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False))


def save_scenario(scenario: Scenario, path: Path) -> None:
    """Write the settings of a scenario alone, as `load_config` reads them."""
    write_aside(path, yaml.safe_dump({"scenario": plain(dataclasses.asdict(scenario))}, sort_keys=False))


def from_mapping(cls: type[T], content: Any, where: str) -> T:
    """A dataclass from nested mappings; keys must be fields, values of the fields' types."""
    if not isinstance(content, dict):
        raise ValueError(f"{where or 'the file'}: got {_SHOWN.repr(content)}; must be a mapping of settings")
    types = typing.get_type_hints(cls)
    values = {}
    for key, value in content.items():
        if key not in types:
            near = difflib.get_close_matches(str(key), types, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known keys are {', '.join(types)}"
            raise ValueError(f"{where}{key}: unknown key{hint}")
        kind = types[key]
        if dataclasses.is_dataclass(kind):
            values[key] = from_mapping(kind, value, f"{where}{key}.")  # type: ignore[arg-type]
        else:
            values[key] = _convert(f"{where}{key}", value, kind)
    return cls(**values)


def _convert(where: str, value: Any, kind: Any) -> Any:
    """A YAML value as a field's type; nothing is converted silently but an integer to a float."""
    if typing.get_origin(kind) is typing.Literal:
        kind = str  # which of them, the dataclass checks
    if kind == str | None:
        if value is None or isinstance(value, str):
            return value
    elif typing.get_origin(kind) is tuple:
        items, inner = typing.get_args(kind), value
        if isinstance(inner, list) and (items[-1] is Ellipsis or len(items) == len(inner)):
            return tuple(_convert(f"{where}[{i}]", item, items[0]) for i, item in enumerate(inner))
    elif isinstance(value, bool):
        if kind is bool:
            return value
    elif isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{where}: got {_SHOWN.repr(value)}; must be from {-_LARGEST} to {_LARGEST}")
    elif kind is float and isinstance(value, int | float):
        return float(value)
    elif isinstance(value, kind):
        return value
    name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    raise ValueError(f"{where}: got {_SHOWN.repr(value)}; must be of type {name}")


def plain(value: Any) -> Any:
    """What YAML can say: it has lists, no tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def parse(cls: type[T], arguments: Sequence[str] | None, description: str, base: Callable[[str], T]) -> T:
    """Command line to dataclass, with the file named by --config as the defaults that flags override.

    Args:
        cls: what to parse; has a field `config`.
        arguments: the command line, by default the process's.
        description: shown by --help.
        base: from the value of --config to the defaults.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", default="default")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    known, _ = first.parse_known_args(arguments)
    return tyro.cli(cls, args=arguments, default=base(known.config), description=description)


def guarded(main: Callable[[], None]) -> None:
    """Run a command; what the user got wrong is one line on stderr and exit code 2."""
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
