"""Blocks of environments in turn, for simulations that read and write the same arrays at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

_MOST = 32  # environments in a block: what they simulate stays in a processor's cache
_LEAST = 8  # in smaller blocks each operation has too little to do
Result = TypeVar("Result")


def in_blocks(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function of arrays. On a CPU, a call that is vmapped computes blocks of the batch in turn.

    The result is that of `jax.vmap` alone; what the function reads from around it may be batched too.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    structure = jax.tree.structure(shapes)

    @jax.custom_batching.custom_vmap
    def call(captured: Any, arguments: Any) -> Result:
        results = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, captured))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(structure, results)

    @call.def_vmap
    def vmapped(size: int, batched: Any, *given: Any) -> tuple[Result, Any]:
        axes = tuple(jax.tree.map(lambda is_batched: 0 if is_batched else None, batched))
        count = number_of_blocks(size)
        at_once = jax.vmap(call.fun, in_axes=axes, axis_size=size // count)
        result = at_once(*given) if count == 1 else _one_by_one(at_once, given, axes, size=size)
        return result, jax.tree.map(lambda _: True, result)

    return call(closed.consts, arguments)


def number_of_blocks(size: int) -> int:
    """In how many blocks a batch is computed; 1 where it has no suitable divisor, and on other platforms."""
    if jax.default_backend() != "cpu":
        return 1
    return next((size // block for block in range(_MOST, _LEAST - 1, -1) if size % block == 0), 1)


def _one_by_one(at_once: Callable[..., Result], given: Any, axes: Any, *, size: int) -> Result:
    """The results of blocks, (size, ...) each. Block i has every number_of_blocks-th row from the i-th on.

    So each device, if the rows are divided among several, has as many rows of each block.
    """
    count = number_of_blocks(size)

    def of_block(index: jax.Array) -> Result:
        def rows(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_index_in_dim(x.reshape(-1, count, *x.shape[1:]), index, axis=1, keepdims=False)

        is_none = {"is_leaf": lambda axis: axis is None}
        return at_once(*jax.tree.map(lambda axis, x: x if axis is None else rows(x), axes, given, **is_none))

    results = jax.lax.map(of_block, jnp.arange(count))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(size, *x.shape[2:]), results)
