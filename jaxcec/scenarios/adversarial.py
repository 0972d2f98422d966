"""Instances on which one policy performs badly compared with another, found by `benchmarks/adversarial.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxcec.env import CECEnv, EnvConfig, EnvParams, build_instance
from jaxcec.scenarios.seeds import check_choice

Pair = Literal["dtdrlmo-eft", "dtdrlmo-local", "eft-local"]  # bad policy - its comparison
PAIRS: tuple[str, ...] = get_args(Pair)
ADVERSARIAL_FILE = Path(__file__).parent / "data" / "adversarial.json"
# Two breakpoints for each of the 40 microservices, so that none are ever merged.
ADVERSARIAL_CONFIG = EnvConfig(
    num_nodes=4, max_links=6, num_services=5, max_microservices=8, link_breakpoints=82, host_breakpoints=82
)


def adversarial_instances(pair: str) -> tuple[CECEnv, EnvParams]:
    """Return ten instances on which one policy performs badly compared with another, the worst first when found.

    Args:
        pair: one of `PAIRS`; for example, an earlier dtdrlmo performed worst compared with EFT on those of
            `dtdrlmo-eft`.

    Returns:
        The environment, and the params of all instances, in which every leaf has one more leading axis to vmap over or
        to index. Every reset with the params of one instance gives that instance.

    Raises:
        ValueError: an unknown pair.
    """
    rows = [build_instance(**record["instance"], config=ADVERSARIAL_CONFIG)[1] for record in adversarial_records(pair)]
    return CECEnv(ADVERSARIAL_CONFIG), jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def adversarial_records(pair: str) -> list[dict[str, Any]]:
    """Return the stored records of the instances of a pair, one of `PAIRS`, the worst first when found.

    Returns:
        Records with the keys `instance`, the arguments of `build_instance`, and `acts`, the average completion times of
        both policies in s.

    Raises:
        ValueError: an unknown pair.
    """
    check_choice("pair", pair, PAIRS)
    return json.loads(ADVERSARIAL_FILE.read_text())[pair]
