"""Baseline rules: those of section V.A, and rules that use the timeline (EFT, PEFT).

All of them send data at full rate without hold, and receive the same observation as an agent. All but `srpt` decide
first come first served.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, Observation

# s of delay to other services per second of a link's whole bandwidth; the best of 0.5, 1 and 1.5 on training episodes.
TRAFFIC_PRICE = 1.0


class Patience(NamedTuple):
    """When a service gives way to shorter ones, and for how long: see `giving_way`."""

    shorter: chex.Numeric  # services with less remaining work for which it gives way
    delay: chex.Numeric  # s, by which others delay a microservice that gives way
    again: chex.Numeric  # s per shorter service until it is decided again
    again_later: chex.Numeric  # and s per second by which the delay exceeds `delay`


# Tuned on training episodes of both datasets under heavy load (docs/results.md).
SRPT = Patience(shorter=5.0, delay=0.3, again=0.05, again_later=1.0)


class Policy(Protocol):
    """Chooses an action for one environment; learned policies have their parameters in a closure."""

    def __call__(self, observation: Observation, key: chex.PRNGKey) -> Action:
        """The action for one observation without batch axes."""


def local_device(observation: Observation, key: chex.PRNGKey) -> Action:
    """LE: every microservice runs on the end device of its service's source."""
    num_nodes = observation.service.source.shape[-1]
    return at_full_rate(num_nodes + jnp.argmax(observation.service.source))


def local_node(observation: Observation, key: chex.PRNGKey) -> Action:
    """Every microservice runs on the edge node of its service's source, or on the first one that can run it."""
    return at_full_rate(jnp.argmax(observation.nodes.feasible * (1.0 + observation.service.source)))


def random_node(observation: Observation, key: chex.PRNGKey) -> Action:
    """Every microservice runs on an edge node drawn uniformly from those that can run it."""
    count = jnp.sum(observation.nodes.feasible).astype(jnp.int32)
    return at_full_rate(nth_feasible(observation, jax.random.randint(key, (), 0, jnp.maximum(count, 1))))


def greedy(observation: Observation, key: chex.PRNGKey) -> Action:
    """The paper's greedy rule: least wait + transfer at nominal path bandwidth + execution, without link contention."""
    nodes = observation.nodes
    return at_full_rate(jnp.argmin(nodes.wait + nodes.transfer + nodes.execution))


def earliest_finish(observation: Observation, key: chex.PRNGKey) -> Action:
    """EFT: the edge node with the earliest finish according to the timelines."""
    return at_full_rate(jnp.argmin(observation.nodes.finish))


def priced_earliest_finish(observation: Observation, key: chex.PRNGKey) -> Action:
    """EFT with a price for the link time it takes from others: least finish + TRAFFIC_PRICE x traffic."""
    return at_full_rate(jnp.argmin(observation.nodes.finish + TRAFFIC_PRICE * observation.nodes.traffic))


def predicted_finish(observation: Observation, key: chex.PRNGKey) -> Action:
    """PEFT: EFT with the remaining path, least finish + ahead (Arabnejad and Barbosa, IEEE TPDS 2014)."""
    return at_full_rate(jnp.argmin(observation.nodes.finish + observation.nodes.ahead))


def priced_predicted_finish(observation: Observation, key: chex.PRNGKey) -> Action:
    """PEFT with the price of `priced_earliest_finish`: least finish + ahead + TRAFFIC_PRICE x traffic."""
    nodes = observation.nodes
    return at_full_rate(jnp.argmin(nodes.finish + nodes.ahead + TRAFFIC_PRICE * nodes.traffic))


def srpt(observation: Observation, key: chex.PRNGKey) -> Action:
    """Shortest remaining processing time: `priced_earliest_finish` in which long services give way to short ones."""
    return give_way(priced_earliest_finish(observation, key), observation, SRPT)


def give_way(action: Action, observation: Observation, patience: Patience) -> Action:
    """The action for an edge node, postponed while its service should give way: see `giving_way`."""
    return action.replace(postpone=giving_way(observation, patience)[action.host])


def giving_way(observation: Observation, patience: Patience) -> chex.Array:
    """(V,) s, by which a decision for each edge node is postponed so that shorter services come first; 0 is not at all.

    It is postponed while others would delay the microservice there and several other services have less remaining work.
    It is decided again when that delay is over, and of equal delays first where the service has less work.
    """
    nodes, shorter = observation.nodes, observation.service.shorter
    delay = nodes.finish - nodes.execution - nodes.transfer
    gives_way = (shorter >= patience.shorter) & (delay > patience.delay)
    again = patience.again * shorter + patience.again_later * (delay - patience.delay)
    return jnp.where(gives_way, again, 0.0)


def nth_feasible(observation: Observation, n: chex.Array) -> chex.Array:
    """() i32, the edge node number n, modulo their number, of those that can run the microservice; 0 if none can."""
    upto = jnp.cumsum(observation.nodes.feasible).astype(jnp.int32)
    return jnp.argmax(upto > n % jnp.maximum(upto[-1], 1)).astype(jnp.int32)


def at_full_rate(host: chex.Array) -> Action:
    """The action that sends to a host with the whole bandwidth and no hold."""
    return Action(host=host.astype(jnp.int32), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))


# What each rule sees of nodes and links: `agents.information` defines the words.
INFORMATION = {"le": "state", "local": "state", "random": "state", "greedy": "state and queue"}
BASELINES: dict[str, Policy] = {
    "le": local_device,
    "local": local_node,
    "random": random_node,
    "greedy": greedy,
    "eft": earliest_finish,
    "eft-priced": priced_earliest_finish,
    "peft": predicted_finish,
    "peft-priced": priced_predicted_finish,
    "srpt": srpt,
}
