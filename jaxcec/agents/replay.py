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
        """Rows of a ring at (groups, size / groups, ...) blocks, as (size, ...)."""
        ring = ring.reshape(count, groups, num_envs // groups, *ring.shape[2:])
        members = jnp.expand_dims(member, range(2, block.ndim))
        drawn = jax.vmap(lambda part, b, m: part[b % count, m], in_axes=(1, 0, 0))(ring, block, members)
        return drawn.reshape(size, *drawn.shape[2:])

    window = first[..., None] + jnp.arange(steps, dtype=jnp.int32)[None, None]
    reward, discount, weight = (take(x, window) for x in (blocks.reward, blocks.discount, blocks.weight))
    length, total, rest = summed_rewards(reward, discount, weight, known)
    drawn = jax.tree.map(lambda ring: take(ring, first), blocks)
    after = jax.tree.map(lambda ring: take(ring, first + length.reshape(shape)), blocks.features)
    returns = {"reward": total, "discount": rest, "weight": (length > 0).astype(jnp.float32)}
    return Transition(**vars(drawn) | returns, next_features=after)


def summed_rewards(
    reward: chex.Array, discount: chex.Array, weight: chex.Array, known: chex.Array
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Sum of the discounted rewards of consecutive decisions, until an episode ends or a next state is unknown.

    Args:
        reward: (B, steps) of the decisions.
        discount: (B, steps), 0 where an episode ended with the decision.
        weight: (B, steps), 0 where the state after the decision is unknown.
        known: (B,) i32, number of decisions that have been taken; the columns from there on are of others.

    Returns:
        (B,) i32 number of decisions summed, (B,) sum, and (B,) discount of what follows them.
    """
    before = jnp.concatenate([jnp.ones_like(discount[:, :1]), discount[:, :-1]], axis=1)
    column = jnp.broadcast_to(jnp.arange(reward.shape[1], dtype=jnp.int32), reward.shape)
    stops = (before == 0.0) | (weight == 0.0) | (column >= known[:, None])
    length = jnp.min(jnp.where(stops, column, reward.shape[1]), axis=1)
    within = column < length[:, None]
    total = jnp.sum(jnp.where(within, jnp.cumprod(before, axis=1) * reward, 0.0), axis=1)
    return length, total, jnp.prod(jnp.where(within, discount, 1.0), axis=1)
