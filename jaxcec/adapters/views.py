"""Views of CECEnv for learners that expect one observation vector and one kind of action."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxcec import make
from jaxcec.env.env import LEAST_BANDWIDTH, CECEnv
from jaxcec.env.observe import flatten, observation_size
from jaxcec.env.placement import current_situation
from jaxcec.env.spaces import Box, Discrete
from jaxcec.env.types import Action, EnvParams, EnvState, Info, Observation

HIGHEST = float(np.log1p(np.finfo(np.float32).max))  # least upper bound of the encoded observation


@dataclasses.dataclass(frozen=True)
class FlatView:
    """CECEnv with a flat observation, a scaled reward and, in the subclasses, a simpler action.

    - observation: (V (2 K + 22) + 5 E + K + 13,) float32, `log1p(flatten(observation))`, because the raw values range
      from 0 to 1e4.
    - reward: CECEnv's, s, times `reward_scale`. The times in `info` remain in s.

    Everything else is CECEnv's contract. Views of equal settings are equal and share one compilation. All methods are
    pure and may be vmapped.
    """

    env: CECEnv
    _: dataclasses.KW_ONLY
    reward_scale: float = 0.01  # 1/s; rewards of hundreds of s are too large for most learners' defaults

    def __post_init__(self) -> None:
        if not 0.0 < self.reward_scale < math.inf:
            raise ValueError(f"reward_scale: got {self.reward_scale}; must be positive and finite")

    @property
    def name(self) -> str:
        """The environment's name and the kind of view."""
        return f"{self.env.name}-{type(self).__name__}"

    @property
    def default_params(self) -> EnvParams:
        """The environment's default params."""
        return self.env.default_params

    @property
    def num_actions(self) -> int:
        """Number of choices of a discrete action, or length of a continuous one."""
        raise NotImplementedError

    def decision(self, action: chex.Array) -> Action:
        """CECEnv's action for an action of the view."""
        raise NotImplementedError

    @partial(jax.jit, static_argnums=0, inline=True)
    def action_mask(self, state: EnvState, params: EnvParams | None = None) -> chex.Array:
        """(V,) bool, the edge nodes that can run the current microservice; all of them after termination."""
        situation = current_situation(state, self.default_params if params is None else params)
        return situation.feasible[: self.env.config.num_nodes] | ~situation.decision.active

    def action_space(self, params: EnvParams | None = None) -> Box | Discrete:
        """The view's actions."""
        raise NotImplementedError

    def observation_space(self, params: EnvParams | None = None) -> Box:
        """Non-negative float32 vectors."""
        c = self.env.config
        return Box(0.0, HIGHEST, (observation_size(c.num_nodes, c.max_links, c.num_resources),))

    def checked(self, params: EnvParams | None) -> EnvParams:
        """The params, checked, or the default ones."""
        return self.env.checked(params)

    def reset(self, key: chex.PRNGKey, params: EnvParams | None = None) -> tuple[chex.Array, EnvState]:
        """Draw an episode, as `CECEnv.reset` does."""
        return self.reset_env(key, self.checked(params))

    def step(
        self, key: chex.PRNGKey, state: EnvState, action: chex.Array, params: EnvParams | None = None
    ) -> tuple[chex.Array, EnvState, chex.Array, chex.Array, chex.Array, Info]:
        """Take one decision; if the episode ends, draw a new one.

        Returns:
            The six values of `CECEnv.step`, with flat observation and `info["final_observation"]` and scaled reward.
        """
        return self._step(key, state, action, self.checked(params))

    @partial(jax.jit, static_argnums=0)
    def _step(
        self, key: chex.PRNGKey, state: EnvState, action: chex.Array, params: EnvParams
    ) -> tuple[chex.Array, EnvState, chex.Array, chex.Array, chex.Array, Info]:
        seen, state, reward, terminated, truncated, info = self.env.step(key, state, self.decision(action), params)
        info |= {"final_observation": _encode(info["final_observation"])}
        return _encode(seen), state, self.reward_scale * reward, terminated, truncated, info

    @partial(jax.jit, static_argnums=0)
    def reset_env(self, key: chex.PRNGKey, params: EnvParams) -> tuple[chex.Array, EnvState]:
        """`reset` with explicit params."""
        seen, state = self.env.reset_env(key, params)
        return _encode(seen), state

    @partial(jax.jit, static_argnums=0)
    def step_env(
        self, key: chex.PRNGKey, state: EnvState, action: chex.Array, params: EnvParams
    ) -> tuple[chex.Array, EnvState, chex.Array, chex.Array, Info]:
        """Take one decision without time limit or auto-reset: the five values of `CECEnv.step_env`, flat and scaled."""
        seen, state, reward, terminated, info = self.env.step_env(key, state, self.decision(action), params)
        return _encode(seen), state, self.reward_scale * reward, terminated, info

    def observe(
        self, key: chex.PRNGKey, state: EnvState, action: chex.Array | None = None, params: EnvParams | None = None
    ) -> chex.Array:
        """The flat observation of a state (key and action are unused)."""
        return _encode(self.env.observe(key, state, None, params))

    def is_terminated(self, state: EnvState, params: EnvParams | None = None) -> chex.Array:
        """() bool: every microservice is decided."""
        return self.env.is_terminated(state)

    def is_truncated(self, state: EnvState, params: EnvParams) -> chex.Array:
        """() bool: the episode has had `max_steps_in_episode` steps, postponed decisions included."""
        return self.env.is_truncated(state, params)


@dataclasses.dataclass(frozen=True)
class DiscreteView(FlatView):
    """View in which an action is an edge node, for DQN or a categorical PPO.

    - action: () int, the edge node in [0, V), clipped. Bandwidth share and hold are constants of the view. With
      `EnvConfig.postpone`, V postpones the decision by `postpone`.
    """

    bandwidth: float = 1.0  # eta in [1e-3, 1]
    hold: float = 0.0  # s, eps
    postpone: float = 5.0  # s

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LEAST_BANDWIDTH <= self.bandwidth <= 1.0:
            raise ValueError(f"bandwidth: got {self.bandwidth}; must be in [{LEAST_BANDWIDTH}, 1]")
        if not 0.0 <= self.hold < math.inf:
            raise ValueError(f"hold: got {self.hold}; must be at least 0 s and finite")
        if not 0.0 < self.postpone < math.inf:
            raise ValueError(f"postpone: got {self.postpone}; must be positive, in s, and finite")

    @property
    def num_actions(self) -> int:
        """V, the number of edge nodes; one more with `EnvConfig.postpone`."""
        return self.env.config.num_nodes + self.env.config.postpone

    def decision(self, action: chex.Array) -> Action:
        """The edge node with the bandwidth and hold of this view, or a postponement."""
        choice = jnp.clip(action, 0, self.num_actions - 1).astype(jnp.int32)
        postponed = jnp.where(choice == self.env.config.num_nodes, jnp.float32(self.postpone), 0.0)
        return Action(
            host=choice,
            bandwidth=jnp.float32(self.bandwidth),
            hold=jnp.float32(self.hold),
            postpone=postponed if self.env.config.postpone else None,
        )

    @partial(jax.jit, static_argnums=0, inline=True)
    def action_mask(self, state: EnvState, params: EnvParams | None = None) -> chex.Array:
        """(num_actions,) bool: a decision can always be postponed."""
        return jnp.pad(super().action_mask(state, params), (0, int(self.env.config.postpone)), constant_values=True)

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """The edge nodes, and postponing with `EnvConfig.postpone`."""
        return Discrete(self.num_actions)


@dataclasses.dataclass(frozen=True)
class ContinuousView(FlatView):
    """View in which an action is one vector, for SAC, TD3 and DDPG.

    - action: (V + 2,) float32 in [-1, 1]. First a score for each edge node: the highest is chosen, on a tie the first.
      Then eta, from -1 for 1e-3 to 1 for 1, and eps, from -1 for 0 s to 1 for `max_hold`; both are clipped. With
      `EnvConfig.postpone` there is one more: if positive, the decision is postponed by this share of `max_postpone`.
    """

    max_hold: float = 30.0  # s
    max_postpone: float = 30.0  # s

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.max_hold < math.inf:
            raise ValueError(f"max_hold: got {self.max_hold}; must be at least 0 s and finite")
        if not 0.0 < self.max_postpone < math.inf:
            raise ValueError(f"max_postpone: got {self.max_postpone}; must be positive, in s, and finite")

    @property
    def num_actions(self) -> int:
        """V + 2, the length of the vector; V + 3 with `EnvConfig.postpone`."""
        return self.env.config.num_nodes + 2 + self.env.config.postpone

    def decision(self, action: chex.Array) -> Action:
        """The edge node of the highest score, with the entries after the scores as shares of their ranges."""
        num_nodes = self.env.config.num_nodes
        rest = jnp.clip(action[num_nodes:].astype(jnp.float32), -1.0, 1.0)
        share = (1.0 + rest) / 2.0
        return Action(
            host=jnp.argmax(action[:num_nodes]).astype(jnp.int32),
            bandwidth=LEAST_BANDWIDTH * (1.0 - share[0]) + share[0],  # exact at both ends
            hold=self.max_hold * share[1],
            postpone=self.max_postpone * rest[2] if self.env.config.postpone else None,
        )

    def action_space(self, params: EnvParams | None = None) -> Box:
        """Scores, bandwidth, hold, and the postponement with `EnvConfig.postpone`."""
        return Box(-1.0, 1.0, (self.num_actions,))


VIEWS: dict[str, type[FlatView]] = {"discrete": DiscreteView, "continuous": ContinuousView}


def make_view(
    env_id: str, view: str = "discrete", *, split: str = "train", reward_scale: float = 0.01, **changes: Any
) -> FlatView:
    """Create a view of a registered environment.

    Args:
        env_id: one of `jaxcec.registered_envs`.
        view: `discrete` or `continuous`.
        split: `train` or `test`.
        reward_scale: 1/s.
        changes: fields of `jaxcec.scenarios.Scenario` that replace those of the id.

    Raises:
        ValueError: an unknown id, view or split, or an invalid value.
    """
    if view not in VIEWS:
        raise ValueError(f"view: got {view!r}; must be one of {', '.join(VIEWS)}")
    return VIEWS[view](make(env_id, split, **changes)[0], reward_scale=reward_scale)


def _encode(observation: Observation) -> chex.Array:
    return jnp.log1p(flatten(observation))
