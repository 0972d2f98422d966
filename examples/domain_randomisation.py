"""A different world in every environment: the numbers of `EnvParams` are leaves, which `jax.vmap` can batch."""

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import EnvParams, EnvState, Observation, time_unit
from jaxcec.policies import earliest_finish
from jaxcec.scenarios import Scenario, make_env

ENVS, DECISIONS = 32, 300
env, params = make_env(Scenario(num_services=5), "train")


def draw(key: chex.PRNGKey) -> tuple[chex.Array, chex.Array, EnvParams]:
    """Draw a world: a quarter to four times the arrival rate, and a quarter to all of the links' bandwidth."""
    key_rate, key_bandwidth = jax.random.split(key)
    rate = params.arrival_rate * 4.0 ** jax.random.uniform(key_rate, minval=-1.0)
    share = jax.random.uniform(key_bandwidth, minval=0.25)
    network = params.network.replace(
        bandwidth=share * params.network.bandwidth, bottleneck=share * params.network.bottleneck
    )
    unit = time_unit(network, params.dags)
    return rate, share, params.replace(arrival_rate=rate, network=network, time_unit=unit)


def play(key: chex.PRNGKey) -> tuple[chex.Array, ...]:
    """Return the world drawn, the mean ACT, s, of the episodes that end under earliest finish, and their number."""
    key_world, key_reset, key_run = jax.random.split(key, 3)
    rate, share, world = draw(key_world)
    observation, state = env.reset(key_reset, world)

    def step(
        carry: tuple[Observation, EnvState], key: chex.PRNGKey
    ) -> tuple[tuple[Observation, EnvState], tuple[chex.Array, chex.Array]]:
        observation, state = carry
        observation, state, _, terminated, _, info = env.step(key, state, earliest_finish(observation, key), world)
        return (observation, state), (info["act"], terminated)

    _, (act, ended) = jax.lax.scan(step, (observation, state), jax.random.split(key_run, DECISIONS))
    return rate, share, act.sum() / jnp.maximum(ended.sum(), 1), ended.sum()


if __name__ == "__main__":
    rate, share, act, ended = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), ENVS))
    for i in jnp.argsort(act)[ended[jnp.argsort(act)] > 0]:
        print(f"{rate[i]:.3f} services/s, {share[i]:4.0%} of the bandwidth: ACT {act[i]:6.0f} s of {ended[i]} episodes")
