"""What tests of learning share."""

import jax
import pytest


@pytest.fixture
def lax_promotion():
    """optax's Adam mixes integers and floats, which is an error with strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield
