"""DDPG (Eq. 18-23) with target networks, and the twin fitted in turn with it (Algorithm 2, lines 13-18)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features
from jaxcec.agents.forecast import init_forecast
from jaxcec.agents.networks import Actor, Critic, RelaxedAction, Value, relax
from jaxcec.agents.replay import Experience
from jaxcec.agents.twin import TwinParams, init_twin, twin_loss

_GRADIENT_NORM = 10.0


class AgentParams(struct.PyTreeNode):
    """Everything that choosing an action needs."""

    actor: chex.ArrayTree | None  # None where the critic chooses (dqn)
    critic: chex.ArrayTree  # Q, or the value of a state (ppo)
    twin: TwinParams | None  # None without a learned transition model
    forecast: chex.ArrayTree | None  # None unless the agent plans

    @property
    def chooser(self) -> chex.ArrayTree:
        """The network that scores the nodes."""
        return self.critic if self.actor is None else self.actor


class AgentState(struct.PyTreeNode):
    """Everything that learning needs."""

    params: AgentParams
    target: AgentParams  # theta', w'; None for a network that has none: twin, forecast, on policy all
    actor_optimiser: optax.OptState | None
    critic_optimiser: optax.OptState
    twin_optimiser: optax.OptState | None

    @property
    def policy(self) -> AgentParams:
        """What to act with once nothing more is learned: the targets if there are some, for they average updates."""
        if self.target.critic is None:
            return self.params
        return self.target.replace(twin=self.params.twin, forecast=self.params.forecast)


def init_params(config: AgentConfig, key: chex.PRNGKey, features: Features) -> AgentParams:
    """Fresh networks for features of these shapes."""
    key_actor, key_critic, key_twin, key_forecast = jax.random.split(key, 4)
    num_nodes = features.nodes.shape[-2]
    action = RelaxedAction(*(jnp.full(num_nodes, 1.0 / num_nodes) for _ in range(3)))
    return AgentParams(
        actor=None if config.algorithm == "dqn" else Actor(config).init(key_actor, features),
        critic=Value(config).init(key_critic, features)
        if config.on_policy
        else Critic(config).init(key_critic, features, action),
        twin=init_twin(config, key_twin, features, action) if config.has_twin else None,
        forecast=init_forecast(key_forecast) if config.plans else None,
    )


def init_agent(config: AgentConfig, key: chex.PRNGKey, features: Features) -> AgentState:
    """Fresh networks, their targets and optimisers (Algorithm 2, lines 1-3)."""
    params = init_params(config, key, features)
    actor, critic, twin = optimisers(config)
    followed = params.replace(twin=None, forecast=None)
    if config.on_policy:
        followed = followed.replace(actor=None, critic=None)
    return AgentState(
        params=params,
        # a copy: what is donated may not be named twice
        target=jax.tree.map(jnp.copy, followed),
        actor_optimiser=None if params.actor is None else actor.init(params.actor),
        critic_optimiser=critic.init(params.critic),
        twin_optimiser=None if params.twin is None else twin.init(params.twin),
    )


def optimisers(config: AgentConfig) -> tuple[optax.GradientTransformation, ...]:
    """Adam with clipped gradients for actor, critic and twin."""
    rates = (config.actor_learning_rate, config.critic_learning_rate, config.twin_learning_rate)
    return tuple(optax.chain(optax.clip_by_global_norm(_GRADIENT_NORM), optax.adam(rate)) for rate in rates)


def executed_action(batch: Experience, num_nodes: int) -> RelaxedAction:
    """Executed decisions in relaxed form: all weight on the chosen node."""
    shape = (*batch.node.shape, num_nodes)
    return RelaxedAction(
        nodes=jax.nn.one_hot(batch.node, num_nodes),
        bandwidth=jnp.broadcast_to(batch.bandwidth[..., None], shape),
        hold=jnp.broadcast_to(batch.hold[..., None], shape),
    )


def critic_loss(config: AgentConfig, critic: chex.ArrayTree, target: AgentParams, batch: Experience) -> chex.Array:
    """Eq. 22 with the target of Eq. 23."""
    next_action = relax(config, Actor(config).apply(target.actor, batch.following))
    bootstrap = Critic(config).apply(target.critic, batch.following, next_action)
    return bellman_error(config, critic, batch, bootstrap)


def bellman_error(config: AgentConfig, critic: chex.ArrayTree, batch: Experience, bootstrap: chex.Array) -> chex.Array:
    """Mean square error of Q of what was executed, given the (batch,) value of what follows.

    Truncated transitions have no weight.
    """
    goal = jax.lax.stop_gradient(batch.reward + batch.discount * bootstrap)
    value = Critic(config).apply(critic, batch.features, executed_action(batch, batch.features.nodes.shape[-2]))
    return weighted_mean(jnp.square(goal - value), batch.weight)


def weighted_mean(x: chex.Array, weight: chex.Array) -> chex.Array:
    """() mean of what has weight; 0 if nothing has."""
    return jnp.sum(weight * x) / jnp.maximum(jnp.sum(weight), 1.0)


def actor_loss(config: AgentConfig, actor: chex.ArrayTree, critic: chex.ArrayTree, batch: Experience) -> chex.Array:
    """Minus Eq. 20 by Eq. 21: the critic's value of the relaxed choice.

    Two small terms keep the actor where the critic is indifferent: entropy of the choice of node, and a cost of holding
    and of leaving bandwidth unused, without which eta and eps drift to a bound wherever they do not matter.
    """
    action = relax(config, Actor(config).apply(actor, batch.features))
    value = Critic(config).apply(critic, batch.features, action)
    entropy = -jnp.sum(action.nodes * jnp.log(action.nodes + 1e-8), axis=-1)
    idle = jnp.mean(action.hold + 1.0 - action.bandwidth, axis=-1)
    return -jnp.mean(value + config.entropy * entropy - config.flow_cost * idle)


def update(
    config: AgentConfig, state: AgentState, batch: Experience, steps: Experience
) -> tuple[AgentState, dict[str, chex.Array]]:
    """One step of every network: twin, critic, actor, targets.

    Args:
        config: the agent's.
        state: what it has learned.
        batch: transitions over `return_steps` decisions, for the critic and the actor.
        steps: transitions over one, for the twin.
    """
    actor_optimiser, critic_optimiser, twin_optimiser = optimisers(config)
    params, metrics = state.params, {}
    twin_state = state.twin_optimiser
    if params.twin is not None:
        executed = executed_action(steps, steps.features.nodes.shape[-2])
        valid = steps.weight * (steps.discount > 0.0).astype(jnp.float32)
        grads, errors = jax.grad(
            lambda p: twin_loss(config, p, steps.features, executed, steps.reward, steps.following, valid),
            has_aux=True,
        )(params.twin)
        updates, twin_state = twin_optimiser.update(grads, twin_state)
        params = params.replace(twin=optax.apply_updates(params.twin, updates))
        metrics = {"twin_error": errors.transition_error, "twin_reward_error": errors.reward_error}

    loss_critic, grads = jax.value_and_grad(lambda p: critic_loss(config, p, state.target, batch))(params.critic)
    updates, critic_state = critic_optimiser.update(grads, state.critic_optimiser)
    params = params.replace(critic=optax.apply_updates(params.critic, updates))

    loss_actor, grads = jax.value_and_grad(lambda p: actor_loss(config, p, params.critic, batch))(params.actor)
    updates, actor_state = actor_optimiser.update(grads, state.actor_optimiser)
    params = params.replace(actor=optax.apply_updates(params.actor, updates))

    target = optax.incremental_update(params.replace(twin=None, forecast=None), state.target, config.target_rate)
    metrics |= {"critic_loss": loss_critic, "actor_loss": loss_actor}
    return AgentState(params, target, actor_state, critic_state, twin_state), metrics
