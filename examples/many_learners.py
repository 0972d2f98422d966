"""Seeds and learning rates side by side: a training that is one function can be vmapped whole."""

import jax
import jax.numpy as jnp
from ppo import train

SEEDS, RATES, ITERATIONS = 2, jnp.array([1e-4, 1e-3]), 10


def train_all(keys, rates):
    """(rates, seeds, ITERATIONS) s, the ACT of every learner."""
    of_seeds = jax.vmap(lambda key, rate: train(key, rate, ITERATIONS), in_axes=(0, None))
    return jax.vmap(of_seeds, in_axes=(None, 0))(keys, rates)


if __name__ == "__main__":
    act = jax.jit(train_all)(jax.random.split(jax.random.key(0), SEEDS), RATES)
    for rate, acts in zip(RATES, act, strict=True):
        print(f"learning rate {rate:.4f}: ACT", *(f"{a[0]:5.0f} -> {a[-1]:4.0f} s" for a in acts), sep="  ")
