"""Checks of settings: an error names the field, its value, and what is allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

_LARGEST = 1e30  # of a float, in size: float32 ends soon after


def check_numbers(
    settings: Any,
    prefix: str,
    *,
    least: Mapping[str, float] = MappingProxyType({}),
    positive: Collection[str] = (),
    share: Collection[str] = (),
) -> None:
    """Check the plain numbers among the fields of a dataclass; arrays and traced values are not checked.

    `least` has the least value of some fields, those in `positive` must be above 0, and those in `share` from 0 to 1.
    Messages name a field with the prefix, such as `agent.`, or as the option that it is if the prefix is `--`.

    Raises:
        ValueError: a number is out of its range, or a float is not finite.
    """
    for field in dataclasses.fields(settings):
        name, value = field.name, getattr(settings, field.name)
        if not isinstance(value, int | float):
            continue
        if isinstance(value, float) and not abs(value) <= _LARGEST:
            allowed = "finite and at most 1e30 in size"
        elif name in least and value < least[name]:
            allowed = f"at least {least[name]}"
        elif name in positive and value <= 0:
            allowed = "positive"
        elif name in share and not 0 <= value <= 1:
            allowed = "from 0 to 1"
        else:
            continue
        shown = name.replace("_", "-") if prefix == "--" else name
        raise ValueError(f"{prefix}{shown}: got {value}; must be {allowed}")
