"""Spaces of actions and observations, with the interface of gymnax's: the few that the environment needs."""

from __future__ import annotations

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp


class Box:
    """Arrays of one shape with values between two bounds."""

    def __init__(self, low: float, high: float, shape: tuple[int, ...] = (), dtype: Any = jnp.float32) -> None:
        self.low, self.high, self.shape, self.dtype = low, high, shape, dtype

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Uniform between the bounds.

        Raises:
            ValueError: a bound is infinite.
        """
        if math.isinf(self.low) or math.isinf(self.high):
            raise ValueError(f"Box.sample: bounds are [{self.low}, {self.high}]; both must be finite")
        return jax.random.uniform(key, self.shape, self.dtype, self.low, self.high)

    def contains(self, x: chex.Array) -> chex.Array:
        """() bool: the shape is this space's and every value is within the bounds."""
        return jnp.asarray(jnp.shape(x) == self.shape) & jnp.all((x >= self.low) & (x <= self.high))


class Discrete:
    """Integers 0..n-1."""

    def __init__(self, n: int, dtype: Any = jnp.int32) -> None:
        self.n, self.shape, self.dtype = n, (), dtype

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """Uniform over the integers."""
        return jax.random.randint(key, (), 0, self.n, self.dtype)

    def contains(self, x: chex.Array) -> chex.Array:
        """() bool: `x` is a scalar in range."""
        return jnp.asarray(jnp.shape(x) == ()) & jnp.all((x >= 0) & (x < self.n))


class Tree:
    """A pytree whose leaves are spaces, such as `Action(host=Discrete(16), ...)`."""

    def __init__(self, spaces: Any) -> None:
        self.spaces = spaces

    def sample(self, key: chex.PRNGKey) -> Any:
        """Independent samples, one for each leaf."""
        leaves, structure = jax.tree.flatten(self.spaces)
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(structure, [space.sample(k) for space, k in zip(leaves, keys, strict=True)])

    def contains(self, x: Any) -> chex.Array:
        """() bool: every leaf is in its space."""
        inside = jax.tree.map(lambda space, value: space.contains(value), self.spaces, x)
        return jnp.all(jnp.stack(jax.tree.leaves(inside)))
