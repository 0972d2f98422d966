"""Blocks of environments in turn, for simulations that read and write the same arrays at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

_MOST = 32  # environments of a block on a device: what they simulate stays in its cache
_LEAST = 8  # in smaller blocks each operation has too little to do
Result = TypeVar("Result")


def in_blocks(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function of arrays. On a CPU, a call that is vmapped computes blocks of the batch in turn.

    The result is that of `jax.vmap` alone; what the function reads from around it may be batched too. Whether it is on
    a CPU is decided by JAX's default backend when it is traced. There is no reverse derivative without a vmap.
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
        result = at_once(*given) if count == 1 else _one_by_one(at_once, given, axes, count=count)
        return result, jax.tree.map(lambda _: True, result)

    return call(closed.consts, arguments)


def number_of_blocks(size: int) -> int:
    """In how many blocks a batch is computed: of 8 to 32 environments on each device, and otherwise in one.

    It is one where the batch cannot be divided so, such as a prime number, and on other platforms.
    """
    if jax.default_backend() != "cpu":
        return 1
    devices = jax.device_count()
    return next((size // each for each in _sizes(devices) if size % each == 0), 1)


def _sizes(devices: int) -> range:
    """Sizes of a block, the largest first, with as many environments on each device."""
    return range(_MOST * devices, _LEAST * devices - 1, -devices)


def _one_by_one(at_once: Callable[..., Result], given: Any, axes: Any, *, count: int) -> Result:
    """The results of so many blocks, one row for each of the batch. Block i has every count-th row from the i-th on.

    So each device, if the rows are divided among all, has as many rows of each block.
    """

    def of_block(index: jax.Array) -> Result:
        def rows(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_index_in_dim(x.reshape(-1, count, *x.shape[1:]), index, axis=1, keepdims=False)

        is_none = {"is_leaf": lambda axis: axis is None}
        return at_once(*jax.tree.map(lambda axis, x: x if axis is None else rows(x), axes, given, **is_none))

    results = jax.lax.map(of_block, jnp.arange(count))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), results)
