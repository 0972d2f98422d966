"""A log that is shortened says the same about everything that has not ended, and adds up to the same."""

import random
import time

import numpy as np
import pytest

pytest.importorskip("pydantic")

from jaxcec.commands import event_logs, live
from jaxcec.env import HISTORY
from jaxcec.live import events
from jaxcec.live.event_log import EventLog
from jaxcec.live.ledger import Ledger
from jaxcec.live.shorten import shorten
from jaxcec.live.site import Site

SITE = Site(
    links=[(0, 1, 10.0)],
    node_speed=[10.0, 10.0],
    device_speed=[0.0, 0.0],
    capacity=[[1.0], [1.0]],
    num_services=3,
    max_microservices=2,
)
SINCE = 1_766_000_000.0  # s


def service(rng):
    sizes = [rng.choice([50.0, 100.0]), rng.choice([50.0, 100.0])]
    return events.Service(source=0, load=sizes, data=[0.0] * 2, demand=[[0.5]] * 2, preds=[[], []])


def history(rng, count):
    """Services one after another and at once; most end, one is given up, some attempts fail, the last are in flight."""
    now = SINCE
    for host in (0, 1):
        yield events.WorkerUp(time=now, host=host)
    for i in range(count):
        now += rng.uniform(1.0, 30.0)
        yield events.Submitted(time=now, service=f"s{i}", spec=service(rng))
        yield events.LoadMeasured(time=now, host=0, cpu=rng.random(), links={0: rng.random()})
        if i % 7 == 3:
            yield events.WorkerDown(time=now, host=1)
            yield events.WorkerUp(time=now + 0.5, host=1)
        for j in (0, 1) if i < count - 2 else (0,):
            now += 1.0
            of = {"service": f"s{i}", "microservice": j}
            yield events.Postponed(time=now, attempt=0, until=now + 0.5, **of)
            yield decided(now, 0, of)
            if i % 5 == 2:
                yield events.Failed(time=now + 1.0, attempt=0, reason="no", gives_up=i == 12, **of)
                if i == 12:
                    break
                yield decided(now + 2.0, 1, of)
            yield events.ExecutionEnded(time=now + 4.0, attempt=int(i % 5 == 2), **of)
            now += 4.0


def decided(now, attempt, of):
    times = dict.fromkeys(("flow_start", "flow_end", "data_ready", "start"), now)
    return events.Decided(
        time=now, attempt=attempt, host=0, links={}, policy="some", late=attempt == 0, finish=now + 3.0, **times, **of
    )


def folded(log):
    ledger = Ledger(SITE)
    for _, event in log.read():
        ledger.apply(event)
    return ledger


def written(path, count=40):
    log = EventLog(path)
    log.settle("site", SITE.model_dump_json())
    log.append(list(history(random.Random(1), count)))
    return log


def assert_same(ledger, other):
    for name, value in vars(other.counters).items():
        assert getattr(ledger.counters, name) == pytest.approx(value, rel=1e-12), name
    assert ledger.time == other.time and ledger.time_unit == other.time_unit
    np.testing.assert_allclose(ledger.sums, other.sums, rtol=1e-12)
    np.testing.assert_array_equal(ledger.up, other.up)
    np.testing.assert_array_equal(ledger.load.until(other.time), other.load.until(other.time))
    assert ledger.slot_of.keys() == other.slot_of.keys() and ledger.bookings.keys() == other.bookings.keys()
    for name in ledger.slot_of:
        mine, others = ledger.slot_of[name], other.slot_of[name]
        for table in ("release", "work", "decided", "attempt", "finish", "postponed", "due", "patience"):
            np.testing.assert_array_equal(getattr(ledger, table)[mine], getattr(other, table)[others])


def test_the_ledger_of_what_is_left_is_the_same(tmp_path):
    written(tmp_path / "log").close()
    size, log = (tmp_path / "log").stat().st_size, EventLog(tmp_path / "log")
    before, newest = folded(log), max(number for number, _ in log.read())
    assert before.counters.given_up == 1 and before.counters.failed > 3 and len(before.slot_of) == 2
    for part in (0.5, 1.0):
        assert shorten(log, SITE, before=SINCE + part * (before.time - SINCE)) > 20
        assert_same(folded(log), before)
    left = [event for _, event in log.read()]
    assert {event.service for event in left if hasattr(event, "service")} == before.slot_of.keys()
    assert sum(isinstance(event, events.Carried) for event in left) == 1
    assert sum(isinstance(event, events.LoadMeasured) for event in left) < 40
    log.close()
    assert (tmp_path / "log").stat().st_size < size
    with EventLog(tmp_path / "log") as again:
        again.append([events.WorkerDown(time=before.time + 1.0, host=0)])
        assert max(number for number, _ in again.read()) == newest + 1


def test_there_may_be_nothing_to_remove(tmp_path):
    with written(tmp_path / "log") as log:
        kept = list(log.read())
        assert shorten(log, SITE, before=SINCE - HISTORY * SITE.frame) == 0
        assert list(log.read()) == kept
        end = kept[-1][1].time
        assert shorten(log, SITE, before=end) > 0
        kept = list(log.read())
        assert shorten(log, SITE, before=end) == 0
        assert list(log.read()) == kept


def test_the_command_keeps_so_many_days(tmp_path, monkeypatch, capsys):
    written(tmp_path / "log").close()
    end = SINCE + 10_000.0
    monkeypatch.setattr(time, "time", lambda: end)
    live.main(["shorten", str(tmp_path / "log"), "--keep-days", "1"])
    assert capsys.readouterr().out.startswith("0 events removed")
    live.main(["shorten", str(tmp_path / "log"), "--keep-days", "0"])
    assert not capsys.readouterr().out.startswith("0 events")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such event log"), (b"text" * 1000, "not an event log"), (b"", "not the log of")]
)
def test_other_files_are_refused(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "log").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        event_logs.shorten_log(event_logs.ShortenCommand(tmp_path / "log"))
