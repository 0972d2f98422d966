"""Reading, writing and rolling tables, at indices that are never negative.

In `table[index]` JAX makes every index from the end positive, with three operations. They were a quarter of the
operations of a step, and a sixth of the time to trace and compile it.

Two operations have another form on accelerators, where XLA fuses selections and paddings with their neighbours, and
launches a kernel of its own for each scatter and roll.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def take(table: chex.Array, *index: chex.Array | slice | int) -> chex.Array:
    """`table[index]`, with an index for each of the first axes, none of them negative."""
    return table.at[index].get(wrap_negative_indices=False)


def put(table: chex.Array, index: chex.Array, value: chex.Array) -> chex.Array:
    """The table with a value at each index of its first axis, none of them negative."""
    return table.at[index].set(value, wrap_negative_indices=False)


def put_one(table: chex.Array, index: chex.Array, value: chex.Array) -> chex.Array:
    """A short table, (M,), with a () value at () index, not negative."""
    return jax.lax.platform_dependent(table, index, value, cpu=put, default=put_by_selection)


def put_by_selection(table: chex.Array, index: chex.Array, value: chex.Array) -> chex.Array:
    """`put_one` in the form for accelerators."""
    return jnp.where(jnp.arange(table.size, dtype=index.dtype) == index, value, table)


def rolled(x: chex.Array, by: int) -> chex.Array:
    """`jnp.roll` of (Q,) integers by fewer than Q columns."""
    return jax.lax.platform_dependent(
        x, cpu=lambda x: jnp.roll(x, by), default=lambda x: rolled_by_padding(x, by % x.size)
    )


def rolled_by_padding(x: chex.Array, by: int) -> chex.Array:
    """`rolled` by 0 to Q columns to the right, in the form for accelerators."""
    zero, rest = jnp.zeros((), x.dtype), x.size - by
    return jax.lax.pad(x, zero, [(by, -by, 0)]) + jax.lax.pad(x, zero, [(-rest, rest, 0)])
