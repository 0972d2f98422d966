"""Strict dtype and rank promotion in every test, on two virtual CPU devices.

`JAX_PLATFORMS=cuda pytest -n 0 tests/env` runs the tests on another device.
"""

import os

import jax
import pytest

from jaxcec.commands.runtime import use_compilation_cache

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")  # GPUs would otherwise round factors to TF32
# The workers share what they compile, and the next run finds it again.
use_compilation_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
# Create both devices now: a command under test that runs first would create only the devices it is asked for.
jax.devices()


@pytest.fixture(scope="module", autouse=True)
def forget_compiled():
    """Drop a module's compiled programs: hundreds of them exhaust the memory maps of a process, and XLA crashes."""
    yield
    jax.clear_caches()
