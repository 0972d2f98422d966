"""Load of other tenants, u_n(t) and u_e(t): piecewise constant, read from a bank shared by all environments."""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxcec.env.types import Background


def load_at(background: Background, offset: chex.Array, time: chex.Array) -> chex.Array:
    """Load of each resource at an instant; frames after that instant are not read.

    Args:
        background: the bank, (B, F).
        offset: (R,) i32, each resource's first frame, as an index into the flattened bank.
        time: () s.

    Returns:
        (R,) share in [0, 0.9].
    """
    frames = background.load.shape[-1]
    elapsed = jnp.floor(time / background.frame).astype(jnp.int32)
    return background.load[offset // frames, (offset % frames + elapsed) % frames]
