"""A custom reward: finish early, but pay for energy. `info` holds everything that the reward needs."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, CECEnv, EnvParams, EnvState, Observation
from jaxcec.env.types import NodeObservation
from jaxcec.scenarios import Scenario, make_env

POWER = 20.0  # W, of an edge node that runs a microservice
PRICE = 0.05  # s/J
Choose = Callable[[NodeObservation], chex.Array]  # to the index of a node


class EnergyEnv(CECEnv):
    """CECEnv whose reward is minus the time from a decision to its finish, s, and minus the price of its energy, s."""

    def step(
        self, key: chex.PRNGKey, state: EnvState, action: Action, params: EnvParams | None = None
    ) -> tuple[Observation, EnvState, chex.Array, chex.Array, chex.Array, dict[str, chex.Array]]:
        observation, state, _, terminated, truncated, info = super().step(key, state, action, params)
        info["energy"] = POWER * (info["finish"] - info["start"])  # J
        reward = info["time"] - info["finish"] - PRICE * info["energy"]
        return observation, state, reward, terminated, truncated, info


def play(env: CECEnv, params: EnvParams, choose: Choose, key: chex.PRNGKey, decisions: int = 400) -> chex.Array:
    """Return the reward, s, time from decision to finish, s, and energy, J, of each decision, (3, decisions)."""
    observation, state = env.reset(key, params)

    def step(carry: tuple[Observation, EnvState], key: chex.PRNGKey) -> tuple[tuple[Observation, EnvState], chex.Array]:
        observation, state = carry
        action = Action(host=choose(observation.nodes), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))
        observation, state, reward, _, _, info = env.step(key, state, action, params)
        return (observation, state), jnp.stack([reward, info["finish"] - info["time"], info["energy"]])

    return jax.lax.scan(step, (observation, state), jax.random.split(key, decisions))[1].T


def earliest(nodes: NodeObservation) -> chex.Array:
    """Choose the node that finishes the microservice first."""
    return jnp.argmin(nodes.finish)


def frugal(nodes: NodeObservation) -> chex.Array:
    """Choose the node with the highest reward."""
    return jnp.argmin(nodes.finish + PRICE * POWER * nodes.execution)


if __name__ == "__main__":
    base, params = make_env(Scenario(), "train")
    env = EnergyEnv(base.config, params)
    for choose in (earliest, frugal):
        reward, wait, energy = jax.jit(play, static_argnums=(0, 2))(env, params, choose, jax.random.key(0))
        print(f"{choose.__name__:8}: reward {reward.mean():7.1f}, finish {wait.mean():6.1f} s, {energy.mean():6.1f} J")
