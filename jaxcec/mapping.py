"""Dataclasses from nested mappings, as YAML and JSON files hold them."""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_SHOWN = reprlib.Repr()  # of a value in a message: its beginning, however large or nested it is
_SHOWN.maxlevel = 3
_LARGEST = 2**53  # of an integer setting: every integer up to it is a float as well


def from_mapping(cls: type[T], content: Any, where: str = "") -> T:
    """A dataclass, whose fields may be dataclasses, from nested mappings; fields without a key keep their defaults.

    Messages name a field with the prefix `where`, such as `agent.`.

    Raises:
        ValueError: a key is not a field, or a value is not of the field's type or not allowed.
    """
    if not isinstance(content, dict):
        raise ValueError(
            f"{where.rstrip('.') or 'the file'}: got {_SHOWN.repr(content)}; must be a mapping of settings"
        )
    types = typing.get_type_hints(cls)
    values = {}
    for key, value in content.items():
        if key not in types:
            near = difflib.get_close_matches(str(key), list(_paths(cls)), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys are {', '.join(types)}"
            raise ValueError(f"{where}{key}: unknown key; {hint}")
        values[key] = _convert(f"{where}{key}", value, types[key])
    return cls(**values)


def _paths(cls: Any) -> Iterator[str]:
    """Names of all fields, those of nested dataclasses with a dot."""
    for name, kind in typing.get_type_hints(cls).items():
        yield name
        if dataclasses.is_dataclass(kind):
            yield from (f"{name}.{path}" for path in _paths(kind))


def _convert(where: str, value: Any, kind: Any) -> Any:
    """A value as a field's type. Of plain values, only an integer becomes a float and a list a tuple."""
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, f"{where}.")  # type: ignore[arg-type]
    if typing.get_origin(kind) is typing.Literal:
        kind = str  # the dataclass checks that it is one of them
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
