"""Blocks of a batch in turn: the same numbers as at once, whatever of it is batched, on one device and on two."""

import jax
import numpy as np
import pytest

from jaxcec.policies.blocks import in_blocks, number_of_blocks

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="on other platforms there is one block")

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


@pytest.mark.parametrize(
    ("devices", "sizes"),
    [
        (1, {1: 1, 8: 1, 32: 1, 33: 3, 34: 2, 64: 2, 67: 1, 100: 4, 134: 1, 192: 6, 4096: 128}),
        (2, {16: 1, 32: 1, 64: 1, 100: 2, 102: 3, 128: 2, 192: 3, 4096: 64}),
    ],
)
def test_a_batch_has_blocks_of_8_to_32_on_each_device_where_it_can(monkeypatch, devices, sizes):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    assert {size: number_of_blocks(size) for size in sizes} == sizes


def test_the_blocks_are_computed_in_turn(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    text = str(jax.make_jaxpr(jax.vmap(noisy))(*arguments()))
    assert "scan[" in text and "length=6" in text and f"f32[{SIZE // 6},3]" in text
    assert "scan[" not in str(jax.make_jaxpr(jax.vmap(noisy))(*arguments(67)))


@pytest.mark.parametrize("size", [100, 102, 192])
def test_on_two_devices_each_computes_its_rows_of_every_block(monkeypatch, size):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert number_of_blocks(size) > 1
    mesh = jax.make_mesh((2,), ("env",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("env"))
    scale, x, key = arguments(size)
    compiled = jax.jit(jax.vmap(noisy), out_shardings=rows).lower(*jax.device_put((scale, x, key), rows)).compile()
    exchanges = "all-gather", "all-to-all", "all-reduce", "collective-permute"
    assert not any(exchange in compiled.as_text() for exchange in exchanges)
    found, alone = compiled(*jax.device_put((scale, x, key), rows)), jax.vmap(noisy)(scale, x, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, alone)
