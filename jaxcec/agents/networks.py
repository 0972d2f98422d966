"""Actor, critic and value, each in two forms.

`per-node` shares one scorer among all nodes: it depends neither on their order nor on their number, and its scores are
minus the priced costs of each node plus a small network's correction. `flat` reads all features as one vector, as the
paper's networks do, and learns each node separately. The discrete choice of a node is relaxed to a point of the
simplex: see `types.RelaxedAction` and docs/agents.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import COSTS, Features, costs, load_context, mean_link, mean_node, only_feasible
from jaxcec.agents.types import ActorOutput, AgentParams, RelaxedAction
from jaxcec.policies import SRPT, Patience

PATIENCE = "patience"  # name of its parameter, the logarithms of a `Patience`
PRICES = "prices"  # name of the submodule `Prices` in every network that has one
_FULL_BANDWIDTH = 4.0  # initial logit of eta (0.98)
_NO_HOLD = -6.0  # initial logit of eps / max_hold (0.0025)
_LEAST_DELAY_PRICE = 0.2
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
    """The price of each of COSTS, (..., 6), s per s, and the patience with which its service gives way to shorter ones.

    Prices are linear in `load_context`, so they can rise with the load. They begin as the constants of a rule that
    needs no learning: the earliest finish, plus half of the critical path that follows.
    """

    @nn.compact
    def __call__(self, features: Features) -> chex.Array:
        self.param(PATIENCE, lambda key: jnp.log(jnp.array(SRPT, jnp.float32)))  # only read by `patience_of`
        first = nn.initializers.constant(jnp.array([_FIRST_PRICES[name] for name in COSTS]))
        return nn.Dense(len(COSTS), kernel_init=nn.initializers.zeros, bias_init=first)(load_context(features))


class PerNodeActor(nn.Module):
    """mu of Eq. 18. Scores are values in units of `entropy`: their softmax maximises value plus weighted entropy."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features) -> ActorOutput:
        out = RowMLP(config.hidden, 3, last_scale=0.01)(features.nodes, _shared(features))
        cost = priced(config, Prices(name=PRICES)(features), features)
        out = out.at[..., 0].add(-cost * inverse_entropy(config))
        return _actor_output(out)


class PerNodeCritic(nn.Module):
    """Q of Eq. 22, linear in the distribution over nodes: the expected value of the choice."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features, action: RelaxedAction) -> chex.Array:
        rows = jnp.concatenate([features.nodes, jnp.stack([action.bandwidth, action.hold], axis=-1)], axis=-1)
        values = RowMLP(config.hidden, 1, last_scale=0.01)(rows, _shared(features))[..., 0]
        values = values - priced(config, Prices(name=PRICES)(features), features)
        values = values + MLP(config.hidden, 1)(_shared(features))
        return jnp.sum(action.nodes * values, axis=-1)


class FlatActor(nn.Module):
    """mu of Eq. 18."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features) -> ActorOutput:
        num_nodes = features.nodes.shape[-2]
        out = MLP(config.hidden, 3 * num_nodes, last_scale=0.01)(flat_features(features))
        return _actor_output(out.reshape((*out.shape[:-1], num_nodes, 3)))


class FlatCritic(nn.Module):
    """Q of Eq. 22."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features, action: RelaxedAction) -> chex.Array:
        flow = (jnp.sum(action.nodes * x, axis=-1, keepdims=True) for x in (action.bandwidth, action.hold))  # expected
        return MLP(config.hidden, 1)(flat_features(features, action.nodes, *flow))[..., 0]


class Value(nn.Module):
    """V of a state, (...) scaled reward, in either form."""

    @nn.compact
    def __call__(self, config: AgentConfig, features: Features) -> chex.Array:
        inputs = _shared(features) if config.network == "per-node" else flat_features(features)
        return MLP(config.hidden, 1)(inputs)[..., 0]


class Form(NamedTuple):
    """One form of all networks. The modules hold nothing: the settings come with each call."""

    actor: nn.Module
    critic: nn.Module
    value: nn.Module


FORMS = {"per-node": Form(PerNodeActor(), PerNodeCritic(), Value()), "flat": Form(FlatActor(), FlatCritic(), Value())}


class Networks:
    """The networks of some settings, as functions of their parameters. All inputs may have leading batch axes."""

    def __init__(self, config: AgentConfig):
        self.config, self.form = config, FORMS[config.network]

    def init(self, network: str, key: chex.PRNGKey, features: Features) -> chex.ArrayTree:
        """New parameters of a network, named as in `Form`, for unbatched features of these shapes."""
        action = (full_flow(features.nodes[:, 0]),) if network == "critic" else ()
        return getattr(self.form, network).init(key, self.config, features, *action)

    def actor(self, actor: chex.ArrayTree, features: Features) -> ActorOutput:
        """Scores, eta and eps of every node before noise, softmax and sigmoid."""
        output: ActorOutput = self.form.actor.apply(actor, self.config, features)
        return output._replace(nodes=only_feasible(output.nodes, features))

    def relaxed(self, output: ActorOutput) -> RelaxedAction:
        """The relaxed action of an actor's output."""
        if not self.config.learn_flow:
            return full_flow(jax.nn.softmax(output.nodes))
        bandwidth, hold = jax.nn.sigmoid(output.bandwidth), jax.nn.sigmoid(output.hold)
        return RelaxedAction(nodes=jax.nn.softmax(output.nodes), bandwidth=bandwidth, hold=hold)

    def act(self, actor: chex.ArrayTree, features: Features) -> RelaxedAction:
        """The actor's relaxed action."""
        return self.relaxed(self.actor(actor, features))

    def q(self, critic: chex.ArrayTree, features: Features, action: RelaxedAction) -> chex.Array:
        """Q of a relaxed action, (...) scaled reward."""
        return self.form.critic.apply(critic, self.config, features, action)

    def q_of_nodes(self, critic: chex.ArrayTree, features: Features) -> chex.Array:
        """Q of every node at full bandwidth and without a hold, (..., V) scaled reward."""
        shape = features.nodes.shape[:-1]

        def value(choice: chex.Array) -> chex.Array:
            return self.q(critic, features, full_flow(jnp.broadcast_to(choice, shape)))

        # The per-node critic's scorer does not depend on the choice: vmap evaluates it once for all of them.
        return jax.vmap(value, out_axes=-1)(jnp.eye(shape[-1]))

    def value(self, critic: chex.ArrayTree, features: Features) -> chex.Array:
        """V of a state, (...) scaled reward."""
        return self.form.value.apply(critic, self.config, features)


def full_flow(nodes: chex.Array) -> RelaxedAction:
    """A choice of nodes, (..., V), at full bandwidth and without a hold."""
    ones = jnp.ones_like(nodes)
    return RelaxedAction(nodes=nodes, bandwidth=ones, hold=0.0 * ones)


def flat_features(features: Features, *extra: chex.Array) -> chex.Array:
    """(..., F): all features, and further (..., n) inputs, in one vector."""
    batch = features.context.shape[:-1]
    parts = [features.nodes.reshape((*batch, -1)), features.links.reshape((*batch, -1)), features.context, *extra]
    return jnp.concatenate(parts, axis=-1)


def priced(config: AgentConfig, prices: chex.Array, features: Features) -> chex.Array:
    """Cost of each node at given prices, (..., V) in scaled reward."""
    return config.reward_scale * jnp.sum(prices[..., None, :] * costs(features), axis=-1)


def prices_of(params: AgentParams) -> Any:
    """The parameters of `Prices` in the first network that has any; None if there are none."""
    return next((x[PRICES] for x in jax.tree.leaves(params, is_leaf=has_prices) if has_prices(x)), None)


def has_prices(x: Any) -> bool:
    """Whether a part of a tree of parameters contains those of `Prices`."""
    return isinstance(x, dict) and PRICES in x


def patience_of(prices: Any, pace: chex.Numeric = 1.0) -> Patience:
    """The patience in the parameters of `Prices`, at first that of the rule `srpt`; also that if there are none.

    Its times are those at a pace, `features.pace_of`.
    """
    found = SRPT if prices is None else Patience(*jnp.exp(prices[PATIENCE]))
    return found._replace(delay=pace * found.delay, again=pace * found.again)


def inverse_entropy(config: AgentConfig) -> chex.Array:
    """() f32, 1 / `entropy`: values times it are in units of `entropy`.

    XLA replaces a division by a constant with this product. Written out, a traced setting gives the same bits.
    """
    return 1.0 / jnp.asarray(config.entropy, jnp.float32)


def traffic_price(actor: chex.ArrayTree, features: Features) -> chex.Array:
    """() price of a second of a link's whole bandwidth, in s of delay; 0 for an actor without prices."""
    if PRICES not in actor["params"]:
        return jnp.float32(0.0)
    prices = Prices().apply({"params": actor["params"][PRICES]}, features)
    traffic, delay = (prices[..., COSTS.index(name)] for name in ("traffic", "behind"))
    return jnp.maximum(traffic, 0.0) / jnp.maximum(delay, _LEAST_DELAY_PRICE)


def _shared(features: Features) -> chex.Array:
    """(..., F): inputs of a scorer in addition to a node's row: context, means over nodes and over links."""
    return jnp.concatenate([features.context, mean_node(features), mean_link(features)], axis=-1)


def _actor_output(out: chex.Array) -> ActorOutput:
    return ActorOutput(out[..., 0], out[..., 1] + _FULL_BANDWIDTH, out[..., 2] + _NO_HOLD)
