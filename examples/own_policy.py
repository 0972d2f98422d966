"""Own policies in eval.py's table, without touching the package:

python eval.py --dataset synthetic --policies eft greedy --policy examples.own_policy:least_backlog
"""

import chex
import jax.numpy as jnp

from jaxcec.env import Action, Observation
from jaxcec.policies import at_full_rate


def least_backlog(observation: Observation, key: chex.PRNGKey) -> Action:
    """The node whose reservations end first, wherever the input lies."""
    return at_full_rate(jnp.argmin(observation.nodes.backlog))


def patient(observation: Observation, key: chex.PRNGKey) -> Action:
    """The earliest finish, but a flow that is in no hurry takes half of the bandwidth."""
    nodes = observation.nodes
    node = jnp.argmin(nodes.finish)
    in_no_hurry = nodes.wait[node] > 2.0 * nodes.transfer[node]
    return at_full_rate(node).replace(bandwidth=jnp.where(in_no_hurry, 0.5, 1.0))
