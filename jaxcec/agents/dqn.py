"""Double DQN with the critic, replay and returns of DDPG: the critic itself chooses, and there is no actor.

Mnih et al., Human-level control through deep reinforcement learning, Nature 2015; van Hasselt et al., Deep
reinforcement learning with double Q-learning, AAAI 2016.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import optax

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import AgentState, bellman_error, optimisers
from jaxcec.agents.networks import node_logits, node_values
from jaxcec.agents.replay import Experience


def q_loss(config: AgentConfig, critic: chex.ArrayTree, target: chex.ArrayTree, batch: Experience) -> chex.Array:
    """() Bellman error; the online critic says which node comes next, the target what it is worth."""
    node = jnp.argmax(node_logits(config, critic, batch.following), axis=-1, keepdims=True)
    bootstrap = jnp.take_along_axis(node_values(config, target, batch.following), node, axis=-1)[..., 0]
    return bellman_error(config, critic, batch, bootstrap)


def update(config: AgentConfig, state: AgentState, batch: Experience) -> tuple[AgentState, dict[str, chex.Array]]:
    """One step of the critic and its target.

    Args:
        config: the agent's.
        state: what it has learned.
        batch: transitions over `return_steps` decisions.
    """
    _, optimiser, _ = optimisers(config)
    loss, grads = jax.value_and_grad(lambda p: q_loss(config, p, state.target.critic, batch))(state.params.critic)
    updates, critic_state = optimiser.update(grads, state.critic_optimiser)
    params = state.params.replace(critic=optax.apply_updates(state.params.critic, updates))
    target = optax.incremental_update(params, state.target, config.target_rate)
    return state.replace(params=params, target=target, critic_optimiser=critic_state), {"critic_loss": loss}
