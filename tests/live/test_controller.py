"""Controller and workers together over loopback: nothing is lost, and nothing is run or counted twice."""

import asyncio
import contextlib
import random

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("psutil")

from helpers.controlled import RULE, SITE, all_ended, controlling, finished, random_service
from helpers.workers import running

from jaxcec.live import events
from jaxcec.live.decider import Decider
from jaxcec.live.event_log import EventLog


@pytest.fixture(scope="module")
def decider():
    decider = Decider(SITE, RULE, deadline=1.0)
    yield decider
    decider.close()


@contextlib.asynccontextmanager
async def three_workers(folder, **settings):
    """Their addresses."""
    async with contextlib.AsyncExitStack() as stack:
        names = ("node0", "node1", "node2")
        yield [(await stack.enter_async_context(running(folder, name, cores=0.2))).address for name in names]


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
    runs = finished(EventLog(tmp_path / "log.sqlite"))
    assert sorted(runs) == sorted(f"{name}.{j}.0" for name, service in services.items() for j in range(len(service.load)))
    for name, service in services.items():
        assert sorted((tmp_path / name).read_text().split()) == [str(j) for j in range(len(service.load))]
