"""An own reward: finish early, but pay for energy. Everything it needs is in `info`."""

import jax
import jax.numpy as jnp

from jaxcec.env import Action, CECEnv
from jaxcec.scenarios import Scenario, make_env

POWER = 20.0  # W, of an edge node that runs a microservice
PRICE = 0.05  # s that a joule is worth


class EnergyEnv(CECEnv):
    """CECEnv whose reward is minus the time from a decision to its finish, s, less what the energy is worth."""

    def step(self, key, state, action, params=None):
        observation, state, _, terminated, truncated, info = super().step(key, state, action, params)
        info["energy"] = POWER * (info["finish"] - info["start"])  # J
        reward = info["time"] - info["finish"] - PRICE * info["energy"]
        return observation, state, reward, terminated, truncated, info


def play(env, params, choose, key, decisions=400):
    """(decisions,) s and J: from each decision to its finish, and its energy."""
    observation, state = env.reset(key, params)

    def step(carry, key):
        observation, state = carry
        action = Action(host=choose(observation.nodes), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))
        observation, state, reward, _, _, info = env.step(key, state, action, params)
        return (observation, state), (reward, info["finish"] - info["time"], info["energy"])

    return jax.lax.scan(step, (observation, state), jax.random.split(key, decisions))[1]


def earliest(nodes):
    return jnp.argmin(nodes.finish)


def frugal(nodes):
    return jnp.argmin(nodes.finish + PRICE * POWER * nodes.execution)


if __name__ == "__main__":
    base, params = make_env(Scenario(), "train")
    env = EnergyEnv(base.config, params)
    for choose in (earliest, frugal):
        reward, wait, energy = jax.jit(play, static_argnums=(0, 2))(env, params, choose, jax.random.key(0))
        print(f"{choose.__name__:8}: reward {reward.mean():7.1f}, finish {wait.mean():6.1f} s, {energy.mean():6.1f} J")
