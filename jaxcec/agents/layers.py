"""The building blocks of all networks, and the prices that scorers of nodes have in common."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax.numpy as jnp

from jaxcec.agents.features import COSTS, Features, load_context
from jaxcec.agents.types import RelaxedAction

FULL_BANDWIDTH = 4.0  # initial logit of eta (0.98)
NO_HOLD = -6.0  # initial logit of eps / max_hold (0.0025)
PRICES = "prices"  # name of the submodule `Prices` in every network that has one
_FIRST_PRICES = dict.fromkeys(COSTS, 0.0) | {"behind": 1.0, "ahead": 0.5}


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
    """One MLP applied to every row together with a vector that all rows share.

    The shared vector's part of the first layer is computed once.
    """

    hidden: tuple[int, ...]
    outputs: int
    last_scale: float = 1.0

    @nn.compact
    def __call__(self, rows: chex.Array, shared: chex.Array) -> chex.Array:
        common = nn.Dense(self.hidden[0], use_bias=False)(shared)
        x = nn.relu(nn.Dense(self.hidden[0])(rows) + common[..., None, :])
        return MLP(self.hidden[1:], self.outputs, self.last_scale)(x)


class Prices(nn.Module):
    """The price of each of COSTS, (..., 6), s per s.

    Prices are linear in `load_context`, so they can rise with the load. They begin as the constants of a rule that
    needs no learning: the earliest finish, plus half of the critical path that follows.
    """

    @nn.compact
    def __call__(self, features: Features) -> chex.Array:
        first = nn.initializers.constant(jnp.array([_FIRST_PRICES[name] for name in COSTS]))
        return nn.Dense(len(COSTS), kernel_init=nn.initializers.zeros, bias_init=first)(load_context(features))


def expected_flow(action: RelaxedAction) -> tuple[chex.Array, chex.Array]:
    """Expected eta and eps of a relaxed choice, (..., 1) each."""
    bandwidth = jnp.sum(action.nodes * action.bandwidth, axis=-1, keepdims=True)
    return bandwidth, jnp.sum(action.nodes * action.hold, axis=-1, keepdims=True)


def full_flow(nodes: chex.Array) -> RelaxedAction:
    """A choice of nodes, (..., V), at full bandwidth and without a hold."""
    ones = jnp.ones_like(nodes)
    return RelaxedAction(nodes=nodes, bandwidth=ones, hold=0.0 * ones)


def chosen_row(features: Features, action: RelaxedAction) -> chex.Array:
    """(..., F): the features of the chosen node, averaged over a relaxed choice."""
    return jnp.sum(action.nodes[..., None] * features.nodes, axis=-2)
