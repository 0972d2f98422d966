"""The pytrees that learners share: parameters, actions, transitions."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import optax
from flax import struct

from jaxcec.agents.features import Features
from jaxcec.env import Action

Metrics = dict[str, chex.Array]


class RelaxedAction(struct.PyTreeNode):
    """An action as the critic takes it: a distribution over nodes, with eta and eps for the choice of each node.

    An executed decision has all its weight on one node.
    """

    nodes: chex.Array  # (..., V) non-negative, sums to 1
    bandwidth: chex.Array  # (..., V) eta
    hold: chex.Array  # (..., V) eps as a share of max_hold


class ActorOutput(NamedTuple):
    """Scores before noise, softmax and sigmoid."""

    nodes: chex.Array  # (..., V)
    bandwidth: chex.Array  # (..., V)
    hold: chex.Array  # (..., V)


class AgentParams(struct.PyTreeNode):
    """The parameters that choosing an action needs. A network that an algorithm does not have is None."""

    actor: Any = None
    critic: Any = None  # Q, or the value of a state (PPO)
    twin: Any = None  # of the learned twin's `twin.TimingModel`
    forecast: Any = None  # of other tenants' load, for planning


class AgentState(struct.PyTreeNode):
    """The state of a learner: its parameters, their slowly moving copies, and the optimisers' states by network."""

    params: AgentParams
    target: AgentParams  # theta', w'; the networks without a target are None
    optimisers: dict[str, optax.OptState]


Learned = tuple[AgentState, Metrics]


class Step(struct.PyTreeNode):
    """One decision as the replay buffer stores it: (s_t, a_t, r_t)."""

    features: Features
    node: chex.Array  # () i32, the chosen edge node
    bandwidth: chex.Array  # () eta
    hold: chex.Array  # () eps as a share of max_hold
    postpone: chex.Array  # () s; 0 if the decision was not postponed
    reward: chex.Array  # () scaled
    discount: chex.Array  # () gamma; 0 where the episode terminated
    weight: chex.Array  # () 0 where the episode was truncated, because s_{t+1} is then unknown; 1 elsewhere
    outcome: Any = None  # `twin.Outcome`, what a learned twin learns from; None without one


class Transition(Step):
    """A step and the state after it: (s_t, a_t, r_t, s_{t+1})."""

    next_features: Features = struct.field(kw_only=True)


class Choice(NamedTuple):
    """A chosen action, in the forms that the simulator and the replay buffer take."""

    action: Action
    features: Features
    node: chex.Array  # () i32
    bandwidth: chex.Array  # () eta
    hold: chex.Array  # () eps as a share of max_hold
    foreseen_reward: chex.Array  # () s, Eq. 17: minus the time to the finish, as the agent foresees it
    candidate: Any = None  # (F,), of `twin.candidates`, the chosen node; None without a learned twin
