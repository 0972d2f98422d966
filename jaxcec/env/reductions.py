"""Sums and maxima over a long last axis, in blocks.

XLA's CPU compiler makes a tree of a reduction of more than 32 terms and writes the terms to memory, where they are
often the largest array of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import chex
import jax.numpy as jnp

_LONGEST = 32  # terms in one reduction


def total(x: chex.Array) -> chex.Array:
    """The sum over the last axis."""
    return _in_blocks(jnp.sum, jnp.add, x)


def largest(x: chex.Array) -> chex.Array:
    """The maximum over the last axis."""
    return _in_blocks(jnp.max, jnp.maximum, x)


def _in_blocks(reduction: Callable[..., chex.Array], combine: Callable[..., chex.Array], x: chex.Array) -> chex.Array:
    blocks = (x[..., at : at + _LONGEST] for at in range(0, x.shape[-1], _LONGEST))
    return reduce(combine, [reduction(block, axis=-1) for block in blocks])
