"""A small environment whose time limit truncates some episodes, and JAX settings that other libraries require."""

import jax
import jax.numpy as jnp
import pytest
from helpers.episodes import SMALL

from jaxcec.adapters import ContinuousView, DiscreteView
from jaxcec.scenarios import make_env

LIMIT = 12  # steps; some of SMALL's episodes are longer, some shorter


@pytest.fixture(scope="session")
def small():
    """The environment of SMALL with a time limit of LIMIT steps."""
    env, params = make_env(SMALL, "train")
    params = params.replace(max_steps_in_episode=jnp.int32(LIMIT))
    return type(env)(env.config, params)


@pytest.fixture(scope="session", params=[DiscreteView, ContinuousView])
def view(small, request):
    return request.param(small)


@pytest.fixture
def lenient():
    """Implicit dtype and rank promotion, which other libraries rely on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
