"""Seeds and learning rates in parallel: training is one function, so `jax.vmap` batches all of it."""

import chex
import jax
import jax.numpy as jnp
from ppo import train

SEEDS, RATES, ITERATIONS = 2, jnp.array([1e-4, 1e-3]), 10


def train_all(keys: chex.PRNGKey, rates: chex.Array) -> chex.Array:
    """Train every seed at every rate; returns the ACT, s, of each iteration, (rates, seeds, ITERATIONS)."""
    of_seeds = jax.vmap(lambda key, rate: train(key, rate, ITERATIONS), in_axes=(0, None))
    return jax.vmap(of_seeds, in_axes=(None, 0))(keys, rates)


if __name__ == "__main__":
    act = jax.jit(train_all)(jax.random.split(jax.random.key(0), SEEDS), RATES)
    for rate, acts in zip(RATES, act, strict=True):
        print(f"learning rate {rate:.4f}: ACT", *(f"{a[0]:5.0f} -> {a[-1]:4.0f} s" for a in acts), sep="  ")
