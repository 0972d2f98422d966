"""Controller and workers together over loopback: nothing is lost, and nothing is run or counted twice."""

import asyncio
import contextlib
import random
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import jax.numpy as jnp
import pytest

pytest.importorskip("pydantic")
pytest.importorskip("psutil")

import psutil
from helpers.controlled import SITE, all_ended, controlling, finished, logged, random_service
from helpers.workers import TOKEN, running

from jaxcec.evaluation import Contender
from jaxcec.evaluation.rollout import MOST_POSTPONED
from jaxcec.live import events, protocol
from jaxcec.live.controller import Controller
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog
from jaxcec.live.shorten import shorten
from jaxcec.policies import earliest_finish

TESTS = Path(__file__).parents[1]
KILLS = 20


@contextlib.asynccontextmanager
async def three_workers(folder):
    """Their addresses."""
    async with contextlib.AsyncExitStack() as stack:
        names = ("node0", "node1", "node2")
        yield [(await stack.enter_async_context(running(folder, name, cores=0.2))).address for name in names]


def test_services_end_without_a_worker_that_is_lost(tmp_path, decider):
    """What ran there runs elsewhere; a service whose input lies there is given up with the reason."""
    rng = random.Random(5)
    services = {f"s{i}": random_service(rng) for i in range(6)}

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            first = [await stack.enter_async_context(running(tmp_path, name, cores=0.2)) for name in ("node0", "node1")]
            async with running(tmp_path, "node2", cores=0.2) as node2:
                addresses = [worker.address for worker in (*first, node2)]
                controller = await stack.enter_async_context(controlling(tmp_path, addresses, decider, lost_after=0.5))
                for name, service in services.items():
                    controller.submit(name, service)
                await asyncio.sleep(0.5)
            controller.submit("far", alone(source=2, data=[0.1]))
            controller.submit("near", alone())
            await all_ended(controller)
            return controller.ledger.counters

    counters = asyncio.run(scenario())
    assert counters.completed + counters.given_up == counters.submitted == 8
    ends = {name: logged(tmp_path, name)[-1] for name in (*services, "far", "near")}
    assert isinstance(ends["near"], events.ExecutionEnded)
    assert ends["far"].gives_up and ends["far"].reason == "the worker of host 2 is lost"
    for end in ends.values():
        assert isinstance(end, events.ExecutionEnded) or end.gives_up


def assert_each_ran_once(folder, services):
    """Of each microservice, the log has one end of its first attempt, and its file has one line."""
    every = {name: range(len(service.load)) for name, service in services.items()}
    runs = sorted(finished(folder))
    assert runs == sorted(f"{name}.{j}.0" for name, numbers in every.items() for j in numbers)
    for name, numbers in every.items():
        assert sorted((folder / name).read_text().split()) == [str(j) for j in numbers]


def test_every_service_ends_and_each_microservice_counts_once(tmp_path, decider):
    rng = random.Random(0)
    services = {f"s{i}": random_service(rng, tmp_path / f"s{i}") for i in range(8)}

    async def scenario():
        async with three_workers(tmp_path) as addresses, controlling(tmp_path, addresses, decider) as controller:
            for name, service in services.items():
                assert controller.submit(name, service)
                assert not controller.submit(name, service)  # sent twice
            await all_ended(controller)
            return controller.ledger.counters

    counters = asyncio.run(scenario())
    assert counters.completed == counters.submitted == len(services) and counters.failed == 0
    assert_each_ran_once(tmp_path, services)


def test_a_controller_that_is_started_again_goes_on_from_the_log(tmp_path, decider):
    """It is stopped at any moment, with whatever the workers do at that time still going on."""
    rng = random.Random(1)
    services = {f"s{i}": random_service(rng, tmp_path / f"s{i}") for i in range(6)}

    async def scenario():
        async with three_workers(tmp_path) as addresses:
            for name, service in services.items():
                async with controlling(tmp_path, addresses, decider) as controller:
                    assert controller.submit(name, service)
                    await asyncio.sleep(rng.uniform(0.0, 0.3))
            async with controlling(tmp_path, addresses, decider) as controller:
                await all_ended(controller)
                return controller.ledger.counters

    counters = asyncio.run(scenario())
    assert counters.completed == len(services) and counters.failed == 0
    assert_each_ran_once(tmp_path, services)


def test_what_was_removed_from_the_log_is_forgotten_everywhere(tmp_path, decider):
    """A worker was away when a service ended, and has its output. The name is used again, and everything runs again."""
    service = random_service(random.Random(4), tmp_path / "s")

    async def scenario():
        async with three_workers(tmp_path) as addresses:
            async with controlling(tmp_path, addresses, decider) as controller:
                controller.submit("s", service)
                controller._forget = lambda *_, **__: None
                await all_ended(controller)
                with EventLog(tmp_path / "log.sqlite") as log, pytest.raises(ValueError, match="another process"):
                    shorten(log, SITE, before=controller.now())
            with EventLog(tmp_path / "log.sqlite") as log:
                end = max(event.time for _, event in log.read()) + 0.1
                log.append([events.WorkerDown(time=end, host=host) for host in range(3)])
                assert shorten(log, SITE, before=end + 1.0) > len(service.load)
                assert not list(log.read(service="s"))
            async with controlling(tmp_path, addresses, decider) as controller:
                while controller.ledger.up.sum() < 3:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                assert controller.submit("s", service)
                await all_ended(controller)
                return controller.ledger.counters

    counters = asyncio.run(scenario())
    assert counters.completed == counters.submitted == 2
    assert sorted((tmp_path / "s").read_text().split()) == sorted(2 * [str(j) for j in range(len(service.load))])


def test_a_worker_that_is_started_again_delays_services_but_loses_none(tmp_path, decider):
    rng = random.Random(2)
    services = {f"s{i}": random_service(rng) for i in range(6)}

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            first = [await stack.enter_async_context(running(tmp_path, name, cores=0.2)) for name in ("node0", "node1")]
            async with contextlib.AsyncExitStack() as last:
                node2 = await last.enter_async_context(running(tmp_path, "node2", cores=0.2))
                addresses = [worker.address for worker in (*first, node2)]
                controller = await stack.enter_async_context(controlling(tmp_path, addresses, decider))
                for name, service in services.items():
                    controller.submit(name, service)
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.2)
            port = int(addresses[2].rsplit(":", 1)[1])
            await stack.enter_async_context(running(tmp_path, "node2", cores=0.2, port=port))
            await all_ended(controller)
            return controller.ledger.counters

    counters = asyncio.run(scenario())
    assert counters.completed == len(services) and counters.given_up == 0
    counted = {tuple(run.split(".")[:2]) for run in finished(tmp_path)}
    assert counted == {(name, str(j)) for name, service in services.items() for j in range(len(service.load))}


@pytest.mark.slow
def test_a_controller_that_is_killed_again_and_again_loses_nothing_and_repeats_nothing(tmp_path):
    """Its process is killed at random moments; the services are many enough to last."""
    rng = random.Random(3)
    services = {f"s{i}": random_service(rng, tmp_path / f"s{i}") for i in range(40)}
    submissions = [events.Submitted(time=1.0 + i, service=name, spec=services[name]) for i, name in enumerate(services)]
    with EventLog(tmp_path / "log.sqlite") as log:
        log.settle("site", SITE.model_dump_json())
        log.append(submissions)

    async def scenario():
        async with three_workers(tmp_path) as addresses:
            for kill in [*(rng.uniform(0.0, 1.0) for _ in range(KILLS)), None]:
                command = [sys.executable, "-m", "helpers.controlled", str(tmp_path), *addresses]
                process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=TESTS)
                await process.stdout.readline()  # it has started
                if kill is None:
                    assert await process.wait() == 0
                else:
                    await asyncio.sleep(kill)
                    process.kill()
                    await process.wait()

    asyncio.run(scenario())
    assert_each_ran_once(tmp_path, services)


def test_its_clock_does_not_go_back_with_the_systems(tmp_path, decider, monkeypatch):
    async def scenario():
        async with controlling(tmp_path, ["127.0.0.1:1"] * 3, decider) as controller:
            before = controller.now()
            controller.submit("s", alone())
            return before

    before = asyncio.run(scenario())
    monkeypatch.setattr(time, "time", lambda: 0.0)

    async def again():
        async with controlling(tmp_path, ["127.0.0.1:1"] * 3, decider) as controller:
            return controller.now()

    assert before <= asyncio.run(again()) < before + 60.0


@pytest.mark.parametrize("lie", [0.0, 1e12])
def test_a_worker_that_lies_about_time_is_believed_between_the_decision_and_now_only(tmp_path, decider, lie):
    async def scenario():
        async with controlling(tmp_path, ["127.0.0.1:1"] * 3, decider) as controller:
            controller.submit("s", alone())
            for host in range(3):
                controller.connected(host, [])
            async with asyncio.timeout(120):
                while not controller.ledger.bookings:
                    await asyncio.sleep(0.01)
            ((run, booking),) = controller.ledger.bookings.items()
            connection = controller._connections[booking.decided.host]
            connection._their_clock.saw(time.monotonic(), controller.now())
            controller.heard(connection.host, protocol.ExecutionStarted(id=run, at=lie))
            return booking, controller.now()

    booking, now = asyncio.run(scenario())
    assert booking.decided.time <= booking.started <= now


def test_what_cannot_be_written_because_the_disk_is_full_is_made_up_for_later(tmp_path, decider):
    """Reports are asked for again and decisions are tried again; a submission is refused."""
    rng = random.Random(4)
    services = {f"s{i}": random_service(rng, tmp_path / f"s{i}") for i in range(4)}

    async def scenario():
        async with three_workers(tmp_path) as addresses, controlling(tmp_path, addresses, decider) as controller:
            for name, service in services.items():
                controller.submit(name, service)
            await asyncio.sleep(0.2)
            database = controller._log._database
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            database.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(sqlite3.OperationalError, match="full"):
                for i in range(100):
                    controller.submit(f"t{i}", alone())
            await asyncio.sleep(0.5)
            submitted = controller.ledger.counters.submitted
            database.execute("PRAGMA max_page_count = 1000000")
            await all_ended(controller)
            return submitted, controller.ledger.counters

    submitted, counters = asyncio.run(scenario())
    assert counters.completed == counters.submitted == submitted < len(services) + 100
    assert len(set(finished(tmp_path))) == len(finished(tmp_path))
    for name, service in services.items():
        assert sorted((tmp_path / name).read_text().split()) == [str(j) for j in range(len(service.load))]


def test_a_policy_that_never_stops_postponing_is_not_asked_for_ever(tmp_path):
    def never(observation, key):
        return earliest_finish(observation, key).replace(postpone=jnp.float32(0.001))

    patient = Decider(SITE, Contender.of_rule("never", never), deadline=1.0)

    async def scenario():
        async with three_workers(tmp_path) as addresses, controlling(tmp_path, addresses, patient) as controller:
            controller.submit("s", alone())
            await all_ended(controller)
            return controller.ledger.counters

    counters = asyncio.run(scenario())
    patient.close()
    assert counters.completed == 1 and counters.postponed >= MOST_POSTPONED


def test_what_else_ran_of_a_service_that_is_given_up_with_its_host_is_over(tmp_path, decider):
    """The last attempt at one microservice fails with its host. The other one runs for too long, but is over too."""
    workers = dict.fromkeys(range(3), "127.0.0.1:1")
    with EventLog(tmp_path / "log.sqlite") as log:
        controller = Controller(SITE, log, decider=decider, workers=workers, token=TOKEN, lost_after=0.01)
        since, both = controller.now(), {"load": [0.1] * 2, "data": [0.0] * 2, "demand": [[0.5, 0.5]] * 2}
        of = [{"service": "s", "microservice": i, "attempt": 4 - 4 * i} for i in range(2)]
        times = dict.fromkeys(("time", "flow_start", "flow_end", "data_ready", "start", "finish"), since)
        controller._record(
            events.Submitted(time=since, service="s", spec=alone(**both, preds=[[], []], longest=0.01)),
            *(events.Decided(**each, **times, host=host, links={}, policy="some") for host, each in enumerate(of)),
            *(events.ExecutionStarted(**each, time=since) for each in of),
            events.WorkerDown(time=since, host=0),
        )
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(controller._watch(), 1.5))
        assert controller.ledger.counters.given_up == controller.ledger.counters.failed == 1


def alone(**fields):
    """A service of one microservice."""
    return events.Service(**{"source": 0, "load": [0.1], "data": [0.0], "demand": [[0.5, 0.5]], "preds": [[]]} | fields)


def test_a_program_that_hangs_is_stopped_and_its_service_given_up(tmp_path, decider):
    """Each attempt runs for the second and a half that it may; then what did not fit on any node can run."""
    hangs = ["/bin/sh", "-c", f"echo $$ >> {tmp_path / 'tried'}; exec sleep 1000"]

    async def scenario():
        async with three_workers(tmp_path) as addresses, controlling(tmp_path, addresses, decider) as controller:
            controller.submit("hangs", alone(commands=[hangs], longest=1.5, demand=[[0.9, 0.9]]))
            for name in ("fine", "fine-too", "fine-as-well"):
                controller.submit(name, alone(commands=[["/bin/sleep", "0.2"]], longest=100.0, demand=[[0.9, 0.9]]))
            await all_ended(controller)
            return controller.ledger.counters

    counters = asyncio.run(scenario())
    assert (counters.completed, counters.given_up, counters.failed) == (3, 1, 5)
    failed = [event for event in logged(tmp_path, "hangs") if isinstance(event, events.Failed)]
    assert {event.reason for event in failed} == {"stopped after 1.5 s"}
    tried = (tmp_path / "tried").read_text().split()
    assert len(tried) == 5 and not any(psutil.pid_exists(int(number)) for number in tried)


def test_a_program_that_ended_in_time_while_nobody_looked_has_not_failed(tmp_path, decider, monkeypatch):
    """The controller is away until the time is over, and looks at once, before it is connected to the worker."""
    monkeypatch.setattr("jaxcec.live.controller._RETRY", 1e-3)

    async def scenario():
        async with three_workers(tmp_path) as addresses:
            async with controlling(tmp_path, addresses, decider) as controller:
                controller.submit("s", alone(commands=[["/bin/sleep", "0.3"]], longest=1.0))
                while not any(booking.started for booking in controller.ledger.bookings.values()):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(1.2)
            async with controlling(tmp_path, addresses, decider) as controller:
                await all_ended(controller)
                return controller.ledger.counters

    counters = asyncio.run(scenario())
    assert counters.completed == 1 and counters.failed == 0 and len(finished(tmp_path)) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"demand": [[3.0, 0.5]]}, r"service.demand\[0\]: got \[3.0, 0.5\]; must fit an edge node"),
        ({"source": 3}, "service.source: got 3; must be an edge node from 0 to 2"),
        ({"load": [0.1] * 7, "data": [0.0] * 7, "demand": [[0.5, 0.5]] * 7, "preds": [[]] * 7}, "got 7 microservices"),
        ({"load": [0.1] * 2, "data": [0.0] * 2, "demand": [[0.5, 0.5]] * 2, "preds": [[1], [0]]}, "has a cycle"),
    ],
)
def test_what_cannot_run_anywhere_is_refused(tmp_path, decider, fields, message):
    async def scenario():
        async with controlling(tmp_path, ["127.0.0.1:1"] * 3, decider) as controller:
            with pytest.raises(ValueError, match=message):
                controller.submit("s", alone(**fields))

    asyncio.run(scenario())
    assert not logged(tmp_path, "s")


def test_a_name_belongs_to_one_service(tmp_path, decider):
    async def scenario():
        async with controlling(tmp_path, ["127.0.0.1:1"] * 3, decider) as controller:
            assert controller.submit("s", alone())
            assert not controller.submit("s", alone())
            with pytest.raises(ValueError, match="name: got 's', under which another service was submitted"):
                controller.submit("s", alone(load=[0.2]))

    asyncio.run(scenario())


def test_the_log_belongs_to_one_site(tmp_path, decider):
    other = SITE.model_copy(update={"node_speed": [1.0, 1.0, 1.0]})

    async def scenario(site):
        async with controlling(tmp_path, ["127.0.0.1:1"] * 3, decider, site):
            pass

    asyncio.run(scenario(SITE))
    with pytest.raises(ValueError, match=r"site: got .*; must be that with which the log was begun"):
        asyncio.run(scenario(other))


def test_every_edge_node_has_a_worker(tmp_path, decider):
    async def scenario():
        async with controlling(tmp_path, ["127.0.0.1:1"] * 2, decider):
            pass

    with pytest.raises(ValueError, match=r"workers: got \[0, 1\]; must have host 2"):
        asyncio.run(scenario())


def test_a_service_whose_every_attempt_fails_is_given_up(tmp_path, decider):
    """Others go on, and its slot is free again."""

    async def scenario():
        async with three_workers(tmp_path) as addresses, controlling(tmp_path, addresses, decider) as controller:
            controller.submit("bad", alone(commands=[["/bin/false"]]))
            controller.submit("good", alone(commands=[["/bin/true"]]))
            await all_ended(controller)
            return controller.ledger.counters

    counters = asyncio.run(scenario())
    assert (counters.completed, counters.given_up, counters.failed) == (1, 1, 5)
    reasons = [
        event.reason for _, event in EventLog(tmp_path / "log.sqlite").read(service="bad") if event.kind == "failed"
    ]
    assert reasons == ["/bin/false: ended with status 1: "] * 5
