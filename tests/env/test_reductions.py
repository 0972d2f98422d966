"""The largest number of a batch, as the length of a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcec.env.reductions import largest_in_batch

NUMBERS = jnp.arange(12, dtype=jnp.int32).reshape(3, 4)


def counted(x):
    """How often a loop runs that is as long as the largest number of the batch, and the number itself."""
    times = jax.lax.fori_loop(0, largest_in_batch(x), lambda _, count: count + 1, jnp.int32(0))
    return times, x


@pytest.mark.parametrize("compiled", [jax.jit, lambda function: function], ids=["compiled", "eager"])
def test_it_is_one_number_for_every_level_of_a_batch(compiled):
    assert compiled(counted)(jnp.int32(5)) == (5, 5)
    for function in (jax.vmap(jax.vmap(counted)), jax.vmap(jax.vmap(counted), in_axes=1)):
        times, x = compiled(function)(NUMBERS)
        assert (np.asarray(times) == 11).all() and sorted(np.ravel(x)) == list(range(12))
    times, _ = compiled(jax.vmap(lambda x, unused: counted(x), in_axes=(None, 0)))(jnp.int32(7), NUMBERS)
    assert (np.asarray(times) == 7).all()


def test_the_loop_is_not_batched():
    """A loop whose length differs within a batch would compute and select in every iteration."""
    loop = str(jax.make_jaxpr(jax.vmap(counted))(NUMBERS[0]))
    assert "while" in loop and "reduce_max" in loop and "select_n" not in loop
