"""Blocks of a batch in turn: the same numbers as at once, whatever of it is batched, on one device and on two."""

import jax
import numpy as np
import pytest

from jaxcec.policies.blocks import in_blocks, number_of_blocks

SIZE = 192


def noisy(scale, x, key):
    """A function of a captured and of two given arrays."""
    return in_blocks(lambda x, key: {"sum": scale @ x + jax.random.normal(key), "shape": x * 2}, x, key)


def arguments(size=SIZE):
    scale, x = (jax.random.normal(jax.random.key(i), (size, 3)) for i in range(2))
    return scale, x, jax.random.split(jax.random.key(2), size)


@pytest.mark.parametrize("compiled", [jax.jit, lambda function: function], ids=["compiled", "eager"])
@pytest.mark.parametrize("axes", [(None, 0, 0), (0, 0, 0), (0, None, 0), (None, 0, None), (0, None, None)])
def test_the_result_is_that_of_vmap(axes, compiled):
    given = [x if axis == 0 else x[0] for x, axis in zip(arguments(), axes, strict=True)]
    found = compiled(jax.vmap(noisy, in_axes=axes))(*given)
    for i in range(SIZE):
        alone = noisy(*(x if axis is None else x[i] for x, axis in zip(given, axes, strict=True)))
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6), found, alone)


def test_a_batch_has_blocks_of_8_to_32_where_it_can():
    sizes = {1: 1, 8: 1, 32: 1, 33: 3, 34: 2, 64: 2, 67: 1, 100: 4, 134: 1, 192: 6, 4096: 128}
    assert {size: number_of_blocks(size) for size in sizes} == sizes


def test_the_blocks_are_computed_in_turn():
    text = str(jax.make_jaxpr(jax.vmap(noisy))(*arguments()))
    assert "scan[" in text and "length=6" in text and f"f32[{SIZE // 6},3]" in text
    assert "scan[" not in str(jax.make_jaxpr(jax.vmap(noisy))(*arguments(67)))


def test_on_two_devices_each_computes_its_rows_of_every_block():
    mesh = jax.make_mesh((2,), ("env",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("env"))
    scale, x, key = arguments()
    compiled = jax.jit(jax.vmap(noisy), out_shardings=rows).lower(*jax.device_put((scale, x, key), rows)).compile()
    assert "all-gather" not in compiled.as_text() and "all-to-all" not in compiled.as_text()
    found, alone = compiled(*jax.device_put((scale, x, key), rows)), jax.vmap(noisy)(scale, x, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, alone)
