"""Replay buffer on the device: a ring of blocks, one block per decision of all environments.

It is written in place as long as the caller donates it.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.agents.features import Features


class Experience(struct.PyTreeNode):
    """One transition (s_t, a_t, r_t, s_{t+1})."""

    features: Features
    node: chex.Array  # () i32, the edge node that was chosen
    bandwidth: chex.Array  # () eta
    hold: chex.Array  # () eps as a share of max_hold
    reward: chex.Array  # () scaled
    following: Features
    discount: chex.Array  # () gamma, 0 where the episode terminated
    weight: chex.Array  # () 0 where the episode was truncated: then s_{t+1} is not known


class Replay(struct.PyTreeNode):
    """Ring of transitions."""

    blocks: Any  # Experience with leading axes (blocks, num_envs)
    filled: chex.Array  # () i32 blocks that hold transitions
    next: chex.Array  # () i32 block to write next


def create(example: Experience, num_envs: int, size: int) -> Replay:
    """Empty buffer of at least `size` transitions.

    Args:
        example: one unbatched transition.
        num_envs: transitions written at a time.
        size: transitions wanted; rounded up to whole blocks.
    """
    blocks = -(-size // num_envs)
    zeros = jax.tree.map(lambda x: jnp.zeros((blocks, num_envs, *x.shape), x.dtype), example)
    return Replay(blocks=zeros, filled=jnp.int32(0), next=jnp.int32(0))


def add(replay: Replay, batch: Experience) -> Replay:
    """Write one transition of each environment over the oldest ones."""
    count = jax.tree.leaves(replay.blocks)[0].shape[0]
    return Replay(
        blocks=jax.tree.map(lambda ring, x: ring.at[replay.next].set(x), replay.blocks, batch),
        filled=jnp.minimum(replay.filled + 1, count),
        next=(replay.next + 1) % count,
    )


def sample(replay: Replay, key: chex.PRNGKey, size: int) -> Experience:
    """Draw transitions uniformly, with replacement. At least one block must be filled."""
    key_block, key_env = jax.random.split(key)
    num_envs = jax.tree.leaves(replay.blocks)[0].shape[1]
    block = jax.random.randint(key_block, (size,), 0, replay.filled)
    env = jax.random.randint(key_env, (size,), 0, num_envs)
    return jax.tree.map(lambda ring: ring[block, env], replay.blocks)
