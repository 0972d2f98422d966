"""Instances on which one policy does badly beside another, found by search (`benchmarks/adversarial.py`)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxcec.env import CECEnv, EnvConfig, EnvParams, build_instance
from jaxcec.scenarios.seeds import check_choice

Pair = Literal["dtdrlmo-eft", "dtdrlmo-local", "eft-local"]  # who does badly, beside whom
PAIRS: tuple[str, ...] = get_args(Pair)
ADVERSARIAL_FILE = Path(__file__).parent / "data" / "adversarial.json"
# Breakpoints for two of every microservice: nothing is merged.
ADVERSARIAL_CONFIG = EnvConfig(
    num_nodes=4, max_links=6, num_services=5, max_microservices=8, link_breakpoints=82, host_breakpoints=82
)


def adversarial(pair: str) -> tuple[CECEnv, EnvParams]:
    """The ten worst instances of a pair of policies, the worst first.

    Args:
        pair: one of `PAIRS`: `dtdrlmo-eft` are those on which dtdrlmo is worst beside EFT.

    Returns:
        The environment, and the params of all instances: every leaf has one axis more than usual, to be vmapped over or
        indexed. Each reset of one instance's params gives that instance.

    Raises:
        ValueError: an unknown pair.
    """
    rows = [build_instance(**found["instance"], config=ADVERSARIAL_CONFIG)[1] for found in adversarial_record(pair)]
    return CECEnv(ADVERSARIAL_CONFIG), jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def adversarial_record(pair: str) -> list[dict[str, Any]]:
    """What is stored of each instance of a pair: `instance` for `build_instance`, `acts` in s of both policies.

    Raises:
        ValueError: an unknown pair.
    """
    check_choice("pair", pair, PAIRS)
    return _stored()[pair]


@functools.cache
def _stored() -> dict[str, list[dict[str, Any]]]:
    return json.loads(ADVERSARIAL_FILE.read_text())
