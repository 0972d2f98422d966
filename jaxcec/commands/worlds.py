"""What a command plays: the environment of a scenario with its sources, or that of a function of the user."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcec.commands.console import console
from jaxcec.env import CECEnv, EnvParams, Names, check_params
from jaxcec.scenarios import Scenario, Sources, make_env, read_sources

_SHOWN = 20  # most remarks about sources that are shown


class Opened(NamedTuple):
    """What a command plays."""

    env: CECEnv
    params: EnvParams  # its banks of a split
    names: Names = Names()  # what files call the nodes and tasks
    remarks: tuple[str, ...] = ()  # about the sources


def open_world(scenario: Scenario, split: str, world: str | None) -> Opened:
    """The environment that a command plays; remarks about its sources are also printed.

    Args:
        scenario: the settings; not used with `world`.
        split: `train` or `test`.
        world: a function of the user, MODULE:FUNCTION: see `own_world`; or None.

    Raises:
        ImportError: a package is missing that reads the files.
        ValueError: see `make_env`, or the function does not exist or returns something else.
    """
    if world is not None:
        return own_world(world, split)
    sources = report_sources(scenario)
    env, params = make_env(scenario, split, sources)
    return Opened(env, params, sources.names(split), (*map(_shared, sources.shared), *sources.notes))


def report_sources(scenario: Scenario) -> Sources:
    """Read the sources of a scenario, and print what was taken from them, dropped and scaled."""
    sources = read_sources(scenario)
    if sources.report is not None:
        console.print(str(sources.report), markup=False, highlight=False)
    elif scenario.dataset == "alibaba" and sources.jobs is not None:
        console.print(f"Alibaba cluster trace v2018, one hour of arrivals: {len(sources.jobs):,} DAG jobs")
    for remark in shortened([*map(_shared, sources.shared), *sources.notes]):
        console.print(remark, markup=False, highlight=False)
    return sources


def shortened(remarks: Sequence[str]) -> list[str]:
    """The first remarks, and how many others there are."""
    rest = len(remarks) - _SHOWN
    more = [f"and {rest} more remarks; results.json of an evaluation has them all"] if rest > 0 else []
    return [*remarks[:_SHOWN], *more]


def title_of(scenario: Scenario, world: str | None) -> str:
    """What a command plays, in the titles of tables, figures and pages."""
    network = "" if scenario.network == "generated" else f" on {scenario.network}"
    return world or f"{scenario.dataset}{network}, {scenario.name}"


def _shared(name: str) -> str:
    return f"training and test have the same {name}: there are fewer than five"


def own_world(name: str, split: str) -> Opened:
    """Call a function of the user, MODULE:FUNCTION, with a split.

    It returns an environment and its params, and may add `Names`.

    Raises:
        ValueError: the function does not exist, returns something else, or see `env.check_params` and `Names.check`.
    """
    made = import_own("--world", name)(split)
    kinds = (CECEnv, EnvParams, Names)
    if not (isinstance(made, tuple) and len(made) in (2, 3) and all(map(isinstance, made, kinds))):
        got = f"({', '.join(type(part).__name__ for part in made)})" if isinstance(made, tuple) else type(made).__name__
        raise ValueError(
            f"--world: got {name}, which returns {got}; must return (CECEnv, EnvParams) or (CECEnv, EnvParams, Names)"
        )
    env, params, names = (*made, Names())[: len(kinds)]
    check_params(env.config, params)
    names.check(np.asarray(params.dags.size))
    return Opened(env, params, names, remarks=(f"the world is {name}",))


def import_own(flag: str, name: str) -> Callable[..., Any]:
    """Import what a flag names as MODULE:FUNCTION; the module may be in the current folder.

    Raises:
        ValueError: the module or the function does not exist.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{flag}: got {name!r}; must be MODULE:FUNCTION, but {error}") from None


def in_file_name(source: str) -> str:
    """A source, such as a glob of workflows, as a part of the name of a folder."""
    return re.sub(r"[^\w.]+", "-", source).strip("-.") or "files"
