"""A small random scenario and whole episodes of it, for tests."""

from functools import partial

import jax
import numpy as np

from jaxcec.env import Action, CECEnv
from jaxcec.scenarios.scenario import Scenario

SMALL = Scenario(
    name="small",
    num_services=4,
    max_microservices=6,
    num_nodes=4,
    neighbours=(1, 2),
    arrival_rate=0.05,
    num_topologies=3,
    num_dags=16,
    num_patterns=4,
    num_traces=4,
    num_frames=32,
    link_breakpoints=64,
    host_breakpoints=48,
)
STEPS = SMALL.num_services * SMALL.max_microservices  # at least the length of an episode


def random_actions(env: CECEnv, key, shape: tuple[int, ...] = ()) -> Action:
    """Actions with leading axes of this shape, from the whole action space."""
    sample = env.action_space().sample
    for _ in shape:
        sample = jax.vmap(sample)
    return sample(jax.random.split(key, shape))


@partial(jax.jit, static_argnums=0)
def rollout(env: CECEnv, params, state, actions: Action):
    """Decide with each action in turn, without auto-reset.

    Returns:
        What was observed before each decision; the decisions' records, `info` with `reward` and `terminated`; and the
        small part of the state after each.
    """
    key = jax.random.key(0)

    def step(state, action):
        seen = env.observe(key, state, None, params)
        _, state, reward, terminated, info = env.step_env(key, state, action, params)
        return state, (seen, info | {"reward": reward, "terminated": terminated}, state.episode)

    return jax.lax.scan(step, state, actions)[1]


def equal(a, b, axes: int = 0, rtol: float = 0.0) -> np.ndarray:
    """Are two pytrees equal, by default bit by bit? One answer for each index of so many leading axes."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    same = [np.isclose(x, y, rtol=rtol, atol=0.0) for x, y in pairs]
    return np.all([x.reshape((*x.shape[:axes], -1)).all(axis=-1) for x in same], axis=0)
