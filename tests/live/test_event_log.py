"""The event log: each event once, whole transactions only, whatever ends the process or fills the disk."""

import signal
import sqlite3
import subprocess
import sys

import pytest

pytest.importorskip("pydantic")

from jaxcec.live import events
from jaxcec.live.event_log import EventLog


@pytest.fixture
def log(tmp_path):
    with EventLog(tmp_path / "log") as log:
        yield log


def kept(tmp_path):
    """What another reader finds."""
    with EventLog(tmp_path / "log") as log:
        return [event for _, event in log.read()]


SERVICE = events.Service(source=0, load=[1.0], data=[1.0], demand=[[1.0]], preds=[[]])


def submitted(name, time=1.0):
    return events.Submitted(time=time, service=name, spec=SERVICE)


def test_an_event_is_kept_once(tmp_path, log):
    first, again, other = submitted("a"), submitted("a", time=2.0), submitted("b")
    assert log.append([first]) == [first]
    assert log.append([again, other]) == [other]
    assert list(log.read()) == [(1, first), (2, other)]
    assert kept(tmp_path) == [first, other]


def test_events_are_read_from_a_number_on_and_by_service(log):
    up = events.WorkerUp(time=1.0, host=0)
    log.append([submitted("a"), up, submitted("b")])
    assert [event for _, event in log.read(after=1)] == [up, submitted("b")]
    assert [event for _, event in log.read(service="b")] == [submitted("b")]
    assert not list(log.read(service="c"))


@pytest.mark.parametrize(
    "event",
    [
        submitted("a"),
        events.WorkerDown(time=1.5, host=3),
        events.LoadMeasured(time=1.0, host=1, cpu=0.25, links={0: 0.5}),
        events.Failed(time=2.0, service="a", microservice=1, attempt=2, reason="no", gives_up=True),
    ],
)
def test_events_come_back_as_they_were(tmp_path, log, event):
    log.append([event])
    assert kept(tmp_path) == [event]


def test_a_full_disk_loses_the_whole_transaction_and_nothing_else(tmp_path, log):
    """SQLite reports the same error for a file that may not grow as for a disk that is full."""
    log.append([submitted("first")])
    (pages,) = log._database.execute("PRAGMA page_count").fetchone()
    log._database.execute(f"PRAGMA max_page_count = {pages}")
    many = [submitted(f"s{i}") for i in range(1000)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        log.append(many)
    assert kept(tmp_path) == [submitted("first")]
    log._database.execute("PRAGMA max_page_count = 1000000")
    assert log.append(many) == many


APPENDING = """
import sys
from pathlib import Path
from jaxcec.live.event_log import EventLog
from jaxcec.live.events import WorkerDown, WorkerUp
log, n = EventLog(Path(sys.argv[1])), 0
while True:
    log.append([WorkerUp(time=n, host=0), WorkerDown(time=n, host=0)])
    print(n, flush=True)
    n += 1
"""


def test_a_killed_process_leaves_whole_transactions(tmp_path):
    with subprocess.Popen([sys.executable, "-c", APPENDING, tmp_path / "log"], stdout=subprocess.PIPE) as process:
        for _ in range(30):
            line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    last = int([line, *rest][-1])
    found = [(event.kind, event.time) for event in kept(tmp_path)]
    whole = len(found) // 2
    assert whole >= last + 1  # what was said to be kept is
    assert found == [(kind, float(n)) for n in range(whole) for kind in ("worker_up", "worker_down")]


def test_a_log_keeps_its_settings(log):
    log.settle("site", "one")
    log.settle("site", "one")
    with pytest.raises(ValueError, match="site: got two; must be that with which the log was begun, one"):
        log.settle("site", "two")
