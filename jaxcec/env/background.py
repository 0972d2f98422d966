"""Other tenants' load u_n(t) and u_e(t): piecewise constant, read from a bank that all environments share."""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxcec.env.indexing import take
from jaxcec.env.types import Background


def load_at(background: Background, offset: chex.Array, time: chex.Array) -> chex.Array:
    """Load of each resource at an instant, (R,) share in [0, 0.9]; no later frame is read.

    Args:
        background: the bank, (B, F).
        offset: (R,) i32, index of each resource's first frame in the flattened bank.
        time: () s. The shapes broadcast: offset (R, 1) and time (1, T) give the load at T instants, (R, T).
    """
    frames = background.load.shape[-1]
    elapsed = jnp.floor(time / background.frame).astype(jnp.int32)
    return take(background.load, offset // frames, (offset % frames + elapsed) % frames)


def history_at(background: Background, offset: chex.Array, *, time: chex.Array, frames: int) -> chex.Array:
    """`load_at` in the frame of an instant, which is the last one, and in the frames before it: (R, frames).

    The traces are cyclic, so there is a history even at the beginning of an episode.
    """
    times = time - background.frame * jnp.arange(frames - 1, -1, -1, dtype=jnp.float32)
    return load_at(background, offset[:, None], times[None])
