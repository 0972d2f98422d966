"""The rules that learned policies are held against (section V.A, and those that ask the timeline: EFT, PEFT).

All of them send data at full rate with no hold, first come first served, and see the same observation as an agent.
"""

from __future__ import annotations

from typing import Protocol

import chex
import jax
import jax.numpy as jnp

from jaxcec.env import Action, Observation

TRAFFIC_PRICE = (
    1.0  # s that a second of a link's whole bandwidth costs others; best of 0.5, 1, 1.5 on training episodes
)


class Policy(Protocol):
    """Chooses an action for one environment; learned policies carry their parameters in a closure."""

    def __call__(self, observation: Observation, key: chex.PRNGKey) -> Action:
        """Action for one unbatched observation."""


def local_device(observation: Observation, key: chex.PRNGKey) -> Action:
    """LE: every microservice on the end device its service came from."""
    num_nodes = observation.service.source.shape[-1]
    return at_full_rate(num_nodes + jnp.argmax(observation.service.source))


def local_node(observation: Observation, key: chex.PRNGKey) -> Action:
    """Every microservice on the edge node its service came to."""
    return at_full_rate(jnp.argmax(observation.service.source))


def random_node(observation: Observation, key: chex.PRNGKey) -> Action:
    """An edge node drawn uniformly."""
    return at_full_rate(jax.random.randint(key, (), 0, observation.service.source.shape[-1]))


def greedy(observation: Observation, key: chex.PRNGKey) -> Action:
    """The paper's: least wait at the node + transfer at nominal path bandwidth + run time, blind to contention."""
    nodes = observation.nodes
    return at_full_rate(jnp.argmin(nodes.wait + nodes.transfer + nodes.execution))


def earliest_finish(observation: Observation, key: chex.PRNGKey) -> Action:
    """EFT: asks the timeline itself when the microservice would finish on each edge node; takes the earliest."""
    return at_full_rate(jnp.argmin(observation.nodes.finish))


def priced_earliest_finish(observation: Observation, key: chex.PRNGKey) -> Action:
    """EFT that pays for the links it takes from others: least finish + TRAFFIC_PRICE x traffic."""
    return at_full_rate(jnp.argmin(observation.nodes.finish + TRAFFIC_PRICE * observation.nodes.traffic))


def predicted_finish(observation: Observation, key: chex.PRNGKey) -> Action:
    """PEFT: EFT that looks at the path behind, least finish + ahead (Arabnejad and Barbosa, IEEE TPDS 2014)."""
    return at_full_rate(jnp.argmin(observation.nodes.finish + observation.nodes.ahead))


def priced_predicted_finish(observation: Observation, key: chex.PRNGKey) -> Action:
    """PEFT that pays for links as `priced_earliest_finish` does: least finish + ahead + TRAFFIC_PRICE x traffic."""
    nodes = observation.nodes
    return at_full_rate(jnp.argmin(nodes.finish + nodes.ahead + TRAFFIC_PRICE * nodes.traffic))


def at_full_rate(host: chex.Array) -> Action:
    """The action of all that choose no more than a host: all the bandwidth, no hold."""
    return Action(host=host.astype(jnp.int32), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))


BASELINES: dict[str, Policy] = {
    "le": local_device,
    "local": local_node,
    "random": random_node,
    "greedy": greedy,
    "eft": earliest_finish,
    "eft-priced": priced_earliest_finish,
    "peft": predicted_finish,
    "peft-priced": priced_predicted_finish,
}
