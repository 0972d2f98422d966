"""Sums and maxima over a long last axis.

XLA's CPU compiler makes a tree of a reduction of more than 32 terms and writes the terms to memory, where they are
often the largest array of a step. In blocks of 32 they stay in registers. On other platforms it is one reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import chex
import jax
import jax.numpy as jnp

_LONGEST = 32  # terms in one reduction


def total(x: chex.Array) -> chex.Array:
    """The sum over the last axis."""
    return _reduced(jnp.sum, jnp.add, x)


def largest(x: chex.Array) -> chex.Array:
    """The maximum over the last axis."""
    return _reduced(jnp.max, jnp.maximum, x)


def _reduced(reduction: Callable[..., chex.Array], combine: Callable[..., chex.Array], x: chex.Array) -> chex.Array:
    over_last = partial(reduction, axis=-1)

    def in_blocks(x: chex.Array) -> chex.Array:
        blocks = (x[..., at : at + _LONGEST] for at in range(0, x.shape[-1], _LONGEST))
        return reduce(combine, map(over_last, blocks))

    return jax.lax.platform_dependent(x, cpu=in_blocks, default=over_last)


@jax.custom_batching.custom_vmap
def largest_in_batch(x: chex.Array) -> chex.Array:
    """The () number; where the call is vmapped, the largest in the whole batch, one number for all of it.

    So a loop may end when it has nothing to do any more in any environment.
    """
    return x


@largest_in_batch.def_vmap
def _vmapped(size: int, batched: list[bool], x: chex.Array) -> tuple[chex.Array, bool]:
    return largest_in_batch(jnp.max(x)), False
