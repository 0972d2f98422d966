"""Replay buffer on the device: a ring of blocks, each with one decision of every environment.

A state is stored once: the next state of a transition is the state of the same environment in the next block. The ring
is written in place if the caller donates it.
"""

from __future__ import annotations

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.agents.types import Step, Transition


class Replay(struct.PyTreeNode):
    """Ring of transitions."""

    blocks: Any  # Step with leading axes (blocks, num_envs)
    filled: chex.Array  # () i32 blocks that hold transitions
    next: chex.Array  # () i32 block to write next


def create(step: Step, size: int) -> Replay:
    """An empty buffer of `size` transitions, rounded up to whole blocks, for (num_envs, ...) steps of these shapes."""
    blocks = -(-size // step.node.size) + 1  # the newest block has no next states yet
    zeros = jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), step)
    return Replay(blocks=zeros, filled=jnp.int32(0), next=jnp.int32(0))


def add(replay: Replay, batch: Step) -> Replay:
    """Write one (num_envs, ...) step of all environments over the oldest one."""
    count = jax.tree.leaves(replay.blocks)[0].shape[0]
    return Replay(
        blocks=jax.tree.map(lambda ring, x: ring.at[replay.next].set(x), replay.blocks, batch),
        filled=jnp.minimum(replay.filled + 1, count),
        next=(replay.next + 1) % count,
    )


def newest(replay: Replay, steps: int) -> Step:
    """The newest steps in order, (steps, num_envs, ...). At least as many blocks must be filled."""
    count = jax.tree.leaves(replay.blocks)[0].shape[0]
    order = (replay.next - steps + jnp.arange(steps)) % count
    return jax.tree.map(lambda ring: ring[order], replay.blocks)


def sample(replay: Replay, key: chex.PRNGKey, *, size: int, steps: int) -> Transition:
    """Draw `size` transitions over at most `steps` decisions, uniformly and with replacement.

    Rewards of up to `steps` decisions are summed with their discounts, and s_{t+1} is the state after them. The sum
    stops earlier where the episode ends, where the ring ends, or before a truncated step, whose next state is unknown.

    Environments and batch are divided into as many groups as divide both, and each group's part of the batch is drawn
    from its own environments. Every transition is equally likely, and where environments are spread over devices each
    device reads its own. At least two blocks must be filled.

    Returns:
        (size, ...) transitions; `weight` is 0 where not even one decision could be summed.
    """
    key_block, key_member = jax.random.split(key)
    blocks = replay.blocks
    count, num_envs = jax.tree.leaves(blocks)[0].shape[:2]
    groups = math.gcd(num_envs, size)
    shape = (groups, size // groups)
    age = jax.random.randint(key_block, shape, 0, replay.filled - 1)
    first = replay.next - replay.filled + age
    member = jax.random.randint(key_member, shape, 0, num_envs // groups)
    known = (replay.filled - 1 - age).reshape(size)  # decisions from the first one to the newest

    def take(ring: chex.Array, block: chex.Array) -> chex.Array:
        ring = ring.reshape(count, groups, num_envs // groups, *ring.shape[2:])
        drawn = jax.vmap(lambda part, b, m: part[b % count, m], in_axes=(1, 0, 0))(ring, block, member)
        return drawn.reshape(size, *ring.shape[3:])

    def extend(carry: tuple[chex.Array, ...], k: chex.Array) -> tuple[tuple[chex.Array, ...], None]:
        """Add one decision to the returns that can still be extended."""
        length, total, discount = carry
        reward, next_discount, weight = (take(x, first + k) for x in (blocks.reward, blocks.discount, blocks.weight))
        going = (length == k) & (discount > 0.0) & (weight > 0.0) & (k < known)
        total = jnp.where(going, total + discount * reward, total)
        return (length + going.astype(jnp.int32), total, jnp.where(going, discount * next_discount, discount)), None

    start = jnp.zeros(size, jnp.int32), jnp.zeros(size), jnp.ones(size)
    (length, total, discount), _ = jax.lax.scan(extend, start, jnp.arange(steps))
    drawn = jax.tree.map(lambda ring: take(ring, first), blocks)
    after = jax.tree.map(lambda ring: take(ring, first + length.reshape(shape)), blocks.features)
    returns = {"reward": total, "discount": discount, "weight": (length > 0).astype(jnp.float32)}
    return Transition(**vars(drawn) | returns, next_features=after)
