"""Order of decisions: the next microservice, and the successors that a decision releases (Eq. 4, 5)."""

from __future__ import annotations

import chex
import jax.numpy as jnp
from flax import struct

from jaxcec.env.types import Dags, EnvParams, EnvState, Episode


class Decision(struct.PyTreeNode):
    """The current decision: the microservice, and the properties of it and of its service."""

    active: chex.Array  # () bool; false once every microservice is decided
    time: chex.Array  # () s; after the last decision, the latest finish
    service: chex.Array  # () i32
    microservice: chex.Array  # () i32
    dag: chex.Array  # () i32, row of the bank
    source: chex.Array  # () i32
    release: chex.Array  # () s
    pending: chex.Array  # (N,) i16, the service's row of `EnvState.pending`
    ready: chex.Array  # (N,) s, of `EnvState.ready`
    host: chex.Array  # (N,) i16, of `EnvState.host`
    preds: chex.Array  # (N,) bool, predecessors of the microservice
    load: chex.Array  # () Mcycles
    data: chex.Array  # () Mbit
    demand: chex.Array  # (K,)


def current_decision(state: EnvState, params: EnvParams) -> Decision:
    """The undecided microservice of least ready time whose predecessors are all decided; ties: the lowest indices."""
    episode, dags = state.episode, params.dags
    service = jnp.argmin(episode.next_ready).astype(jnp.int32)
    active = jnp.isfinite(episode.next_ready[service])
    microservice = episode.next_microservice[service].astype(jnp.int32)
    row = params.arrivals.dag[episode.arrivals, service]
    release = params.arrivals.release[episode.arrivals, service] / params.arrival_rate
    # A service's rows of the state are stale until its first decision writes them; the bank has their initial values.
    fresh = episode.decided[service] == 0
    return Decision(
        active=active,
        time=jnp.where(active, episode.next_ready[service], episode.makespan),
        service=service,
        microservice=microservice,
        dag=row,
        source=params.arrivals.source[episode.arrivals, service],
        release=release,
        pending=jnp.where(fresh, dags.in_degree[row], state.pending[service]),
        ready=jnp.where(fresh, release, state.ready[service]),
        host=state.host[service],
        preds=dags.preds[row, microservice],
        load=dags.load[row, microservice],
        data=dags.data[row, microservice],
        demand=dags.demand[row, microservice],
    )


def any_undecided(state: EnvState) -> chex.Array:
    """() bool: some environment of a state with any batch axes has an undecided microservice.

    The condition of a `jax.lax.while_loop` that plays whole episodes in step: one loop for the whole batch, rather
    than a loop under vmap, which would copy the states of the environments that have ended.
    """
    return jnp.any(jnp.isfinite(state.episode.next_ready))


def released(episode: Episode, now: chex.Array) -> chex.Array:
    """Services that have been released by now.

    A service without decisions is ready at its release, which this reads from `next_ready`: a release time computed
    again may differ from it by a rounding.

    Args:
        episode: of one environment.
        now: () s, the time of a decision.

    Returns:
        (M,) bool.
    """
    return (episode.decided > 0) | (episode.next_ready <= now)


def expected_completion(
    pending: chex.Array,
    ready: chex.Array,
    *,
    rank: chex.Array,
    speed: chex.Array,
    release: chex.Array,
    completion: chex.Array,
) -> chex.Array:
    """Expected TT_i (Eq. 5): the longest remaining path of execution times at the edge nodes' mean nominal speed.

    Future transfers and waits count as 0. For a service whose microservices are all decided it is TT_i.

    Args:
        pending: (..., N) i16 as in `EnvState`.
        ready: (..., N) s, as in `EnvState`.
        rank: (..., N) Mcycles as in `Dags`.
        speed: (H,) Mcycles/s nominal, edge nodes first.
        release: (...) s.
        completion: (...) s, TT_i so far.

    Returns:
        (...) s.
    """
    path = ready + rank / jnp.mean(speed[: speed.size // 2])
    longest = jnp.max(jnp.where(pending >= 0, path, -jnp.inf), axis=-1) - release
    return jnp.maximum(completion, longest)


def commit(state: EnvState, decision: Decision, *, host: chex.Array, finish: chex.Array, dags: Dags) -> EnvState:
    """Record a decision in its service: update the successors and find the service's next microservice.

    Args:
        state: before the decision; its timelines are not changed here.
        decision: the current decision; nothing changes unless it is active.
        host: () i32, where the microservice runs.
        finish: () s, FT.
        dags: the bank.
    """
    i, j, active = decision.service, decision.microservice, decision.active
    successors = dags.preds[decision.dag, :, j]
    chosen = jnp.arange(successors.shape[0], dtype=jnp.int32) == j
    pending = jnp.where(chosen, jnp.int16(-1), decision.pending - successors.astype(jnp.int16))
    ready = jnp.where(successors, jnp.maximum(decision.ready, finish), decision.ready)
    candidates = jnp.where(pending == 0, ready, jnp.inf)
    next_microservice = jnp.argmin(candidates)
    completion = jnp.maximum(state.episode.completion[i], finish - decision.release)

    def put(table: chex.Array, value: chex.Array) -> chex.Array:
        return table.at[i].set(jnp.where(active, value.astype(table.dtype), table[i]))

    episode: Episode = state.episode.replace(
        step=state.episode.step + active.astype(jnp.int32),
        decided=put(state.episode.decided, state.episode.decided[i] + 1),
        next_ready=put(state.episode.next_ready, candidates[next_microservice]),
        next_microservice=put(state.episode.next_microservice, next_microservice),
        completion=put(state.episode.completion, completion),
        makespan=jnp.where(active, jnp.maximum(state.episode.makespan, finish), state.episode.makespan),
    )
    return state.replace(
        episode=episode,
        pending=put(state.pending, pending),
        ready=put(state.ready, ready),
        host=put(state.host, jnp.where(chosen, host.astype(jnp.int16), decision.host)),
    )
