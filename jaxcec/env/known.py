"""What is known at a decision: a copy of the environment without the future, in which a plan can be simulated.

The mechanism of the simulator is known and exact; other tenants' load and the services to come are not. Whoever plans
is given a `World` and nothing else, so a plan cannot depend on what nobody can know.
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
    """One environment as `CECEnv.observe` and `CECEnv.step_env` take it."""

    params: EnvParams
    state: EnvState
    history: chex.Array  # (E + H, HISTORY) share, other tenants' load in the frames up to the one at hand


def known_world(state: EnvState, params: EnvParams) -> World:
    """Services not released yet never come; other tenants' load stays what it is now (`with_forecast` changes that).

    The decision at hand and its observation are those of the true environment, and so is everything that follows as
    long as no service comes and no load changes.
    """
    episode = state.episode
    now = current_decision(state, params).time
    there = released(episode, now)

    def if_released(rows: chex.Array, otherwise: chex.Array | float) -> chex.Array:
        return jnp.where(there, rows[episode.arrivals], otherwise)[None]

    arrivals = Arrivals(
        dag=if_released(params.arrivals.dag, 0),
        source=if_released(params.arrivals.source, 0),
        release=if_released(params.arrivals.release, jnp.inf),
    )
    episode = episode.replace(
        arrivals=jnp.zeros_like(episode.arrivals),
        next_ready=jnp.where(there, episode.next_ready, jnp.inf),
        next_microservice=jnp.where(there, episode.next_microservice, 0),
    )
    history = background.history_at(params.background, state.episode.offset, now, HISTORY)
    world = World(params.replace(arrivals=arrivals), state.replace(episode=episode), history)
    return with_forecast(world, history[:, -1:])


def with_forecast(world: World, load: chex.Array) -> World:
    """The same with other tenants' load as forecast.

    Args:
        world: what is known.
        load: (E + H, F) share in [0, 0.9] of each link and host in the frame at hand and in those that follow; after
            the last, the first is read again.
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
    """The same with fewer columns in its timelines: a simulated step costs by them.

    What is merged is the last of what they hold: see `timeline.compacted`.
    """
    hosts = jax.vmap(timeline.cleared_unless)(state.episode.touched, state.hosts)
    return state.replace(
        episode=state.episode.replace(touched=jnp.ones_like(state.episode.touched)),
        links=timeline.compacted(state.links, link_breakpoints),
        hosts=jax.vmap(timeline.compacted, in_axes=(0, None))(hosts, host_breakpoints),
    )


def expected_completions(state: EnvState, params: EnvParams) -> chex.Array:
    """(M,) s, `dag.expected_completion` of every service; 0 of one that never comes in a known world."""
    episode = state.episode
    row = params.arrivals.dag[episode.arrivals]
    release = params.arrivals.release[episode.arrivals] / params.arrival_rate
    fresh = (episode.decided == 0)[:, None]
    expected = expected_completion(
        pending=jnp.where(fresh, params.dags.in_degree[row], state.pending),
        ready=jnp.where(fresh, release[:, None], state.ready),
        rank=params.dags.rank[row],
        speed=params.network.speed[episode.topology],
        release=release,
        completion=episode.completion,
    )
    return jnp.where(jnp.isfinite(episode.next_ready), expected, episode.completion)
