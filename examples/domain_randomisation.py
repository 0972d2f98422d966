"""A different world in every environment: numbers of `EnvParams` are leaves, and may have an axis of their own."""

import jax
import jax.numpy as jnp

from jaxcec.policies import earliest_finish
from jaxcec.scenarios import Scenario, make_env

ENVS, DECISIONS = 32, 300
env, params = make_env(Scenario(num_services=5), "train")


def draw(key):
    """One world: up to four times as many arrivals or as few, links at a quarter to all of their bandwidth."""
    key_rate, key_bandwidth = jax.random.split(key)
    rate = params.arrival_rate * 4.0 ** jax.random.uniform(key_rate, minval=-1.0)
    share = jax.random.uniform(key_bandwidth, minval=0.25)
    network = params.network.replace(
        bandwidth=share * params.network.bandwidth, bottleneck=share * params.network.bottleneck
    )
    return rate, share, params.replace(arrival_rate=rate, network=network)


def play(key):
    """ACT in s of the episodes that end under the earliest finish, with what was drawn."""
    key_world, key_reset, key_run = jax.random.split(key, 3)
    rate, share, world = draw(key_world)
    observation, state = env.reset(key_reset, world)

    def step(carry, key):
        observation, state = carry
        observation, state, _, terminated, _, info = env.step(key, state, earliest_finish(observation, key), world)
        return (observation, state), (info["act"], terminated)

    _, (act, ended) = jax.lax.scan(step, (observation, state), jax.random.split(key_run, DECISIONS))
    return rate, share, act.sum() / jnp.maximum(ended.sum(), 1), ended.sum()


if __name__ == "__main__":
    rate, share, act, ended = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), ENVS))
    for i in jnp.argsort(act)[ended[jnp.argsort(act)] > 0]:
        print(f"{rate[i]:.3f} services/s, {share[i]:4.0%} of the bandwidth: ACT {act[i]:6.0f} s of {ended[i]} episodes")
