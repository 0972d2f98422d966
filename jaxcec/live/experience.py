"""What an event log says about decisions that were executed: what the twin saw, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from jaxcec.agents import AgentConfig, TrainedPolicy, learner_for
from jaxcec.agents.features import pace_of
from jaxcec.agents.twin import Outcome
from jaxcec.env import CECEnv, Network
from jaxcec.live import events
from jaxcec.live.lateness import features
from jaxcec.live.ledger import Booking, Ledger
from jaxcec.live.mirror import Facts, mirror
from jaxcec.live.site import Site


class Executed(NamedTuple):
    """A decision that was executed. There may be a leading axis.

    Times are in s from when it was decided. The twin foresees the finish as `unhindered` and the two waits together;
    of a microservice whose input crosses no link, it leaves out the first.
    """

    decided: chex.Array  # () f64, s of the controller's clock
    inputs: chex.Array  # (F,) `twin.candidates` of the host that was chosen
    pace: chex.Array  # () `features.pace_of`, in which the inputs are measured
    unhindered: chex.Array  # () when it would have finished if nothing waited, at the rates that were offered
    crosses: chex.Array  # () bool: its input crosses links
    waits: chex.Array  # (2,) measured, for links and then for the node
    booked: chex.Array  # () finish that the mechanism predicted, and the decision recorded
    finish: chex.Array  # () measured
    node: chex.Array  # () i32, that was chosen
    features: chex.Array  # (`lateness.FEATURES`,) of that node

    @property
    def outcome(self) -> Outcome:
        """What the twin learns from it."""
        return Outcome(self.inputs, self.waits, self.pace, np.ones_like(self.finish))


class _Seen(NamedTuple):
    """What the twin saw of the host that was chosen, at the decision; times in s from then."""

    inputs: chex.Array  # (F,)
    pace: chex.Array  # ()
    moved: chex.Array  # () s, to bring the input there at the rates that are offered
    execution: chex.Array  # () s
    crosses: chex.Array  # () bool
    feasible: chex.Array  # () bool
    features: chex.Array  # (`lateness.FEATURES`,)


def executed_decisions(
    site: Site, happened: Sequence[events.Event], policy: TrainedPolicy, *, most: int
) -> Iterator[Executed]:
    """The `most` decisions that finished last, in the order in which they did. A policy with a twin sees them.

    Decisions are taken to be at full bandwidth and without a hold. Those for end devices, of which the twin has no
    candidates, are left out, and so are attempts that failed, and decisions of the time from which a shortened log
    lacks services.
    """
    env, ledger, seen = CECEnv(site.config), Ledger(site), dict[str, _Seen]()
    ended = [event.run for event in happened if isinstance(event, events.ExecutionEnded)]
    wanted = set(ended[-most:])
    whole = max((event.time for event in happened if isinstance(event, events.Carried)), default=0.0)
    for event in happened:
        if isinstance(event, events.Decided) and event.run in wanted and _is_seen(event, site, whole):
            facts = _facts(ledger, event)
            if facts is not None:
                how = {"params": policy.params, "host": np.int32(event.host)}
                seen[event.run] = jax.device_get(_see(env, policy.config, facts, site.network, **how))
        elif isinstance(event, events.ExecutionEnded) and event.run in ledger.bookings:
            of_run = seen.pop(event.run, None)
            if of_run is not None and of_run.feasible:
                yield _executed(of_run, ledger.bookings[event.run], event.time)
        ledger.apply(event)


def _is_seen(event: events.Decided, site: Site, whole: float) -> bool:
    """Whether the twin has a candidate for it, and the log has everything that was known at it."""
    return event.host < site.config.num_nodes and event.time > whole


def _facts(ledger: Ledger, event: events.Decided) -> Facts | None:
    """What was known at a decision; None if it says nothing new."""
    slot = ledger.slot_of.get(event.service)
    if slot is None or ledger.decided[slot, event.microservice]:
        return None
    return ledger.facts(event.time, (slot, event.microservice))


@partial(jax.jit, static_argnames="env")
def _see(env: CECEnv, config: AgentConfig, facts: Facts, network: Network, *, params: Any, host: chex.Array) -> _Seen:
    world = mirror(env.config, facts, network)
    observation = env.observe(jax.random.key(0), world.state, None, world.params)
    of_host = features(observation)[host]
    observation, inputs = learner_for(config).foresee(params, observation)
    nodes = observation.nodes
    crosses, feasible = nodes.path_links[host] > 0.0, nodes.feasible[host] > 0.0
    moved, execution = nodes.at_offered[host], nodes.execution[host]
    return _Seen(inputs[host], pace_of(observation), moved, execution, crosses, feasible, of_host)


def _executed(seen: _Seen, booking: Booking, end: float) -> Executed:
    """The waits for which the input and the finish that the twin foresees are those that were measured.

    So the wait for links is what passed until the input was there beyond the transfer at the rates that were offered at
    the decision: the flow began later, or was slower. The wait for the node is what passed from then on beyond the
    execution at the speed that was offered: it began later, or was slower. Neither is negative: what was quicker counts
    as no wait, and what an input was too early by is taken off the wait for the node.
    """
    decided = booking.decided
    moved, execution, finish = float(seen.moved), float(seen.execution), end - decided.time
    ready = moved
    if seen.crosses and booking.flow_ended is not None:
        ready = max(booking.flow_ended - decided.time, moved)
    return Executed(
        decided=np.float64(decided.time),
        inputs=np.asarray(seen.inputs),
        pace=np.asarray(seen.pace),
        unhindered=np.float32(moved + execution),
        crosses=np.asarray(seen.crosses),
        waits=np.array([ready - moved, max(finish - ready - execution, 0.0)], np.float32),
        booked=np.float32(decided.finish - decided.time),
        finish=np.float32(finish),
        node=np.int32(decided.host),
        features=np.asarray(seen.features),
    )
