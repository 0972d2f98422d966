"""A small random scenario, and whole episodes of it."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env import HISTORY, Action, CECEnv, EnvParams, EnvState, Observation
from jaxcec.env.types import Episode
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
STEPS = SMALL.num_services * SMALL.max_microservices  # upper bound of an episode's length


def random_actions(env: CECEnv, key: chex.PRNGKey, shape: tuple[int, ...] = ()) -> Action:
    """Actions drawn from the action space, with leading axes of a given shape."""
    sample = env.action_space().sample
    for _ in shape:
        sample = jax.vmap(sample)
    return sample(jax.random.split(key, shape))


@partial(jax.jit, static_argnums=0)
def rollout(
    env: CECEnv, params: EnvParams, state: EnvState, actions: Action
) -> tuple[Observation, dict[str, chex.Array], Episode]:
    """Take the actions in turn, without auto-reset.

    Returns:
        The observation before each decision; the records of the decisions, which are `info` with `reward` and
        `terminated`; and the small part of the state after each decision.
    """
    key = jax.random.key(0)

    def step(state: EnvState, action: Action) -> tuple[EnvState, Any]:
        seen = env.observe(key, state, None, params)
        _, state, reward, terminated, info = env.step_env(key, state, action, params)
        return state, (seen, info | {"reward": reward, "terminated": terminated}, state.episode)

    return jax.lax.scan(step, state, actions)[1]


def equal(a: chex.ArrayTree, b: chex.ArrayTree, axes: int = 0, rtol: float = 0.0) -> np.ndarray:
    """Whether two pytrees are equal, by default bitwise, for each index of the first `axes` axes."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    same = [np.isclose(x, y, rtol=rtol, atol=0.0) for x, y in pairs]
    return np.all([x.reshape((*x.shape[:axes], -1)).all(axis=-1) for x in same], axis=0)


def changed_later(state: EnvState, params: EnvParams) -> tuple[EnvState, EnvParams, chex.Array]:
    """Change the whole future of a state.

    This changes all frames of background load except the current one and the known ones before it, and every service
    not yet released, both in the banks and in the state.

    Returns:
        The changed state and params, and () bool, whether any service is not yet released.
    """
    episode = state.episode
    now = jnp.min(episode.next_ready)
    later = params.arrivals.release[episode.arrivals] / params.arrival_rate > now
    dag, source = params.arrivals.dag[episode.arrivals], params.arrivals.source[episode.arrivals]
    dag = jnp.where(later, (dag + 1) % SMALL.num_dags, dag)
    arrivals = params.arrivals.replace(
        dag=params.arrivals.dag.at[episode.arrivals].set(dag),
        source=params.arrivals.source.at[episode.arrivals].set(
            jnp.where(later, (source + 1) % SMALL.num_nodes, source)
        ),
        release=params.arrivals.release.at[episode.arrivals].add(jnp.where(later, 1.0, 0.0)),
    )
    frames, elapsed = params.background.load.shape[1], jnp.floor(now / params.background.frame).astype(jnp.int32)
    known = elapsed - jnp.arange(HISTORY)[:, None]
    read = (episode.offset // frames * frames)[None] + (episode.offset[None] + known) % frames
    kept = jnp.zeros(params.background.load.size, bool).at[read].set(True).reshape(params.background.load.shape)
    load = jnp.where(kept, params.background.load, 0.9 - params.background.load)
    other = params.replace(arrivals=arrivals, background=params.background.replace(load=load))
    release = arrivals.release[episode.arrivals] / params.arrival_rate
    episode = episode.replace(
        next_ready=jnp.where(later, release, episode.next_ready),
        next_microservice=jnp.where(later, params.dags.entry[dag], episode.next_microservice),
    )
    return state.replace(episode=episode), other, jnp.any(later)
