"""Operations with one form on a CPU and another on accelerators: both give the same, each where it belongs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcec.env.indexing import put, put_by_selection, put_one, rolled, rolled_by_padding


@pytest.mark.parametrize("by", [1, 2, 5])
def test_both_forms_of_a_roll_are_the_same(by):
    columns = jnp.arange(7, dtype=jnp.int16)
    np.testing.assert_array_equal(rolled_by_padding(columns, by), jnp.roll(columns, by))
    np.testing.assert_array_equal(rolled(columns, -by), jnp.roll(columns, -by))
    np.testing.assert_array_equal(rolled_by_padding(columns, -by % columns.size), jnp.roll(columns, -by))


@pytest.mark.parametrize("value", [True, 3.5, jnp.inf])
def test_both_forms_of_writing_one_entry_are_the_same(value):
    table = jnp.arange(5) % 2 > 0 if value is True else jnp.linspace(0.0, 1.0, 5)
    for index in map(jnp.int32, range(5)):
        after = [write(table, index, jnp.asarray(value, table.dtype)) for write in (put, put_one, put_by_selection)]
        after.append(jax.vmap(put_one)(table[None], index[None], jnp.asarray([value], table.dtype))[0])
        for other in after[1:]:
            np.testing.assert_array_equal(after[0], other)
        assert after[0][index] == value


def test_accelerators_get_neither_rolls_nor_scatters():
    def both(table, index):
        return rolled(put_one(table, index, jnp.int16(1)), 1)

    traced = jax.jit(both).trace(jnp.zeros(6, jnp.int16), jnp.int32(2))
    on_cpu, on_gpu = (traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda"))
    assert "scatter" in on_cpu and "pad" not in on_cpu
    assert "stablehlo.pad" in on_gpu and "scatter" not in on_gpu and "stablehlo.slice" not in on_gpu
