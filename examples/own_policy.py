"""Custom policies in the table of eval.py, without changing the package:

python eval.py --dataset synthetic --policies eft greedy --policy examples.own_policy:least_backlog
"""

import chex
import jax.numpy as jnp

from jaxcec.env import Action, Observation
from jaxcec.policies import at_full_rate


def least_backlog(observation: Observation, key: chex.PRNGKey) -> Action:
    """Choose the node whose reservations end first, regardless of where the input is."""
    return at_full_rate(jnp.argmin(observation.nodes.backlog))


def patient(observation: Observation, key: chex.PRNGKey) -> Action:
    """Choose the earliest finish; a flow whose input would wait anyway takes half of the bandwidth."""
    nodes = observation.nodes
    node = jnp.argmin(nodes.finish)
    in_no_hurry = nodes.wait[node] > 2.0 * nodes.transfer[node]
    return at_full_rate(node).replace(bandwidth=jnp.where(in_no_hurry, 0.5, 1.0))
