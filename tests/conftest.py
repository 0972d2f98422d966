"""Strict arrays in every test, on two virtual CPU devices; on others by `JAX_PLATFORMS=cuda pytest tests/env`."""

import os

import jax
import pytest

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")  # GPUs would round factors to TF32
jax.devices()  # made now: a command under test, run first, would make only those it is asked for


@pytest.fixture(scope="module", autouse=True)
def forget_compiled():
    """Drop a module's compiled programs: hundreds of them in one process exhaust its memory maps, and XLA crashes."""
    yield
    jax.clear_caches()
