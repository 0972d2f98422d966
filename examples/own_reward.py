"""A custom reward: a weighted sum of what each decision adds to the measures of the episode.

`jaxcec.evaluation.decision_energy` and `decision_work` depend on nothing later than the decision, so the reward is
causal, and it sums over an episode to minus the same weighted sum of the episode's measures.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, CECEnv, EnvParams, EnvState, Info, Observation
from jaxcec.env.types import NodeObservation
from jaxcec.evaluation import Power, decision_energy, decision_work
from jaxcec.scenarios import Scenario, make_env

WEIGHTS = {"completion": 1.0, "energy": 0.05, "traffic": 0.01}  # s/s, s/J, s/Mbit and link
POWER = Power()
Choose = Callable[[NodeObservation], chex.Array]  # to the index of a node


class WeightedEnv(CECEnv):
    """CECEnv whose reward is minus a weighted sum, s: of completion times in s, energy in J, and Mbit x links."""

    def step(
        self, key: chex.PRNGKey, state: EnvState, action: Action, params: EnvParams | None = None
    ) -> tuple[Observation, EnvState, chex.Array, chex.Array, chex.Array, Info]:
        params = self.checked(params)
        observation, after, reward, terminated, truncated, info = super().step(key, state, action, params)
        reward = weighted(reward, state, info, params)
        return observation, after, reward, terminated, truncated, info

    def step_env(  # type: ignore[override]
        self, key: chex.PRNGKey, state: EnvState, action: Action, params: EnvParams
    ) -> tuple[Observation, EnvState, chex.Array, chex.Array, Info]:
        observation, after, reward, terminated, info = super().step_env(key, state, action, params)
        return observation, after, weighted(reward, state, info, params), terminated, info


def weighted(reward: chex.Array, before: EnvState, info: Info, params: EnvParams) -> chex.Array:
    """The reward of a decision taken in the state `before`, from that of kind `act`; `info` gets its energy, J."""
    info["energy"] = decision_energy(before, info, params, power=POWER)
    added = {"completion": -reward, "energy": info["energy"], "traffic": decision_work(before, info, params).traffic}
    return -sum((weight * added[name] for name, weight in WEIGHTS.items()), jnp.float32(0.0))


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
    """Choose the node that finishes it first, but pay for the power that running it there takes."""
    watts = (POWER.node_busy - POWER.node_idle) * nodes.share[:, 0]
    return jnp.argmin(nodes.finish + WEIGHTS["energy"] * watts * nodes.execution)


if __name__ == "__main__":
    base, params = make_env(Scenario(), "train")
    env = WeightedEnv(base.config, params)
    for choose in (earliest, frugal):
        reward, wait, energy = jax.jit(play, static_argnums=(0, 2))(env, params, choose, jax.random.key(0))
        print(f"{choose.__name__:8}: reward {reward.mean():7.1f}, finish {wait.mean():6.1f} s, {energy.mean():6.1f} J")
