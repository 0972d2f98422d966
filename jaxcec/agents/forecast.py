"""The part of the planning twin that has to be learned: the future load of other tenants on nodes and links.

The mechanism is known, and `policies.planning` simulates it; future load is not. A network maps the last frames of one
resource's load to the mean and the standard deviation of the next ones. It is fitted to observed traces.
"""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxcec.env import HISTORY, Background, World, with_forecast
from jaxcec.env.types import MOST_LOAD

FRAMES = 32  # predicted; a plan that goes on after the last frame reads the first one again
_HIDDEN = 32
_STEPS, _BATCH, _LEARNING_RATE = 2000, 1024, 3e-3
_LEAST_DEVIATION = 1e-2


class LoadForecast(nn.Module):
    """(..., HISTORY) loads up to now to the mean and standard deviation of the next (..., FRAMES)."""

    @nn.compact
    def __call__(self, history: chex.Array) -> tuple[chex.Array, chex.Array]:
        hidden = nn.relu(nn.Dense(_HIDDEN)(nn.relu(nn.Dense(_HIDDEN)(history))))
        change, spread = jnp.split(nn.Dense(2 * FRAMES, kernel_init=nn.initializers.zeros)(hidden), 2, axis=-1)
        return history[..., -1:] + change, nn.softplus(spread - 2.0) + _LEAST_DEVIATION


def init_forecast(key: chex.PRNGKey) -> chex.ArrayTree:
    """Parameters that predict no change."""
    return LoadForecast().init(key, jnp.zeros(HISTORY))


@jax.jit
def fit_forecast(key: chex.PRNGKey, background: Background) -> chex.ArrayTree:
    """Fit to windows drawn from a bank of traces, by the likelihood of each frame under a Gaussian.

    No window crosses the end of a trace. If the traces are shorter than a window (such as the single frame of a
    scenario without load), the parameters stay those of `init_forecast`.
    """
    key_init, key_fit = jax.random.split(key)
    params = init_forecast(key_init)
    traces, length = background.load.shape
    window = HISTORY + FRAMES
    if length <= window:
        return params
    optimiser = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, _STEPS))

    def step(carry: tuple[chex.ArrayTree, optax.OptState], key: chex.PRNGKey) -> tuple[tuple, None]:
        params, state = carry
        key_trace, key_frame = jax.random.split(key)
        trace = jax.random.randint(key_trace, (_BATCH,), 0, traces)
        first = jax.random.randint(key_frame, (_BATCH,), 0, length - window)
        windows = background.load[trace[:, None], first[:, None] + jnp.arange(window)[None]]
        grads = jax.grad(_loss)(params, windows)
        updates, state = optimiser.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    start = params, optimiser.init(params)
    return jax.lax.scan(step, start, jax.random.split(key_fit, _STEPS))[0][0]


def _loss(params: chex.ArrayTree, windows: chex.Array) -> chex.Array:
    """Minus the log likelihood of (B, HISTORY + FRAMES) windows."""
    mean, deviation = LoadForecast().apply(params, windows[:, :HISTORY])
    return jnp.mean(jnp.log(deviation) + 0.5 * jnp.square((windows[:, HISTORY:] - mean) / deviation))


def predict_load(params: chex.ArrayTree, world: World, key: chex.PRNGKey, *, sampled: bool) -> World:
    """The known world with a forecast of other tenants' load: the mean of `LoadForecast`, or a sample.

    In a sample, each resource is above or below its mean throughout.
    """
    mean, deviation = LoadForecast().apply(params, world.history)
    if sampled:
        mean = mean + deviation * jax.random.normal(key, (mean.shape[0], 1))
    load = jnp.clip(jnp.concatenate([world.history[:, -1:], mean], axis=1), 0.0, MOST_LOAD)
    return with_forecast(world, load)
