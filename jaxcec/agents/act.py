"""Choosing an action: the actor's, or the best of several candidates in the digital twin (Algorithm 2, lines 6-10)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import AgentParams
from jaxcec.agents.features import Features, encode
from jaxcec.agents.forecast import foresee
from jaxcec.agents.networks import Actor, Critic, RelaxedAction, full_flow, node_logits, relax, traffic_price
from jaxcec.agents.twin import TwinParams, completion_reward, predict
from jaxcec.env import Action, CECEnv, Observation, World
from jaxcec.policies import PlanConfig, Preference, plan

Act = Callable[[AgentParams, Observation, World, chex.PRNGKey], Action]


class Choice(NamedTuple):
    """A chosen action, as the simulator and as the replay buffer take it."""

    action: Action
    features: Features
    node: chex.Array  # () i32
    bandwidth: chex.Array  # () eta
    hold: chex.Array  # () eps as a share of max_hold
    twin_reward: chex.Array  # () s, Eq. 17; 0 without a twin


def choose(
    config: AgentConfig, params: AgentParams, observation: Observation, key: chex.PRNGKey, explore: bool
) -> Choice:
    """Choose for one unbatched observation.

    Args:
        config: the agent's.
        params: its networks.
        observation: what is seen.
        key: for the exploration noise.
        explore: whether there is any.
    """
    features = encode(observation)
    if config.discrete:
        scores = node_logits(config, params.chooser, features)
        action = full_flow(jax.nn.softmax(scores))
    else:
        output = Actor(config).apply(params.actor, features)
        scores, action = output.nodes, relax(config, output)
    if explore:
        scores, action = _with_noise(config, scores, action, key)
    if params.twin is None:
        node, twin_reward = jnp.argmax(scores), jnp.float32(0.0)
    else:
        node, twin_reward = _best_in_twin(config, params, params.twin, observation, features, scores, action)
    bandwidth, hold = action.bandwidth[node], action.hold[node]
    chosen = Action(host=node.astype(jnp.int32), bandwidth=bandwidth, hold=hold * config.max_hold)
    return Choice(chosen, features, node.astype(jnp.int32), bandwidth, hold, twin_reward)


@functools.cache  # one function for one config, so that what is compiled for it is found again
def act(config: AgentConfig, env: CECEnv) -> Act:
    """The agent without noise; one that plans simulates the environment's mechanism in the known world."""
    if not config.plans:
        return lambda params, observation, _, key: choose(config, params, observation, key, explore=False).action
    ahead = PlanConfig(config.candidates, config.plan_steps, config.plan_toll, config.plan_samples)

    def decide(params: AgentParams, _: Observation, world: World, key: chex.PRNGKey) -> Action:
        forecast = functools.partial(foresee, params.forecast, config.plan_samples > 1)
        base = functools.partial(prefer, config, params)
        return plan(env, world, key, config=ahead, prefer=base, forecast=forecast)

    return decide


def prefer(config: AgentConfig, params: AgentParams, observation: Observation) -> Preference:
    """What the actor thinks of each node, as the base policy of a plan; the toll is its price of the traffic."""
    features = encode(observation)
    output = Actor(config).apply(params.actor, features)
    action = relax(config, output)
    toll = traffic_price(config, params.actor, features) * observation.nodes.traffic
    return Preference(output.nodes, action.bandwidth, action.hold * config.max_hold, toll)


def promise(
    config: AgentConfig,
    params: AgentParams,
    twin: TwinParams,
    features: Features,
    action: RelaxedAction,
    node: chex.Array,
) -> tuple[Features, chex.Array]:
    """What the twin foresees of a node: the next features, and the () scaled return.

    That is its reward plus the discounted critic's value of the state it foresees.
    """
    executed = action.replace(nodes=jax.nn.one_hot(node, action.nodes.shape[-1]))
    following, reward = predict(config, twin, features, executed)
    next_action = relax(config, Actor(config).apply(params.actor, following))
    return following, reward + config.discount * Critic(config).apply(params.critic, following, next_action)


def _with_noise(
    config: AgentConfig, scores: chex.Array, action: RelaxedAction, key: chex.PRNGKey
) -> tuple[chex.Array, RelaxedAction]:
    """Gumbel noise on the nodes' scores; now and then eta or eps anywhere in its range.

    Noise around the actor's own eta and eps would leave the critic to extrapolate over the rest of the range, and the
    actor to follow it there: holds then drift to their bound.
    """
    key_nodes, *keys = jax.random.split(key, 3)

    def now_and_then(value: chex.Array, key: chex.PRNGKey) -> chex.Array:
        key_when, key_value = jax.random.split(key)
        anywhere = jax.random.uniform(key_value, value.shape)
        return jnp.where(jax.random.bernoulli(key_when, config.flow_exploration), anywhere, value)

    scores = scores + config.exploration * jax.random.gumbel(key_nodes, scores.shape)
    if not config.learn_flow:
        return scores, action
    return scores, action.replace(
        bandwidth=now_and_then(action.bandwidth, keys[0]), hold=now_and_then(action.hold, keys[1])
    )


def _best_in_twin(
    config: AgentConfig,
    params: AgentParams,
    twin: TwinParams,
    observation: Observation,
    features: Features,
    scores: chex.Array,
    action: RelaxedAction,
) -> tuple[chex.Array, chex.Array]:
    """The best of the actor's preferred nodes, by its preference and by what one step in the twin promises.

    Returns:
        () i32 node and () s reward of Eq. 17.
    """
    num_nodes = scores.shape[-1]
    _, candidates = jax.lax.top_k(scores, min(config.candidates, num_nodes))

    def foresee(node: chex.Array) -> tuple[chex.Array, chex.Array]:
        following, ahead = promise(config, params, twin, features, action, node)
        # A softmax with entropy bonus e prefers nodes by value / e: so e times a score is in units of value.
        score = config.entropy * scores[node] + config.twin_score * ahead
        eps = action.hold[node] * config.max_hold
        return score, completion_reward(observation, node, action.bandwidth[node], eps, following)

    values, rewards = jax.vmap(foresee)(candidates)
    best = jnp.argmax(values)
    return candidates[best], rewards[best]
