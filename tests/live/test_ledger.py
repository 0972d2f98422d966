"""The ledger: a fold over events, and what measured times make of what was decided."""

import jax
import numpy as np
import pytest

pytest.importorskip("pydantic")

from jaxcec.env import timeline
from jaxcec.env.types import MOST_LOAD
from jaxcec.live import events
from jaxcec.live.ledger import Ledger
from jaxcec.live.mirror import mirror, timelines
from jaxcec.live.site import Site

SITE = Site(
    links=[(0, 1, 10.0)],
    node_speed=[10.0, 10.0],
    device_speed=[0.0, 0.0],
    capacity=[[1.0], [1.0]],
    num_services=2,
    max_microservices=3,
)
SINCE = 1_766_000_000.0  # s


def ledger_with(*happened):
    """A ledger in which both workers are up and two services of two independent microservices were submitted."""
    ledger = Ledger(SITE)
    spec = events.Service(source=0, load=[100.0] * 2, data=[0.0] * 2, demand=[[1.0]] * 2, preds=[[], []])
    start = [events.WorkerUp(time=SINCE, host=host) for host in (0, 1)]
    start += [events.Submitted(time=SINCE, service=name, spec=spec) for name in "ab"]
    for event in [*start, *happened]:
        ledger.apply(event)
    return ledger


def decided(service, microservice, start, finish, *, flow=None, attempt=0):
    """A decision for node 1; its flow takes the whole link."""
    begin, end = flow or (start, start)
    times = {"flow_start": begin, "flow_end": end, "data_ready": end, "start": start, "finish": finish}
    return events.Decided(
        time=SINCE,
        service=service,
        microservice=microservice,
        attempt=attempt,
        host=1,
        links={0: 1.0} if flow else {},
        policy="some",
        **{name: SINCE + time for name, time in times.items()},
    )


def at(kind, service, microservice, time, **more):
    return kind(time=SINCE + time, service=service, microservice=microservice, attempt=0, **more)


def finishes(ledger, now):
    """When each execution is expected to finish, in s, by the run."""
    facts = ledger.facts(SINCE + now)
    finish = np.asarray(timelines(SITE.config, facts)[2])[: int(facts.executions.count)]
    names = [
        (ledger.slots[s].service, int(j))
        for s, j in zip(facts.executions.service, facts.executions.microservice, strict=True)
    ]
    begin = now - float(facts.now)
    return {name: pytest.approx(begin + time, abs=1e-4) for name, time in zip(names, finish, strict=False)}


def test_the_unit_of_time_is_that_of_all_services_so_far():
    assert Ledger(SITE).time_unit == 64.0
    assert ledger_with().time_unit == 8.0  # 100 Mcycles at 10 Mcycles/s: 10 s


def test_what_runs_late_moves_what_comes_after_in_order():
    """Three in a row on one node; the first is 2 s late, so the others follow it one after the other."""
    row = [decided("a", 0, 0, 10), decided("a", 1, 10, 20), decided("b", 0, 20, 30)]
    ledger = ledger_with(*row, at(events.ExecutionStarted, "a", 0, 2.0))
    assert finishes(ledger, 5.0) == {("a", 0): 12.0, ("a", 1): 22.0, ("b", 0): 32.0}


def test_what_is_left_of_a_reservation_that_ended_early_is_free_at_once():
    started, ended = at(events.ExecutionStarted, "a", 0, 0.0), at(events.ExecutionEnded, "a", 0, 4.0)
    ledger = ledger_with(decided("a", 0, 0, 10), started, ended, decided("b", 0, 20, 30))
    facts = ledger.facts(SINCE + 4.0)
    hosts = timelines(SITE.config, facts)[1]
    free = jax.tree.map(lambda x: x[1], hosts)
    earliest = timeline.earliest_start(
        free, np.ones((1, 1), np.float32), not_before=facts.now[None], duration=np.float32([9.0])
    )
    assert earliest == facts.now


def test_what_runs_past_its_time_is_expected_to_end_soon():
    ledger = ledger_with(decided("a", 0, 0, 10), at(events.ExecutionStarted, "a", 0, 0.0))
    assert finishes(ledger, 9.0) == {("a", 0): 10.0}
    assert finishes(ledger, 14.0) == {("a", 0): 14.5}


def test_an_execution_waits_for_its_late_flow():
    """The flow of a has begun 1 s late, so that of b comes 1 s later on the same link, and so do both executions."""
    flows = decided("a", 0, 5, 6, flow=(0, 5)), decided("b", 0, 10, 11, flow=(5, 10))
    ledger = ledger_with(*flows, at(events.FlowStarted, "a", 0, 1.0))
    assert finishes(ledger, 2.0) == {("a", 0): 7.0, ("b", 0): 12.0}


def test_an_input_that_came_early_does_not_move_its_execution():
    ledger = ledger_with(
        decided("a", 0, 5, 6, flow=(0, 5)), at(events.FlowStarted, "a", 0, 0.0), at(events.FlowEnded, "a", 0, 3.0)
    )
    assert finishes(ledger, 3.0) == {("a", 0): 6.0}
    assert int(ledger.facts(SINCE + 3.0).flows.count) == 0


def test_a_failed_attempt_is_decided_again_later_and_reports_about_it_say_nothing():
    ledger = ledger_with(decided("a", 0, 0, 10), at(events.Failed, "a", 0, 1.0, reason="no"))
    assert ledger.counters.failed == 1 and not ledger.bookings
    before = ledger.next_due()
    assert (before.slot, before.microservice, before.time) == (0, 1, SINCE)
    ledger.apply(at(events.ExecutionEnded, "a", 0, 5.0))
    assert not np.isfinite(ledger.finish).any()
    ledger.apply(decided("a", 0, 2, 12, attempt=1))
    assert list(ledger.bookings) == ["a.0.1"]


def test_of_use_is_the_last_attempt_at_a_microservice_of_a_service_in_flight():
    failed = decided("a", 0, 0.0, 10.0), at(events.Failed, "a", 0, 1.0, reason="killed")
    ledger = ledger_with(*failed, decided("a", 0, 2.0, 12.0, attempt=1), decided("b", 1, 0.0, 10.0))
    runs = ("a.0.0", "a.0.1", "b.1.0", "b.1.1", "a.7.0", "c.0.0", "another's")
    assert [run for run in runs if ledger.is_of_use(run)] == ["a.0.1", "b.1.0"]


def test_slots_are_used_again_for_ever():
    """A hundred services in two slots; those without a slot wait for one."""
    ledger, spec = Ledger(SITE), events.Service(source=1, load=[10.0], data=[0.0], demand=[[1.0]], preds=[[]])
    for i in range(100):
        ledger.apply(events.Submitted(time=SINCE + i, service=f"s{i}", spec=spec))
        if i >= 3:
            ledger.apply(decided(f"s{i - 3}", 0, i, i + 1))
            ledger.apply(at(events.ExecutionEnded, f"s{i - 3}", 0, i + 1.0))
    assert ledger.counters.completed == 97 and len(ledger.waiting) == 1
    assert sorted(ledger.slot_of) == ["s97", "s98"] and not ledger.bookings
    assert ledger.counters.completion == sum(4.0 for _ in range(97))


def test_a_service_is_due_at_its_release_and_unknown_before():
    ledger = Ledger(SITE)
    spec = events.Service(source=0, load=[1.0], data=[0.0], demand=[[1.0]], preds=[[]], release=5.0)
    ledger.apply(events.Submitted(time=SINCE, service="a", spec=spec))
    assert ledger.next_due().time == SINCE + 5.0
    world = mirror(SITE.config, ledger.facts(SINCE + 1.0), SITE.network)
    assert np.isinf(world.state.episode.next_ready).all() and not world.state.episode.begun.any()


def test_a_host_without_its_worker_runs_nothing():
    ledger = ledger_with(events.WorkerDown(time=SINCE, host=1))
    world = mirror(SITE.config, ledger.facts(SINCE, (0, 0)), SITE.network)
    assert world.params.network.speed.tolist() == [[10.0, 0.0, 0.0, 0.0]]


def test_equal_events_give_equal_ledgers_and_events_that_come_again_change_nothing():
    happened = [
        decided("a", 0, 0, 10),
        at(events.ExecutionStarted, "a", 0, 2.0),
        at(events.ExecutionEnded, "a", 0, 9.0),
    ]
    once, twice = ledger_with(*happened), ledger_with(*happened, *happened)
    for one, two in zip(jax.tree.leaves(once.facts(SINCE + 9)), jax.tree.leaves(twice.facts(SINCE + 9)), strict=True):
        np.testing.assert_array_equal(one, two)
    assert once.counters == twice.counters


def test_decisions_of_the_fallback_are_counted():
    late = decided("a", 0, 0, 10).model_copy(update={"late": True})
    counters = ledger_with(late, decided("a", 1, 10, 20)).counters
    assert (counters.decisions, counters.late) == (2, 1)


def test_loads_are_means_over_frames_and_stay_until_measured_again():
    ledger = Ledger(SITE)
    for time, cpu in ((0.0, 0.2), (9.0, 0.4), (10.0, 0.5), (45.0, 2.0)):
        ledger.apply(events.LoadMeasured(time=SINCE + time, host=0, cpu=cpu, links={0: cpu / 2}))
    history = ledger.facts(SINCE + 59.0).history
    assert history.shape == (1 + 4, 16)
    expected = [0.3, 0.5, 0.5, 0.5, MOST_LOAD, MOST_LOAD]
    np.testing.assert_allclose(history[1, -6:], expected, rtol=1e-6)
    np.testing.assert_allclose(history[0, -6:-2], [0.15, 0.25, 0.25, 0.25], rtol=1e-6)
    assert not history[2:].any()
