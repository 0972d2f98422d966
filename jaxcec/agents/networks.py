"""Actor and critic in two forms: one scorer shared by all nodes (`per-node`), one vector (`flat`).

The discrete choice of a node is relaxed to a point of the simplex: see `RelaxedAction` and docs/learning.md.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import COSTS, Features, costs, mean_link, situation

_FULL_BANDWIDTH = 4.0  # initial logit of eta (0.98)
_NO_HOLD = -6.0  # initial logit of eps / max_hold (0.0025)
PRICES = "prices"  # where actor and critic keep the parameters of their `Prices`
_LEAST_DELAY_PRICE = 0.2
_FIRST_PRICES = dict.fromkeys(COSTS, 0.0) | {"behind": 1.0, "ahead": 0.5}


class RelaxedAction(struct.PyTreeNode):
    """The action as the critic takes it: a distribution over nodes, with eta and eps were each of them chosen.

    A decision that was executed has all its weight on one node.
    """

    nodes: chex.Array  # (V,) non-negative, sums to 1
    bandwidth: chex.Array  # (V,) eta
    hold: chex.Array  # (V,) eps as a share of max_hold


def expected_flow(action: RelaxedAction) -> tuple[chex.Array, chex.Array]:
    """Expected eta and eps of the choice, (..., 1) each."""
    bandwidth = jnp.sum(action.nodes * action.bandwidth, axis=-1, keepdims=True)
    return bandwidth, jnp.sum(action.nodes * action.hold, axis=-1, keepdims=True)


def full_flow(nodes: chex.Array) -> RelaxedAction:
    """A choice of nodes, (..., V), at full bandwidth and without hold."""
    ones = jnp.ones_like(nodes)
    return RelaxedAction(nodes=nodes, bandwidth=ones, hold=0.0 * ones)


class ActorOutput(NamedTuple):
    """Scores before noise, softmax and sigmoid; (V,) each."""

    nodes: chex.Array
    bandwidth: chex.Array
    hold: chex.Array


def relax(config: AgentConfig, output: ActorOutput) -> RelaxedAction:
    """The relaxed action of an actor's output."""
    if not config.learn_flow:
        return full_flow(jax.nn.softmax(output.nodes))
    return RelaxedAction(
        nodes=jax.nn.softmax(output.nodes),
        bandwidth=jax.nn.sigmoid(output.bandwidth),
        hold=jax.nn.sigmoid(output.hold),
    )


class MLP(nn.Module):
    """Hidden layers with ReLU, then a linear layer."""

    hidden: tuple[int, ...]
    outputs: int
    last_scale: float = 1.0  # scale of the last layer's initial weights

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        for units in self.hidden:
            x = nn.relu(nn.Dense(units)(x))
        init = nn.initializers.variance_scaling(self.last_scale, "fan_in", "truncated_normal")
        return nn.Dense(self.outputs, kernel_init=init)(x)


class RowMLP(nn.Module):
    """One MLP for every row, each beside what all rows share: the first layer's shared part is computed once."""

    hidden: tuple[int, ...]
    outputs: int
    last_scale: float = 1.0

    @nn.compact
    def __call__(self, rows: chex.Array, shared: chex.Array) -> chex.Array:
        common = nn.Dense(self.hidden[0], use_bias=False)(shared)
        x = nn.relu(nn.Dense(self.hidden[0])(rows) + common[..., None, :])
        return MLP(self.hidden[1:], self.outputs, self.last_scale)(x)


def flat_input(features: Features, *extra: chex.Array) -> chex.Array:
    """(..., F): everything in one vector."""
    batch = features.context.shape[:-1]
    parts = [features.nodes.reshape((*batch, -1)), features.links.reshape((*batch, -1)), features.context, *extra]
    return jnp.concatenate(parts, axis=-1)


def _shared_input(features: Features) -> chex.Array:
    """(..., F): what the scorer of a node sees beside that node's row; means over nodes and over links."""
    return jnp.concatenate([features.context, features.nodes.mean(-2), mean_link(features)], axis=-1)


class Prices(nn.Module):
    """The price of each of COSTS, (..., 6), s per s.

    Linear in the `situation`, so they can rise with the load. They begin as the constants of a rule that needs no
    learning: the earliest finish with a look at the path ahead.
    """

    @nn.compact
    def __call__(self, features: Features) -> chex.Array:
        first = nn.initializers.constant(jnp.array([_FIRST_PRICES[name] for name in COSTS]))
        return nn.Dense(len(COSTS), kernel_init=nn.initializers.zeros, bias_init=first)(situation(features))


def priced(config: AgentConfig, prices: chex.Array, features: Features) -> chex.Array:
    """What each node costs at these prices, (..., V) in scaled reward."""
    return config.reward_scale * jnp.sum(prices[..., None, :] * costs(features), axis=-1)


def traffic_price(config: AgentConfig, actor: chex.ArrayTree, features: Features) -> chex.Array:
    """() what an actor pays for a second of a link's whole bandwidth, in s of delay; a flat one has no prices: 0."""
    if config.network == "flat":
        return jnp.float32(0.0)
    prices = Prices().apply({"params": actor["params"][PRICES]}, features)
    traffic, delay = (prices[..., COSTS.index(name)] for name in ("traffic", "behind"))
    return jnp.maximum(traffic, 0.0) / jnp.maximum(delay, _LEAST_DELAY_PRICE)


class Actor(nn.Module):
    """mu of Eq. 18: features to scores of every node, with eta and eps for each.

    Per node, scores are values in units of `entropy`: what a softmax with that weight on its entropy prefers.
    """

    config: AgentConfig

    @nn.compact
    def __call__(self, features: Features) -> ActorOutput:
        num_nodes = features.nodes.shape[-2]
        if self.config.network == "per-node":
            out = RowMLP(self.config.hidden, 3, last_scale=0.01)(features.nodes, _shared_input(features))
            cost = priced(self.config, Prices(name=PRICES)(features), features)
            out = out.at[..., 0].add(-cost / self.config.entropy)
        else:
            out = MLP(self.config.hidden, 3 * num_nodes, last_scale=0.01)(flat_input(features))
            out = out.reshape((*out.shape[:-1], num_nodes, 3))
        return ActorOutput(out[..., 0], out[..., 1] + _FULL_BANDWIDTH, out[..., 2] + _NO_HOLD)


class Critic(nn.Module):
    """Q of Eq. 22. Per node it is linear in the distribution over nodes: the expected value of the choice."""

    config: AgentConfig

    @nn.compact
    def __call__(self, features: Features, action: RelaxedAction) -> chex.Array:
        if self.config.network == "per-node":
            rows = jnp.concatenate([features.nodes, jnp.stack([action.bandwidth, action.hold], axis=-1)], axis=-1)
            values = RowMLP(self.config.hidden, 1, last_scale=0.01)(rows, _shared_input(features))[..., 0]
            values = values - priced(self.config, Prices(name=PRICES)(features), features)
            values = values + MLP(self.config.hidden, 1)(_shared_input(features))
            return jnp.sum(action.nodes * values, axis=-1)
        return MLP(self.config.hidden, 1)(flat_input(features, action.nodes, *expected_flow(action)))[..., 0]


class Value(nn.Module):
    """V of a state, (...) scaled reward: what PPO's advantages are measured from."""

    config: AgentConfig

    @nn.compact
    def __call__(self, features: Features) -> chex.Array:
        inputs = _shared_input(features) if self.config.network == "per-node" else flat_input(features)
        return MLP(self.config.hidden, 1)(inputs)[..., 0]


def node_values(config: AgentConfig, critic: chex.ArrayTree, features: Features) -> chex.Array:
    """Q of every node at full bandwidth and without hold, (..., V) scaled reward."""
    shape = features.nodes.shape[:-1]

    def value(choice: chex.Array) -> chex.Array:
        return Critic(config).apply(critic, features, full_flow(jnp.broadcast_to(choice, shape)))

    # Per node, the critic's scorer does not depend on the choice, and vmap evaluates it once for all of them.
    return jax.vmap(value, out_axes=-1)(jnp.eye(shape[-1]))


def node_logits(
    config: AgentConfig, network: chex.ArrayTree, features: Features, mask: chex.Array | bool = True
) -> chex.Array:
    """The discrete head: logits of a categorical over the nodes, (..., V).

    Args:
        config: the agent's.
        network: PPO's actor, whose scores they are; DQN's critic, whose values they are in units of `entropy`, as are
            the actor's scores.
        features: (...) of the state.
        mask: (..., V) nodes that may be chosen; by default all.
    """
    if config.algorithm == "dqn":
        logits = node_values(config, network, features) / config.entropy
    else:
        logits = Actor(config).apply(network, features).nodes
    # Not minus infinity: of that, the entropy would be no number.
    return jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
