"""The lab: rates of flows and of work in three namespaces, against the ideal; and nothing is left of it."""

import asyncio
import csv
import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydantic")
pytest.importorskip("psutil")

import psutil
from helpers.workers import connected

from jaxcec.commands import live
from jaxcec.commands.live import LabCommand, run_lab
from jaxcec.env.routing import Link
from jaxcec.live import lab_network
from jaxcec.live.lab import Lab, clean
from jaxcec.live.protocol import Burn, Command, Input, Run
from jaxcec.live.referee import errors, same_order
from jaxcec.scenarios import Scenario

LINKS = [Link(0, 1, 20.0), Link(1, 2, 20.0, 10.0)]  # half duplex; full duplex
CORES = [0.2, 0.2, 0.2]
MBIT = 125_000  # bytes


LEFT_BEHIND = """
import sys
from pathlib import Path
from jaxcec.env.routing import Link
from jaxcec.live.lab import Lab
with Lab([Link(0, 1, 10.0)], [0.1, 0.1], folder=Path(sys.argv[1]), load_every=1.0):
    print("up", flush=True)
    sys.stdin.read()
    raise RuntimeError("something went wrong")
"""


@pytest.mark.parametrize("end", ["kill", "exception", "interrupt"])
def test_nothing_is_left_of_a_lab(lab_is_free, tmp_path, end):
    process = subprocess.Popen(
        [sys.executable, "-c", LEFT_BEHIND, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "up\n"
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [child.pid for child in children if is_worker(child.pid)]
        assert len(workers) == 2
        if end == "kill":
            process.kill()
        elif end == "interrupt":
            process.send_signal(signal.SIGINT)
    assert process.returncode != 0
    time.sleep(0.2)
    assert not any(map(is_worker, workers))
    assert bool(clean()) == (end == "kill")
    assert lab_network.left_over() == [] and clean() == []


def is_worker(pid):
    try:
        return b"jaxcec.live.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.fixture(scope="module")
def lab_is_free():
    """Skip where there can be no lab, or where another one is running."""
    try:
        clean()
    except lab_network.LabUnavailable as error:
        pytest.skip(str(error))


THREE_NODES = {
    "num_nodes": 3,
    "neighbours": (1, 2),
    "num_services": 4,
    "max_microservices": 6,
    "data": 100.0,
    "arrival_rate": 0.05,
    "num_topologies": 2,
    "num_dags": 8,
    "num_patterns": 2,
    "num_traces": 4,
    "num_frames": 64,
}


def test_a_small_network_does_what_the_simulator_predicts_and_goes_on(lab_is_free, tmp_path, monkeypatch):
    """Half a minute in which the lab plays an episode of about a hundred seconds, twice, and then what is missing.

    The bounds are far from what a quiet machine reaches, as other tests use the machine too.
    """
    own = ("jaxcec.policies:earliest_finish",)
    command = LabCommand(Scenario(**THREE_NODES), policies=("eft",), policy=own, pace=20.0, out=tmp_path / "out")
    outcome, other = run_lab(command)
    assert other.policy == own[0] and other.simulated == outcome.simulated
    finishes, executions = (errors(outcome.intervals, what) for what in ("finish", "execution"))
    assert outcome.failed == 0 and finishes.number == executions.number > 0
    assert finishes.median < 0.25 and executions.median < 0.25
    rows = list(csv.DictReader((tmp_path / "out" / "intervals.csv").read_text().splitlines()))
    assert len(rows) == len(outcome.intervals) + len(other.intervals)
    assert "vega" in (tmp_path / "out" / "referee.html").read_text()
    assert lab_network.left_over() == []
    with monkeypatch.context() as patched:
        patched.setattr(live, "Lab", None)
        assert run_lab(command) == [outcome, other]
    next((tmp_path / "out").glob("jaxcec*.sqlite")).unlink()
    same, again = run_lab(command)
    assert same == outcome and again.intervals != other.intervals
    assert (again.policy, again.simulated, len(again.intervals)) == (own[0], other.simulated, len(other.intervals))
    with pytest.raises(ValueError, match=r"--out: the lab in .* has seed 0, not 1"):
        run_lab(dataclasses.replace(command, seed=1))


@pytest.mark.slow
def test_eight_nodes_hold_the_bars(lab_is_free, tmp_path):
    """Two episodes under four policies, at the default pace."""
    command = LabCommand(Scenario(), episodes=2, out=tmp_path / "out")
    outcomes = run_lab(command)
    finishes = errors([each for outcome in outcomes for each in outcome.intervals], "finish")
    assert sum(outcome.failed for outcome in outcomes) == 0
    assert finishes.median <= 0.05 and finishes.high <= 0.15
    assert same_order(outcomes)


@pytest.fixture(scope="module")
def lab(lab_is_free, tmp_path_factory):
    with Lab(LINKS, CORES, folder=tmp_path_factory.mktemp("lab"), load_every=0.5) as lab:
        yield lab


def play(lab, runs, *, tell_loads=False):
    """Tell nodes their runs at once; the reports of each run by its identifier."""

    async def one(node, run):
        async with connected(lab.addresses[node], lab.token) as controller:
            await controller.send(run)
            return await controller.reports(run.id)

    async def all_of_them():
        return await asyncio.gather(*(one(node, run) for node, run in runs))

    return dict(zip((run.id for _, run in runs), asyncio.run(all_of_them()), strict=True))


def fetch(lab, name, *parts):
    """A run that only pulls parts: (node that has it, Mbit, Mbit/s)."""
    inputs = [Input(peer=lab.addresses[node], size=int(mbit * MBIT), rate=rate * MBIT) for node, mbit, rate in parts]
    return Run(id=name, inputs=inputs, work=Burn(cpu_seconds=0.0))


def flow_times(reports):
    return [part.ended - part.started for part in reports[1].parts]


FAST = 1000.0  # Mbit/s: unpaced


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("alone over one link", [(1, [(0, 20, FAST)])]),
        ("over two links, the second of which is slower in this direction", [(0, [(2, 10, FAST)])]),
        ("over two links, at full rate in this one", [(2, [(0, 20, FAST)])]),
        ("paced", [(1, [(0, 8, 8.0)])]),
        ("paced and small", [(2, [(0, 0.5, 0.5)])]),
        ("a coflow that fills the last link", [(2, [(0, 12, 12.0), (1, 8, 8.0)])]),
        ("unpaced, sharing", [(2, [(0, 10, FAST), (0, 10, FAST)])]),
        ("opposite ways on a half-duplex link", [(1, [(0, 10, FAST)]), (0, [(1, 10, FAST)])]),
        ("opposite ways on a full-duplex link", [(2, [(1, 20, FAST)]), (1, [(2, 10, FAST)])]),
    ],
)
def test_flows_take_the_ideal_time(lab, name, runs):
    """In each case the last one ends after one second. Flows that are not paced share a link as TCP has it, less
    exactly."""
    orders = [
        (node, fetch(lab, f"{name.replace(' ', '-')}{i}".replace(",", ""), *parts))
        for i, (node, parts) in enumerate(runs)
    ]
    reports = play(lab, orders)
    measured = [seconds for _, run in orders for seconds in flow_times(reports[run.id])]
    paced = all(rate < FAST for _, parts in runs for *_, rate in parts)
    assert max(measured) == pytest.approx(1.0, rel=0.05 if paced else 0.25)


def test_a_flow_goes_on_after_its_link_was_cut(lab):
    """For the second second of four."""

    async def scenario():
        async with connected(lab.addresses[1], lab.token) as controller:
            await controller.send(fetch(lab, "cut", (0, 16, 8.0)))
            for state in ("down", "up"):
                await asyncio.sleep(1.0)
                subprocess.run(["ip", "-n", "jaxcec-wires", "link", "set", "bridge0", state], check=True)
            return await controller.reports("cut")

    reports = asyncio.run(scenario())
    assert reports[-1].kind == "execution_ended" and reports[1].parts[0].size == 16 * MBIT
    assert 2.9 < flow_times(reports)[0] < 30.0


@pytest.mark.slow
def test_eight_burns_at_once_take_the_time_of_their_shares(lab):
    """0.05 s of processor time at a quarter of a fifth of a core: 1 s."""
    warm = [(node, Run(id=f"w{node}.{i}", work=Burn(cpu_seconds=0.0))) for node in (0, 1) for i in range(4)]
    play(lab, warm)
    runs = [
        (node, Run(id=f"b{node}.{i}", work=Burn(cpu_seconds=0.05), share=0.25)) for node in (0, 1) for i in range(4)
    ]
    reports = play(lab, runs)
    assert [each[-1].at - each[-2].at for each in reports.values()] == pytest.approx([1.0] * 8, rel=0.1)


def test_a_program_is_held_to_its_share(lab):
    """Half of a fifth of a core, against a loop of a tenth of a second of processor time."""
    code = "import time\nwhile time.process_time() < 0.1: pass"
    reports = play(lab, [(2, Run(id="loop", work=Command(argv=[sys.executable, "-c", code]), share=0.5))])
    started, ended = reports["loop"][-2:]
    assert ended.at - started.at > 0.75 * ended.cpu_seconds / 0.1


@pytest.mark.slow
def test_tenants_take_what_their_trace_says(lab):
    """Half of the first link and of node 1's processor for two seconds."""
    loads = np.zeros((4, 3 + 3))
    loads[:, 0] = loads[:, 3 + 1] = 0.5
    lab.start_tenants(loads, frame=0.5, yields=True)
    begin = time.monotonic() + 0.7  # what starting them took is measured before
    lab.begin_tenants(begin)

    async def measure():
        async with connected(lab.addresses[1], lab.token) as controller:
            until, found = begin + 2.7, []
            while time.monotonic() < until:
                report = await controller.next()
                found += [report] * (report.kind == "load" and report.clock - report.seconds > begin - 0.5)
            return found

    found = asyncio.run(measure())
    carried = sum(load.links["0-1"] * load.seconds for load in found)
    used = sum(load.cpu * load.seconds for load in found)
    assert carried / (10 * MBIT * 2) == pytest.approx(1.0, abs=0.1)
    assert used == pytest.approx(0.5 * 2, abs=0.15)


def test_a_machine_has_one_lab(lab, tmp_path):
    with (
        pytest.raises(lab_network.LabUnavailable, match="a lab is running"),
        Lab(LINKS, CORES, folder=tmp_path, load_every=1.0),
    ):
        pass
    with pytest.raises(lab_network.LabUnavailable, match="a lab is running"):
        clean()


def test_without_capabilities_a_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(lab_network, "Path", lambda name: tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tpython\nCapEff:\t0000000000000000\n")
    with pytest.raises(lab_network.LabUnavailable, match="CAP_NET_ADMIN"):
        lab_network.check_available()
