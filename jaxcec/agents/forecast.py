"""The part of the digital twin that has to be learned: what other tenants will ask of each node and link.

The mechanism is known (`policies.planning` runs it); the load to come is not. A network sees the last frames of one
resource's load and foresees the next ones, each with its uncertainty. It is fitted to observed traces.
"""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxcec.env import HISTORY, Background, World, with_forecast

FRAMES = 32  # foreseen; longer than a plan looks ahead, for after the last the first is read again
_HIDDEN = 32
_STEPS, _BATCH, _LEARNING_RATE = 2000, 1024, 3e-3
_LARGEST = 0.9  # as in `Background`
_LEAST_DEVIATION = 1e-2


class LoadForecast(nn.Module):
    """(..., HISTORY) loads up to now to mean and standard deviation of the (..., FRAMES) that follow."""

    @nn.compact
    def __call__(self, history: chex.Array) -> tuple[chex.Array, chex.Array]:
        hidden = nn.relu(nn.Dense(_HIDDEN)(nn.relu(nn.Dense(_HIDDEN)(history))))
        change, spread = jnp.split(nn.Dense(2 * FRAMES, kernel_init=nn.initializers.zeros)(hidden), 2, axis=-1)
        return history[..., -1:] + change, nn.softplus(spread - 2.0) + _LEAST_DEVIATION


def init_forecast(key: chex.PRNGKey) -> chex.ArrayTree:
    """Parameters that foresee no change."""
    return LoadForecast().init(key, jnp.zeros(HISTORY))


@jax.jit
def fit_forecast(key: chex.PRNGKey, background: Background) -> chex.ArrayTree:
    """Fit to windows drawn from a bank of traces, by the likelihood of each frame under a Gaussian.

    Windows do not run over a trace's end. A bank of traces shorter than a window (no load at all) teaches nothing.
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


def foresee(params: chex.ArrayTree, deviations: bool, world: World, key: chex.PRNGKey) -> World:
    """The world with other tenants' load as foreseen.

    Args:
        params: of `LoadForecast`.
        deviations: whether a sample is drawn, each resource above or below its mean throughout; else the mean.
        world: what is known.
        key: draws the sample.
    """
    mean, deviation = LoadForecast().apply(params, world.history)
    if deviations:
        mean = mean + deviation * jax.random.normal(key, (mean.shape[0], 1))
    load = jnp.clip(jnp.concatenate([world.history[:, -1:], mean], axis=1), 0.0, _LARGEST)
    return with_forecast(world, load)
