"""A small environment that is cut short in some episodes, and JAX as other libraries expect it."""

import jax
import jax.numpy as jnp
import pytest
from helpers.episodes import SMALL

from jaxcec.adapters import ContinuousView, DiscreteView
from jaxcec.scenarios import make_env

LIMIT = 12  # steps: some of SMALL's episodes are longer, some shorter


@pytest.fixture(scope="session")
def small():
    """The environment of SMALL, its banks cut to LIMIT steps an episode."""
    env, params = make_env(SMALL, "train")
    params = params.replace(max_steps_in_episode=jnp.int32(LIMIT))
    return type(env)(env.config, params)


@pytest.fixture(scope="session", params=[DiscreteView, ContinuousView])
def view(small, request):
    return request.param(small)


@pytest.fixture
def lenient():
    """Other libraries mix dtypes and ranks, as JAX allows by default."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
