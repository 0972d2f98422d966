"""The installed jax must not be one that computes wrong numbers."""

import jax
import jax.numpy as jnp
import numpy as np


def test_vmapped_product_and_sum_is_right():
    """On CPU jax 0.10.2 returns 1071645696 or so in the last row, jax-ml/jax#39103; 2**30 is right, and exact."""
    size = 32_769  # right up to 32768
    i = jnp.arange(size, dtype=jnp.float32)
    rows = jnp.stack((i, jnp.zeros_like(i), jnp.zeros_like(i)), axis=1)
    matrix = jnp.eye(3, dtype=jnp.float32)
    sums = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    assert sums[-1] == 2.0**30
    np.testing.assert_allclose(sums, np.arange(size, dtype=np.float64) ** 2, rtol=1e-6)
