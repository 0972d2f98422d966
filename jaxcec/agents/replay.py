"""Replay buffer on the device: a ring of blocks, one block per decision of all environments.

A state is stored once: the next state of a transition is the state of the same environment in the next block. The ring
is written in place as long as the caller donates it.
"""

from __future__ import annotations

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.agents.features import Features


class Decided(struct.PyTreeNode):
    """What is stored of one decision (s_t, a_t, r_t)."""

    features: Features
    node: chex.Array  # () i32, the edge node that was chosen
    bandwidth: chex.Array  # () eta
    hold: chex.Array  # () eps as a share of max_hold
    reward: chex.Array  # () scaled
    discount: chex.Array  # () gamma, 0 where the episode terminated
    weight: chex.Array  # () 0 where the episode was truncated: then s_{t+1} is not known


class Experience(Decided):
    """One transition (s_t, a_t, r_t, s_{t+1})."""

    following: Features


class Replay(struct.PyTreeNode):
    """Ring of transitions."""

    blocks: Any  # Decided with leading axes (blocks, num_envs)
    filled: chex.Array  # () i32 blocks that hold transitions
    next: chex.Array  # () i32 block to write next


def create(example: Decided, num_envs: int, size: int) -> Replay:
    """Empty buffer of at least `size` transitions.

    Args:
        example: one unbatched decision.
        num_envs: decisions written at a time.
        size: transitions wanted; rounded up to whole blocks.
    """
    blocks = -(-size // num_envs) + 1  # the newest block has no next states yet
    zeros = jax.tree.map(lambda x: jnp.zeros((blocks, num_envs, *x.shape), x.dtype), example)
    return Replay(blocks=zeros, filled=jnp.int32(0), next=jnp.int32(0))


def add(replay: Replay, batch: Decided) -> Replay:
    """Write one decision of each environment over the oldest ones."""
    count = jax.tree.leaves(replay.blocks)[0].shape[0]
    return Replay(
        blocks=jax.tree.map(lambda ring, x: ring.at[replay.next].set(x), replay.blocks, batch),
        filled=jnp.minimum(replay.filled + 1, count),
        next=(replay.next + 1) % count,
    )


def newest(replay: Replay, steps: int) -> Decided:
    """The last decisions of every environment in order, (steps, num_envs, ...); as many blocks must be filled."""
    count = jax.tree.leaves(replay.blocks)[0].shape[0]
    order = (replay.next - steps + jnp.arange(steps)) % count
    return jax.tree.map(lambda ring: ring[order], replay.blocks)


def sample(replay: Replay, key: chex.PRNGKey, size: int, steps: int) -> Experience:
    """Draw transitions over several steps uniformly, with replacement, in equal parts from groups of environments.

    Rewards of up to `steps` decisions are summed, discounted, and s_{t+1} is the state after them: earlier where the
    episode ends or the ring does, or where an episode is truncated, then the last state known before it.

    There are as many groups as divide both the batch and the environments, at most; so each transition is as likely as
    any other, and where environments lie on several devices each device draws from its own. At least two blocks must
    be filled.
    """
    key_block, key_member = jax.random.split(key)
    count, num_envs = jax.tree.leaves(replay.blocks)[0].shape[:2]
    groups = math.gcd(num_envs, size)
    shape = (groups, size // groups)
    age = jax.random.randint(key_block, shape, 0, replay.filled - 1)
    first = replay.next - replay.filled + age
    member = jax.random.randint(key_member, shape, 0, num_envs // groups)

    def take(ring: chex.Array, block: chex.Array) -> chex.Array:
        ring = ring.reshape(count, groups, num_envs // groups, *ring.shape[2:])
        drawn = jax.vmap(lambda part, b, m: part[b % count, m], in_axes=(1, 0, 0))(ring, block, member)
        return drawn.reshape(size, *ring.shape[3:])

    def step(carry: tuple[chex.Array, ...], k: chex.Array) -> tuple[tuple[chex.Array, ...], None]:
        """Go one decision further where that is possible."""
        length, total, discount = carry
        reward, then, weight = (take(x, first + k) for x in (blocks.reward, blocks.discount, blocks.weight))
        going = (length == k) & (discount > 0.0) & (weight > 0.0) & (k < (replay.filled - 1 - age).reshape(size))
        total = jnp.where(going, total + discount * reward, total)
        return (length + going.astype(jnp.int32), total, jnp.where(going, discount * then, discount)), None

    blocks = replay.blocks
    start = jnp.zeros(size, jnp.int32), jnp.zeros(size), jnp.ones(size)
    (length, total, discount), _ = jax.lax.scan(step, start, jnp.arange(steps))
    drawn = jax.tree.map(lambda ring: take(ring, first), blocks)
    following = jax.tree.map(lambda ring: take(ring, first + length.reshape(shape)), blocks.features)
    known = vars(drawn) | {"reward": total, "discount": discount, "weight": (length > 0).astype(jnp.float32)}
    return Experience(**known, following=following)
