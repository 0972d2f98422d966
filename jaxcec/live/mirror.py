"""The mirror: what is known of a running system as a `World`, which policies and planners of the simulator read.

`Facts` have fixed sizes, so that everything here is compiled once. Times are in s since the beginning of the current
frame of load: float32 then serves for months, and a forecast's frames begin and end when the measured ones do.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxcec.env import Arrivals, CECEnv, Dags, EnvConfig, EnvParams, EnvState, Info, Network, World, timeline
from jaxcec.env.dag import first_due
from jaxcec.env.types import Background, Episode, Timeline
from jaxcec.evaluation import Apply
from jaxcec.live.lateness import Lateness, corrected

_ROUNDING = 1e-6  # by which a reservation may be longer than its gap, as a share of its times
_SOON = 1e-6  # of a frame: what else is overdue is due so much after the current microservice


class Reservations(struct.PyTreeNode):
    """Reservations of at most R = M N microservices that are decided and not finished; the first `count` rows count.

    Those that run come first, and then the booked ones in the order in which they begin.
    """

    count: chex.Array  # () i32
    start: chex.Array  # (R,) f32, s, not before now
    end: chex.Array  # (R,) f32, s; what runs past its time is expected to end after now
    usage: chex.Array  # (R, E) of flows, (R, K) of executions: share of each resource
    runs: chex.Array  # (R,) bool: it has begun, so it cannot move
    service: chex.Array  # (R,) i32, slot of the service
    microservice: chex.Array  # (R,) i32
    host: chex.Array  # (R,) i32
    ready: chex.Array  # (R,) f32, s, when the whole input is on the host, if its flow is as booked
    flow: chex.Array  # (R,) i32, of an execution: row of the flow that it waits for, R if there is none


class Facts(struct.PyTreeNode):
    """What is known of the system at one moment: M slots for services, the reservations, and the load."""

    now: chex.Array  # () f32, s
    current: chex.Array  # (2,) i32, slot and microservice to decide; -1 for none
    may_postpone: chex.Array  # () bool: the decision may be postponed
    dags: Dags  # of each slot, (M,) rows
    source: chex.Array  # (M,) i32
    release: chex.Array  # (M,) f32, s; inf if the slot is empty
    decided: chex.Array  # (M, N) bool
    host: chex.Array  # (M, N) i16, of what is decided
    finish: chex.Array  # (M, N) f32, s, of what has finished, as measured; -inf for all else
    postponed: chex.Array  # (M, N) f32, s, until when a decision is postponed; -inf for none
    work: chex.Array  # (M,) f32, Mcycles of undecided microservices
    flows: Reservations
    executions: Reservations
    up: chex.Array  # (H,) bool: the host takes microservices
    history: chex.Array  # (E + H, HISTORY) share of other tenants in the last frames; the last one is the current
    frame: chex.Array  # () f32, s
    time_unit: chex.Array  # () f32, s, `EnvParams.time_unit` of all services so far


@partial(jax.jit, static_argnums=0)
def mirror(config: EnvConfig, facts: Facts, network: Network) -> World:
    """The world at the decision of `facts.current`: the timelines, the services' progress, and other tenants' load.

    What runs keeps its place, and what is booked is moved later, in order, where the two no longer fit.

    Args:
        config: sizes.
        facts: what is known now.
        network: one topology, G = 1.
    """
    links, hosts, estimated = timelines(config, facts)
    finish = facts.finish.at[facts.executions.service, facts.executions.microservice].max(estimated)
    episode, pending, ready = _progress(config, facts, finish)
    state = EnvState(
        episode=episode, links=links, hosts=hosts, pending=pending, ready=ready, host=facts.host, work=facts.work
    )
    arrivals = Arrivals(
        dag=jnp.arange(config.num_services, dtype=jnp.int32)[None],
        source=facts.source[None],
        release=facts.release[None],
    )
    params = EnvParams(
        network=network.replace(speed=jnp.where(facts.up[None], network.speed, 0.0)),
        dags=facts.dags,
        arrivals=arrivals,
        background=Background(load=facts.history[:, -1:], frame=facts.frame),
        arrival_rate=jnp.float32(1.0),
        max_steps_in_episode=jnp.int32(jnp.iinfo(jnp.int32).max),
        time_unit=facts.time_unit,
    )
    return World(params, state, facts.history)


@partial(jax.jit, static_argnames=("env", "apply"))
def decide(
    env: CECEnv, facts: Facts, network: Network, *, lateness: Lateness, apply: Apply, params: Any, number: chex.Array
) -> Info:
    """What a policy decides about `facts.current`, as the info of `CECEnv.step_env`.

    The policy sees finishes as they are expected with the lateness that was learned. The () i32 `number` of the
    decision seeds its random numbers. Times are those of the facts.

    Returns:
        The info, and `feasible`: whether any edge node or the end device of the source can run the microservice now;
        and `late`: s, by how much later than decided it is expected to finish.
    """
    world, key = mirror(env.config, facts, network), jax.random.key(number)
    observation = env.observe(key, world.state, None, world.params)
    seen, late = corrected(observation, lateness)
    action = apply(params, seen, world, key)
    if action.postpone is not None:
        action = action.replace(postpone=jnp.where(facts.may_postpone, action.postpone, 0.0))
    info = env.step_env(key, world.state, action, world.params)[-1]
    device = world.params.network.speed[0, env.config.num_nodes + facts.source[facts.current[0]]] > 0.0
    return info | {
        "feasible": jnp.any(observation.nodes.feasible > 0.0) | device,
        "late": late.at[info["host"]].get(mode="fill", fill_value=0.0),
    }


@partial(jax.jit, static_argnums=0)
def timelines(config: EnvConfig, facts: Facts) -> tuple[Timeline, Timeline, chex.Array]:
    """Links' and hosts' timelines, and (R,) s, when each execution is expected to finish; -inf for none."""
    links = timeline.indexed(timeline.empty(config.max_links, config.link_breakpoints))
    hosts = timeline.empty(config.num_resources, config.host_breakpoints)
    hosts = jax.tree.map(lambda x: jnp.broadcast_to(x, (config.num_hosts, *x.shape)), hosts)
    flows, executions = facts.flows, facts.executions

    def add_flow(i: chex.Array, carry: tuple[Timeline, chex.Array]) -> tuple[Timeline, chex.Array]:
        links, ready = carry
        links, end = _placed(links, flows, i, not_before=flows.start[i], now=facts.now)
        return links, ready.at[i].set(flows.ready[i] + (end - flows.end[i]))

    def add_execution(i: chex.Array, carry: tuple[Timeline, chex.Array]) -> tuple[Timeline, chex.Array]:
        hosts, finish = carry
        arrives = jnp.maximum(executions.ready[i], ready.at[executions.flow[i]].get(mode="fill", fill_value=-jnp.inf))
        row = jax.tree.map(lambda x: x[executions.host[i]], hosts)
        not_before = jnp.maximum(executions.start[i], arrives)
        row, end = _placed(row, executions, i, not_before=not_before, now=facts.now)
        return jax.tree.map(lambda table, new: table.at[executions.host[i]].set(new), hosts, row), finish.at[i].set(end)

    links, ready = jax.lax.fori_loop(0, flows.count, add_flow, (links, flows.ready))
    never = jnp.full_like(executions.end, -jnp.inf)
    hosts, finish = jax.lax.fori_loop(0, executions.count, add_execution, (hosts, never))
    return links, hosts, finish


def _placed(
    free: Timeline, rows: Reservations, i: chex.Array, *, not_before: chex.Array, now: chex.Array
) -> tuple[Timeline, chex.Array]:
    """The timeline with reservation i, which keeps its place if it runs, and when it ends, () s."""
    duration = rows.end[i] - rows.start[i]
    # A reservation that exactly fills its gap may seem longer by a rounding, for which it must not be moved.
    at_least = duration - _ROUNDING * (duration + rows.end[i])
    earliest = timeline.earliest_start(free, rows.usage[i][None], not_before=not_before[None], duration=at_least[None])[
        0
    ]
    start = jnp.where(rows.runs[i], rows.start[i], earliest)
    end = jnp.where(start == rows.start[i], rows.end[i], start + duration)
    free, _ = timeline.reserve(free, rows.usage[i], start=start, end=end, now=now)
    return free, end


def _progress(config: EnvConfig, facts: Facts, finish: chex.Array) -> tuple[Episode, chex.Array, chex.Array]:
    """The episode, and `pending` and `ready` of `EnvState`, from when what is decided finishes, (M, N) s."""
    dags, decided, release = facts.dags, facts.decided, facts.release
    waits = dags.preds & ~decided[:, None]
    missing = jnp.sum(waits, axis=-1, dtype=jnp.int16)
    pending = jnp.where(decided | (dags.in_degree < 0), jnp.int16(-1), missing)
    latest = jnp.max(jnp.where(dags.preds & decided[:, None], finish[:, None], -jnp.inf), axis=-1)
    ready = jnp.maximum(jnp.maximum(latest, facts.postponed), release[:, None])
    table = jnp.arange(config.num_services), jnp.arange(config.max_microservices)
    current = (table[0][:, None] == facts.current[0]) & (table[1][None] == facts.current[1])
    soon = facts.now + jnp.where(current, 0.0, _SOON * facts.frame)
    ready = jnp.where(pending == 0, jnp.where(current, facts.now, jnp.maximum(ready, soon)), ready)
    next_ready, next_microservice = jax.vmap(first_due)(pending, ready, dags.turn)
    last = jnp.max(jnp.where(decided, finish, -jnp.inf), axis=-1)
    known = jnp.isfinite(release)
    episode = Episode(
        topology=jnp.int32(0),
        arrivals=jnp.int32(0),
        offset=jnp.arange(facts.history.shape[0], dtype=jnp.int32),
        step=jnp.int32(0),
        merges=jnp.int32(0),
        begun=known,
        next_ready=next_ready,
        next_microservice=next_microservice.astype(jnp.int16),
        completion=jnp.where(known, jnp.maximum(last - release, 0.0), 0.0),
        makespan=jnp.maximum(jnp.max(last), facts.now),
        touched=jnp.ones(config.num_hosts, bool),
    )
    return episode, pending, ready
