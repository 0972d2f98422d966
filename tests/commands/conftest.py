"""Training uses optax, whose Adam raises floats to integer powers: strict promotion is for the simulator's tests."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield
