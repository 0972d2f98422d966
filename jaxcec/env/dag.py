"""Order of decisions: the next microservice, and the successors that a decision releases (Eq. 4, 5)."""

from __future__ import annotations

import chex
import jax.numpy as jnp
from flax import struct

from jaxcec.env.indexing import put, put_one, take
from jaxcec.env.types import Dags, EnvParams, EnvState, Episode

LEAST_POSTPONED = 1e-3  # s, least time by which a decision is postponed
LEAST_SHARE = 1e-6  # and least share of the time of the decision, of which float32 keeps seven digits


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
    work: chex.Array  # () Mcycles of the service's undecided microservices
    preds: chex.Array  # (N,) bool, predecessors of the microservice
    sent: chex.Array  # (N,) part of its input that each microservice sends; at its own index, what lies at the source
    load: chex.Array  # () Mcycles
    data: chex.Array  # () Mbit
    demand: chex.Array  # (K,)

    @property
    def chosen(self) -> chex.Array:
        """(N,) bool: the microservice that is decided."""
        return jnp.arange(self.host.size, dtype=jnp.int32) == self.microservice


def current_decision(state: EnvState, params: EnvParams) -> Decision:
    """The undecided microservice that is due first, of those whose predecessors are all decided.

    It is due when it is ready, or at the time to which it was postponed. Ties: the lowest service, and within it the
    lowest `Dags.turn`.
    """
    episode, dags = state.episode, params.dags
    service = jnp.argmin(episode.next_ready).astype(jnp.int32)
    active = jnp.isfinite(take(episode.next_ready, service))
    microservice = take(episode.next_microservice, service).astype(jnp.int32)
    row = take(params.arrivals.dag, episode.arrivals, service)
    release = take(params.arrivals.release, episode.arrivals, service) / params.arrival_rate
    # A service's rows of the state are stale until its first decision writes them; the bank has their initial values.
    fresh = ~take(episode.begun, service)
    return Decision(
        active=active,
        time=jnp.where(active, take(episode.next_ready, service), episode.makespan),
        service=service,
        microservice=microservice,
        dag=row,
        source=take(params.arrivals.source, episode.arrivals, service),
        release=release,
        pending=jnp.where(fresh, take(dags.in_degree, row), take(state.pending, service)),
        ready=jnp.where(fresh, release, take(state.ready, service)),
        host=take(state.host, service),
        work=jnp.where(fresh, take(dags.work, row), take(state.work, service)),
        preds=take(dags.preds, row, microservice),
        sent=take(dags.sent, row, microservice),
        load=take(dags.load, row, microservice),
        data=take(dags.data, row, microservice),
        demand=take(dags.demand, row, microservice),
    )


def successors_of(decision: Decision, dags: Dags) -> chex.Array:
    """(N,) bool: the microservices that wait for the current one."""
    return take(dags.preds, decision.dag, slice(None), decision.microservice)


def any_undecided(state: EnvState) -> chex.Array:
    """() bool: some environment of a state with any batch axes has an undecided microservice.

    The condition of a `jax.lax.while_loop` that plays whole episodes in step: one loop for the whole batch, rather
    than a loop under vmap, which would copy the states of the environments that have ended.
    """
    return jnp.any(jnp.isfinite(state.episode.next_ready))


def released(episode: Episode, now: chex.Array) -> chex.Array:
    """(M,) bool: services that have been released by () s `now`, the time of a decision.

    A service without decisions is ready at its release, which this reads from `next_ready`: a release time computed
    again may differ from it by a rounding.
    """
    return episode.begun | (episode.next_ready <= now)


def expected_completion(
    pending: chex.Array,
    ready: chex.Array,
    *,
    rank: chex.Array,
    speed: chex.Array,
    release: chex.Array,
    completion: chex.Array,
) -> chex.Array:
    """Expected TT_i (Eq. 5), (...) s: the longest remaining path of execution times at the edge nodes' mean speed.

    Speeds are nominal; nodes on which nothing runs do not count. Future transfers and waits count as 0. For a service
    whose microservices are all decided it is TT_i.

    Args:
        pending: (..., N) i16 as in `EnvState`.
        ready: (..., N) s, as in `EnvState`.
        rank: (..., N) Mcycles as in `Dags`.
        speed: (H,) Mcycles/s nominal, edge nodes first.
        release: (...) s.
        completion: (...) s, TT_i so far.
    """
    nodes = speed[: speed.size // 2]
    running = jnp.sum(nodes > 0.0, dtype=jnp.int32).astype(jnp.float32)
    path = ready + rank / (jnp.mean(nodes) * (nodes.size / running))
    longest = jnp.max(jnp.where(pending >= 0, path, -jnp.inf), axis=-1) - release
    return jnp.maximum(completion, longest)


class Progress(struct.PyTreeNode):
    """A service after a decision: its rows of the tables, its completion time, and the work that it has left."""

    pending: chex.Array  # (N,) i16
    ready: chex.Array  # (N,) s
    host: chex.Array  # (N,) i16
    completion: chex.Array  # () s
    makespan: chex.Array  # () s, of the whole episode
    work: chex.Array  # () Mcycles


def booked(state: EnvState, decision: Decision, *, host: chex.Array, finish: chex.Array, dags: Dags) -> Progress:
    """The service once its microservice is to finish on a host: its successors wait for one predecessor less."""
    episode, i = state.episode, decision.service
    successors = successors_of(decision, dags)
    chosen = decision.chosen
    return Progress(
        pending=jnp.where(chosen, jnp.int16(-1), decision.pending - successors.astype(jnp.int16)),
        ready=jnp.where(successors, jnp.maximum(decision.ready, finish), decision.ready),
        host=jnp.where(chosen, host.astype(jnp.int16), decision.host),
        completion=jnp.maximum(take(episode.completion, i), finish - decision.release),
        makespan=jnp.maximum(episode.makespan, finish),
        work=decision.work - decision.load,
    )


def first_due(pending: chex.Array, ready: chex.Array, turn: chex.Array) -> tuple[chex.Array, chex.Array]:
    """When a service's next microservice is due, () s, inf if there is none, and its () index; from (N,) rows each."""
    candidates = jnp.where(pending == 0, ready, jnp.inf)
    due = jnp.min(candidates)
    return due, jnp.argmin(jnp.where(candidates == due, turn, jnp.iinfo(turn.dtype).max))


def postponed(state: EnvState, decision: Decision, until: chex.Array) -> Progress:
    """The service if its microservice is to be decided again at () s `until`."""
    episode, i = state.episode, decision.service
    return Progress(
        pending=decision.pending,
        ready=jnp.where(decision.chosen, until, decision.ready),
        host=decision.host,
        completion=take(episode.completion, i),
        makespan=episode.makespan,
        work=decision.work,
    )


def postponed_until(now: chex.Array, postpone: chex.Array) -> chex.Array:
    """() s, when a decision is due again that is postponed by () s now."""
    return now + jnp.maximum(postpone, jnp.maximum(LEAST_POSTPONED, LEAST_SHARE * now))


def commit(state: EnvState, decision: Decision, progress: Progress, dags: Dags) -> EnvState:
    """Record a decision in its service, whose `progress` is that afterwards, and find its next microservice.

    Nothing changes unless the decision is active, and the timelines do not change here.
    """
    i, active = decision.service, decision.active
    due, next_microservice = first_due(progress.pending, progress.ready, take(dags.turn, decision.dag))

    def written(table: chex.Array, value: chex.Array) -> chex.Array:
        write = put_one if table.ndim == 1 else put
        return write(table, i, jnp.where(active, value.astype(table.dtype), take(table, i)))

    episode: Episode = state.episode.replace(
        step=state.episode.step + active.astype(jnp.int32),
        begun=written(state.episode.begun, active),
        next_ready=written(state.episode.next_ready, due),
        next_microservice=written(state.episode.next_microservice, next_microservice),
        completion=written(state.episode.completion, progress.completion),
        makespan=jnp.where(active, progress.makespan, state.episode.makespan),
    )
    return state.replace(
        episode=episode,
        pending=written(state.pending, progress.pending),
        ready=written(state.ready, progress.ready),
        host=written(state.host, progress.host),
        work=written(state.work, progress.work),
    )
