"""Strict arrays in every test, on two virtual CPU devices."""

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.devices()  # made now: a command under test, run first, would make only those it is asked for


@pytest.fixture(scope="module", autouse=True)
def forget_compiled():
    """Drop a module's compiled programs: hundreds of them in one process exhaust its memory maps, and XLA crashes."""
    yield
    jax.clear_caches()
