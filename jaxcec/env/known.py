"""The known world: a copy of the environment without its future, in which a planner can simulate.

The simulator's mechanism is known and exact; other tenants' future load and future services are not. A planner receives
a `World` and nothing else, so a plan cannot depend on the future.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.env import background, timeline
from jaxcec.env.dag import current_decision, expected_completion, released
from jaxcec.env.types import Arrivals, Background, EnvParams, EnvState

HISTORY = 16  # frames


class World(struct.PyTreeNode):
    """Params and state of one environment, for `CECEnv.observe` and `CECEnv.step_env`, and the history of the load."""

    params: EnvParams
    state: EnvState
    history: chex.Array  # (E + H, HISTORY) share, other tenants' load in the last frames; the last one is the current


def known_world(state: EnvState, params: EnvParams) -> World:
    """The world in which no further service arrives and other tenants' load stays constant (see `with_forecast`).

    The current decision and its observation equal those of the true environment, and so does everything that follows
    until a service arrives or the load changes.
    """
    episode = state.episode
    now = current_decision(state, params).time
    known = released(episode, now)

    def if_released(rows: chex.Array, otherwise: chex.Array | float) -> chex.Array:
        return jnp.where(known, rows[episode.arrivals], otherwise)[None]

    arrivals = Arrivals(
        dag=if_released(params.arrivals.dag, 0),
        source=if_released(params.arrivals.source, 0),
        release=if_released(params.arrivals.release, jnp.inf),
    )
    episode = episode.replace(
        arrivals=jnp.zeros_like(episode.arrivals),
        next_ready=jnp.where(known, episode.next_ready, jnp.inf),
        next_microservice=jnp.where(known, episode.next_microservice, 0),
    )
    history = background.history_at(params.background, state.episode.offset, time=now, frames=HISTORY)
    world = World(params.replace(arrivals=arrivals), state.replace(episode=episode), history)
    return with_forecast(world, history[:, -1:])


def with_forecast(world: World, load: chex.Array) -> World:
    """Replace other tenants' load by a forecast.

    Args:
        world: the known world.
        load: (E + H, F) share in [0, 0.9] of each link and host in the current frame and in those that follow; after
            the last frame, the first is read again.
    """
    now = current_decision(world.state, world.params).time
    resources, frames = load.shape
    frame = world.params.background.frame
    elapsed = jnp.floor(now / frame).astype(jnp.int32)
    offset = jnp.arange(resources, dtype=jnp.int32) * frames + (-elapsed) % frames
    return world.replace(
        params=world.params.replace(background=Background(load=load, frame=frame)),
        state=world.state.replace(episode=world.state.episode.replace(offset=offset)),
    )


def coarse(state: EnvState, link_breakpoints: int, host_breakpoints: int) -> EnvState:
    """The state of one environment with timelines for fewer breakpoints: the cost of a step grows with their columns.

    The last segments that do not fit are merged: see `timeline.compacted`.
    """
    hosts = jax.vmap(timeline.cleared_unless)(state.episode.touched, state.hosts)
    return state.replace(
        episode=state.episode.replace(touched=jnp.ones_like(state.episode.touched)),
        links=timeline.compacted(state.links, link_breakpoints),
        hosts=jax.vmap(timeline.compacted, in_axes=(0, None))(hosts, host_breakpoints),
    )


def expected_completions(state: EnvState, params: EnvParams) -> chex.Array:
    """(M,) s, `dag.expected_completion` of every service; 0 for a service that a known world does not have."""
    episode = state.episode
    row = params.arrivals.dag[episode.arrivals]
    release = params.arrivals.release[episode.arrivals] / params.arrival_rate
    fresh = ~episode.begun[:, None]
    expected = expected_completion(
        pending=jnp.where(fresh, params.dags.in_degree[row], state.pending),
        ready=jnp.where(fresh, release[:, None], state.ready),
        rank=params.dags.rank[row],
        speed=params.network.speed[episode.topology],
        release=release,
        completion=episode.completion,
    )
    return jnp.where(jnp.isfinite(episode.next_ready), expected, episode.completion)
