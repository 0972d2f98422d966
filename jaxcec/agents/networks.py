"""Actor, critic, value and transition model in two forms, `per_node` and `flat`, and how they are evaluated.

The discrete choice of a node is relaxed to a point of the simplex: see `types.RelaxedAction` and docs/learning.md.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcec.agents import flat, per_node
from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import COSTS, Features
from jaxcec.agents.layers import PRICES, Prices, full_flow
from jaxcec.agents.types import ActorOutput, RelaxedAction

_LEAST_DELAY_PRICE = 0.2


class Networks(NamedTuple):
    """One form of all networks. Modules hold nothing: the settings come with each call."""

    actor: nn.Module  # (config, features) -> ActorOutput
    critic: nn.Module  # (config, features, action) -> (...) scaled return
    value: nn.Module  # (config, features) -> (...) scaled return
    transition: nn.Module  # (config, features, action) -> change of the features


NETWORKS = {
    "per-node": Networks(per_node.Actor(), per_node.Critic(), per_node.Value(), per_node.TransitionModel()),
    "flat": Networks(flat.Actor(), flat.Critic(), flat.Value(), flat.TransitionModel()),
}


def networks(config: AgentConfig) -> Networks:
    """The form of networks that the settings name."""
    return NETWORKS[config.network]


def actor_output(config: AgentConfig, actor: chex.ArrayTree, features: Features) -> ActorOutput:
    """Scores, eta and eps of every node before noise, softmax and sigmoid."""
    return networks(config).actor.apply(actor, config, features)


def q_value(config: AgentConfig, critic: chex.ArrayTree, features: Features, action: RelaxedAction) -> chex.Array:
    """Q of a relaxed action, (...) scaled reward."""
    return networks(config).critic.apply(critic, config, features, action)


def state_value(config: AgentConfig, critic: chex.ArrayTree, features: Features) -> chex.Array:
    """V of a state, (...) scaled reward."""
    return networks(config).value.apply(critic, config, features)


def q_of_nodes(config: AgentConfig, critic: chex.ArrayTree, features: Features) -> chex.Array:
    """Q of every node at full bandwidth and without a hold, (..., V) scaled reward."""
    shape = features.nodes.shape[:-1]

    def value(choice: chex.Array) -> chex.Array:
        return q_value(config, critic, features, full_flow(jnp.broadcast_to(choice, shape)))

    # The per-node critic's scorer does not depend on the choice: vmap evaluates it once for all of them.
    return jax.vmap(value, out_axes=-1)(jnp.eye(shape[-1]))


def relax(config: AgentConfig, output: ActorOutput) -> RelaxedAction:
    """The relaxed action of an actor's output."""
    if not config.learn_flow:
        return full_flow(jax.nn.softmax(output.nodes))
    return RelaxedAction(
        nodes=jax.nn.softmax(output.nodes),
        bandwidth=jax.nn.sigmoid(output.bandwidth),
        hold=jax.nn.sigmoid(output.hold),
    )


def relaxed_action(config: AgentConfig, actor: chex.ArrayTree, features: Features) -> RelaxedAction:
    """The actor's relaxed action."""
    return relax(config, actor_output(config, actor, features))


def traffic_price(actor: chex.ArrayTree, features: Features) -> chex.Array:
    """() price of a second of a link's whole bandwidth, in s of delay; 0 for an actor without prices."""
    if PRICES not in actor["params"]:
        return jnp.float32(0.0)
    prices = Prices().apply({"params": actor["params"][PRICES]}, features)
    traffic, delay = (prices[..., COSTS.index(name)] for name in ("traffic", "behind"))
    return jnp.maximum(traffic, 0.0) / jnp.maximum(delay, _LEAST_DELAY_PRICE)
