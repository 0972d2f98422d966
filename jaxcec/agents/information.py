"""What an agent sees: three levels of information about nodes and links.

- `state`: Eq. 10 to 12 as printed. What is free now, other tenants' load now, nominal rates, the service and its DAG.
- `mirror`: also what a twin of the system keeps, the work committed to each node and the traffic committed to each
  link that has not been done yet, and when it is due to end. It is the scheduler's own bookkeeping.
- `lookahead`: also the mechanism's exact answers, when each edge node would have the input and finish the microservice.
"""

from __future__ import annotations

from typing import Literal

import chex
import jax.numpy as jnp

from jaxcec.env import INFEASIBLE, NodeObservation, Observation

Information = Literal["state", "mirror", "lookahead"]
MIRRORED_AT_NODES = ("backlog", "committed", "path_busy", "path_committed", "path_committed_total", "path_contended")
MIRRORED_AT_LINKS = ("backlog", "busy")


def restricted(observation: Observation, level: Information) -> Observation:
    """The unbatched observation as an agent of a level sees it; unseen leaves have values that follow from others.

    Below `lookahead`, nothing waits: the input arrives at the nominal rates, and the microservice runs at once. At
    `state`, nothing is known to be committed, and the service is expected to take its remaining path at the mean
    speed of the nodes.
    """
    if level == "lookahead":
        return observation
    seen = observation.replace(nodes=timed(observation.nodes, observation.nodes.transfer, jnp.float32(0.0)))
    if level == "mirror":
        return seen
    nodes, microservice = seen.nodes, seen.microservice
    running = jnp.sum(nodes.speed > 0.0).astype(jnp.float32)
    speed = jnp.sum(nodes.speed) / jnp.maximum(running, 1.0)
    return seen.replace(
        nodes=nodes.replace(**{name: jnp.zeros_like(nodes.backlog) for name in MIRRORED_AT_NODES}),
        links=seen.links.replace(**{name: jnp.zeros_like(seen.links.backlog) for name in MIRRORED_AT_LINKS}),
        service=seen.service.replace(
            slack=jnp.zeros_like(seen.service.slack), expected=microservice.rank / jnp.where(speed > 0.0, speed, 1.0)
        ),
    )


def timed(nodes: NodeObservation, data_ready: chex.Array, wait: chex.Array) -> NodeObservation:
    """The nodes with other answers to when the input is there and how long the microservice then waits, (V,) s each."""
    feasible = nodes.feasible > 0.0
    return nodes.replace(
        data_ready=data_ready,
        wait=jnp.where(feasible, wait, INFEASIBLE),
        finish=jnp.where(feasible, data_ready + wait + nodes.execution, INFEASIBLE),
    )
