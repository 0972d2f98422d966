"""Seeds and learning rates together: a whole training is one function, so it can be vmapped."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.agents import AgentConfig, EvolutionConfig, PPOConfig, train_jittable
from jaxcec.scenarios import Scenario, make_env

SEEDS, RATES = 2, jnp.array([1e-5, 1e-3])
NUM_ENVS, DECISIONS = 64, 24_000
CONFIG = AgentConfig(
    algorithm="ppo",
    network="flat",
    warmup_steps=16,
    evolution=EvolutionConfig(generations=0),
    ppo=PPOConfig(rollout_steps=16),
)


def train_all(keys: jax.Array, rates: jax.Array) -> dict[str, jax.Array]:
    """Metrics of every learner, with leading axes (rates, seeds, iterations)."""
    env, params = make_env(Scenario(num_services=3, max_microservices=6, reward="expected-act"), "train")

    def one(key: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        config = CONFIG.replace(actor_learning_rate=rate, critic_learning_rate=rate)
        return train_jittable(env, params, config, num_envs=NUM_ENVS, total_decisions=DECISIONS, key=key)[1]

    of_seeds = jax.vmap(one, in_axes=(0, None))
    return jax.vmap(of_seeds, in_axes=(None, 0))(keys, rates)


def act_of_part(metrics: dict[str, jax.Array], part: slice) -> np.ndarray:
    """(rates, seeds) s, mean ACT of the episodes that ended in some iterations."""
    ended, total = (np.asarray(metrics[name])[:, :, part].sum(axis=(2, 3)) for name in ("episodes", "act_sum"))
    return total / ended


if __name__ == "__main__":
    metrics = jax.jit(train_all)(jax.random.split(jax.random.key(0), SEEDS), RATES)
    first, last = act_of_part(metrics, slice(1)), act_of_part(metrics, slice(-5, None))
    for rate, before, after in zip(RATES, first, last, strict=True):
        pairs = (f"{a:5.0f} -> {b:4.0f} s" for a, b in zip(before, after, strict=True))
        print(f"learning rate {rate:.0e}: ACT", *pairs, sep="  ")
