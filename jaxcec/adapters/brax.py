"""Adapter of ContinuousView to Brax's trainers.

env = BraxEnv(ContinuousView(cec))
sac.train(env, wrap_env_fn=wrap, ...)
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxcec.adapters.views import ContinuousView
from jaxcec.env.types import EnvParams

try:
    from brax.envs import Env, State, Wrapper
    from brax.envs.wrappers.training import EpisodeWrapper, VmapWrapper
except ImportError as error:
    raise ImportError(f"jaxcec.adapters.brax: {error}; pip install brax (tested with 0.14.2)") from error


class BraxEnv(Env):
    """A view as a Brax environment, without time limit or auto-reset. `State.pipeline_state` is CECEnv's state.

    Brax supports continuous actions only. The params are by default the view's.
    """

    def __init__(self, view: ContinuousView, params: EnvParams | None = None) -> None:
        self.view = view
        self.params = view.checked(params)

    def reset(self, rng: chex.PRNGKey) -> State:
        """Begin a new episode."""
        observation, state = self.view.reset_env(rng, self.params)
        return State(
            state, observation, reward=jnp.float32(0.0), done=jnp.float32(0.0), metrics={"act": jnp.float32(0.0)}
        )

    def step(self, state: State, action: chex.Array) -> State:
        """Take one decision; once every microservice is decided, `done` is 1 and `metrics["act"]` the ACT in s."""
        key = jax.random.key(0)  # The dynamics draw nothing.
        observation, pipeline_state, reward, terminated, info = self.view.step_env(
            key, state.pipeline_state, action, self.params
        )
        return state.replace(
            pipeline_state=pipeline_state,
            obs=observation,
            reward=reward,
            done=terminated.astype(jnp.float32),
            metrics=state.metrics | {"act": info["act"]},
        )

    @property
    def observation_size(self) -> int:
        """Length of the observation."""
        return self.view.observation_space().shape[0]

    @property
    def action_size(self) -> int:
        """V + 2, or V + 3 with `EnvConfig.postpone`: the length of the action."""
        return self.view.num_actions

    @property
    def backend(self) -> str:
        """Not one of Brax's physics backends."""
        return "jaxcec"


class NewEpisodeWrapper(Wrapper):
    """Auto-reset that draws a new episode.

    Brax's AutoResetWrapper restores the state of the first reset, so that each environment would replay one episode,
    with the same services on the same network, throughout training.
    """

    def reset(self, rng: chex.PRNGKey) -> State:
        """Begin a new episode in every environment; `info["next_episode"]` has the keys of the next ones."""
        keys = jax.vmap(jax.random.split)(rng)
        state = self.env.reset(keys[:, 0])
        return state.replace(info=state.info | {"next_episode": keys[:, 1]})

    def step(self, state: State, action: chex.Array) -> State:
        """Take one step; where `done` is 1, `obs` and `pipeline_state` are those of the new episode."""
        keys = jax.vmap(jax.random.split)(state.info["next_episode"])
        first = state.done > 0  # of a new episode
        info = state.info | {"steps": jnp.where(first, 0.0, state.info["steps"]), "next_episode": keys[:, 1]}
        state = self.env.step(state.replace(done=jnp.zeros_like(state.done), info=info), action)
        fresh = self.env.reset(keys[:, 0])

        def choose(ended: chex.Array, new: chex.ArrayTree, old: chex.ArrayTree) -> chex.ArrayTree:
            return jax.tree.map(lambda x, y: jnp.where(ended, x, y), new, old)

        pipeline_state, observation = jax.vmap(choose)(
            state.done > 0, (fresh.pipeline_state, fresh.obs), (state.pipeline_state, state.obs)
        )
        return state.replace(pipeline_state=pipeline_state, obs=observation)


def wrap(
    env: BraxEnv, episode_length: int = 1000, action_repeat: int = 1, randomization_fn: Any = None
) -> NewEpisodeWrapper:
    """The `wrap_env_fn` of Brax's trainers: vectorised, with a time limit and auto-reset to a new episode.

    Args:
        env: the environment.
        episode_length: most steps in an episode, if that is less than the params' `max_steps_in_episode`; reaching the
            limit sets `info["truncation"]`.
        action_repeat: steps for which an action is repeated.
        randomization_fn: must be None: it is meant for physical systems, and the episodes here are drawn from banks.

    Raises:
        ValueError: there is a `randomization_fn`.
    """
    if randomization_fn is not None:
        raise ValueError(f"randomization_fn: got {randomization_fn!r}; must be None: change BraxEnv's params instead")
    limit = min(episode_length, int(env.params.max_steps_in_episode))
    return NewEpisodeWrapper(EpisodeWrapper(VmapWrapper(env), limit, action_repeat))
