"""ContinuousView for Brax's trainers.

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
    """One environment as Brax has it: no time limit and no reset of its own. `State.pipeline_state` is CECEnv's state.

    Args:
        view: what is seen and done; Brax knows continuous actions alone.
        params: the banks; by default the view's.
    """

    def __init__(self, view: ContinuousView, params: EnvParams | None = None):
        self.view = view
        self.params = view.default_params if params is None else params

    def reset(self, rng: chex.PRNGKey) -> State:
        """A new episode."""
        seen, state = self.view.reset_env(rng, self.params)
        return State(state, seen, reward=jnp.float32(0.0), done=jnp.float32(0.0), metrics={"act": jnp.float32(0.0)})

    def step(self, state: State, action: chex.Array) -> State:
        """One decision; `done` is 1 once every microservice is decided, and `metrics["act"]` then the ACT in s."""
        key = jax.random.key(0)  # the dynamics draw nothing
        seen, following, reward, terminated, info = self.view.step_env(key, state.pipeline_state, action, self.params)
        return state.replace(
            pipeline_state=following,
            obs=seen,
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
        """V + 2."""
        return self.view.num_actions

    @property
    def backend(self) -> str:
        """None of Brax's: there is no physics."""
        return "jaxcec"


class NewEpisodeWrapper(Wrapper):
    """Draw a new episode where one ended.

    Brax's own AutoResetWrapper goes back to the state of the first reset: every environment would play one and the same
    episode, the same services on the same network, for the whole of the training.
    """

    def reset(self, rng: chex.PRNGKey) -> State:
        """New episodes everywhere. `info["next_episode"]` holds the keys of the following ones."""
        keys = jax.vmap(jax.random.split)(rng)
        state = self.env.reset(keys[:, 0])
        return state.replace(info=state.info | {"next_episode": keys[:, 1]})

    def step(self, state: State, action: chex.Array) -> State:
        """One step; `obs` and `pipeline_state` are the new episode's where `done` is 1, all else the old one's."""
        keys = jax.vmap(jax.random.split)(state.info["next_episode"])
        began = state.done > 0
        info = state.info | {"steps": jnp.where(began, 0.0, state.info["steps"]), "next_episode": keys[:, 1]}
        state = self.env.step(state.replace(done=jnp.zeros_like(state.done), info=info), action)
        fresh = self.env.reset(keys[:, 0])

        def choose(ended: chex.Array, new: chex.ArrayTree, old: chex.ArrayTree) -> chex.ArrayTree:
            return jax.tree.map(lambda x, y: jnp.where(ended, x, y), new, old)

        pipeline_state, seen = jax.vmap(choose)(
            state.done > 0, (fresh.pipeline_state, fresh.obs), (state.pipeline_state, state.obs)
        )
        return state.replace(pipeline_state=pipeline_state, obs=seen)


def wrap(
    env: BraxEnv, episode_length: int = 1000, action_repeat: int = 1, randomization_fn: Any = None
) -> NewEpisodeWrapper:
    """The `wrap_env_fn` of Brax's trainers: many environments, a time limit, and a new episode after each.

    The limit, `episode_length` or the params' `max_steps_in_episode` if that is less, sets `info["truncation"]`.

    Raises:
        ValueError: a `randomization_fn`, which is for physical systems: the episodes are drawn from banks already.
    """
    if randomization_fn is not None:
        raise ValueError(f"randomization_fn: got {randomization_fn!r}; must be None: change BraxEnv's params instead")
    limit = min(episode_length, int(env.params.max_steps_in_episode))
    return NewEpisodeWrapper(EpisodeWrapper(VmapWrapper(env), limit, action_repeat))
