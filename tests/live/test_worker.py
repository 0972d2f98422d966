"""The worker: transfers at the decided rate, work within its share, and answers that can be asked for twice."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("psutil")

import psutil
from helpers.workers import LAST, TOKEN, connected, running

from jaxcec.env import timeline
from jaxcec.live import protocol
from jaxcec.live.protocol import Burn, Cancel, Command, Failed, Forget, Input, Refused, Run, Status, frame
from jaxcec.live.room import TOLERANCE
from jaxcec.live.worker import Worker, WorkerSettings

PATIENCE = 30.0  # s: how long something may take on a machine that does other work; how exact it is, the lab measures


def kinds(reports):
    return [report.kind for report in reports]


def python(code):
    """Work that is a line of Python."""
    return Command(argv=[sys.executable, "-c", code])


def test_inputs_come_at_their_rates_and_end_together(tmp_path):
    """50 kB at 100 kB/s and 25 kB at 50 kB/s: half a second each, or more on a machine that does other work."""

    async def scenario():
        async with (
            running(tmp_path, "a") as a,
            running(tmp_path, "b") as b,
            running(tmp_path, "c") as c,
            connected(c.address) as controller,
        ):
            inputs = [Input(peer=a.address, size=50_000, rate=1e5), Input(peer=b.address, size=25_000, rate=5e4)]
            await controller.send(Run(id="r", inputs=inputs, work=Burn(cpu_seconds=0.0)))
            return await controller.reports("r")

    reports = asyncio.run(scenario())
    assert kinds(reports) == ["flow_started", "flow_ended", "execution_started", "execution_ended"]
    parts = reports[1].parts
    assert [part.size for part in parts] == [50_000, 25_000]
    for part in parts:
        assert 0.45 < part.ended - part.started < PATIENCE


def test_nothing_begins_before_it_may(tmp_path):
    async def scenario():
        async with running(tmp_path, "a") as a, running(tmp_path, "b") as b, connected(b.address) as controller:
            part = Input(peer=a.address, size=1000, rate=1e6)
            begin = time.monotonic()
            await controller.send(Run(id="r", inputs=[part], not_before=0.2, hold=0.4, work=Burn(cpu_seconds=0)))
            return begin, await controller.reports("r")

    begin, reports = asyncio.run(scenario())
    assert 0.2 <= reports[0].at - begin < PATIENCE
    assert 0.4 <= reports[2].at - begin < PATIENCE


def test_a_run_waits_for_room(tmp_path):
    """The memory of `second` is held by `first`, which is late. What is cancelled while it waits holds nothing, and
    what has room does not wait."""

    async def scenario():
        async with running(tmp_path) as worker, connected(worker.address) as controller:
            reports = {name: [] for name in ("first", "gone", "second", "third")}

            async def hear_until(heard):
                while not heard():
                    report = await controller.next()
                    reports.get(getattr(report, "id", None), []).append(report)

            for name, usage in zip(reports, ([0.2, 0.6], [0.2, 0.6], [0.2, 0.6], [0.3, 0.1]), strict=True):
                await controller.send(Run(id=name, work=Burn(cpu_seconds=0.3), usage=usage))
            await hear_until(lambda: reports["first"] and reports["third"])
            await controller.send(Cancel(id="gone"))
            await hear_until(lambda: all(of and isinstance(of[-1], LAST) for of in reports.values()))
            return reports

    reports = asyncio.run(scenario())
    assert kinds(reports.pop("gone")) == ["cancelled"]
    times = {name: [report.at for report in of] for name, of in reports.items()}
    assert times["third"][0] < times["first"][1] <= times["second"][0]


def test_shares_are_compared_as_the_mirror_does():
    assert TOLERANCE == timeline.TOLERANCE


def test_a_run_that_is_cancelled_before_it_began_says_so(tmp_path):
    async def scenario():
        async with running(tmp_path) as worker, connected(worker.address) as controller:
            controller.writer.write(frame(Run(id="r", work=Burn(cpu_seconds=0.0))) + frame(Cancel(id="r")))
            return await controller.reports("r")

    assert kinds(asyncio.run(scenario())) == ["cancelled"]


def test_a_welcome_names_the_runs_that_a_worker_has(tmp_path):
    async def scenario():
        async with running(tmp_path) as worker:
            async with connected(worker.address) as controller:
                await controller.send(Run(id="r", work=Burn(cpu_seconds=0.0)))
                await controller.reports("r")
            async with connected(worker.address) as again:
                return await again.next()

    assert asyncio.run(scenario()).runs == ["r"]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_burn_takes_the_time_of_its_share(tmp_path, share):
    """0.05 s of processor time at a share of a fifth of a core."""

    async def scenario():
        async with running(tmp_path, cores=0.2) as worker, connected(worker.address) as controller:
            for name in ("first", "second"):  # the burner of the second is there already
                await controller.send(Run(id=name, work=Burn(cpu_seconds=0.05), share=share))
                reports = await controller.reports(name)
            return reports

    begun, ended = asyncio.run(scenario())
    assert 0.9 * 0.05 / (0.2 * share) < ended.at - begun.at < PATIENCE


def test_programs_pass_their_outputs_on(tmp_path):
    """The output of `first` goes to `second` on another worker, and from there to `third` on the same."""

    async def scenario():
        async with (
            running(tmp_path, "a") as a,
            running(tmp_path, "b") as b,
            connected(a.address) as one,
            connected(b.address) as two,
        ):
            await one.send(Run(id="first", work=python("print('x' * 5000)")))
            await one.reports("first")
            part = Input(peer=a.address, id="first", size=1, rate=1e6)
            await two.send(Run(id="second", inputs=[part], work=python("print(len(open('first').read()))")))
            await two.reports("second")
            part = Input(peer=b.address, id="second", size=1, rate=1e6)
            await two.send(Run(id="third", inputs=[part], work=python("print(open('second').read() * 2)")))
            return await two.reports("third")

    reports = asyncio.run(scenario())
    assert kinds(reports)[-1] == "execution_ended"
    assert (tmp_path / "b" / "third" / "output").read_text().split() == ["5001", "5001"]


def test_a_run_told_twice_is_done_once(tmp_path):
    mark = tmp_path / "mark"

    async def scenario():
        async with running(tmp_path) as worker:
            async with connected(worker.address) as controller:
                run = Run(id="r", work=python(f"open({str(mark)!r}, 'a').write('x')"))
                await controller.send(run)
                await controller.send(run)
                first = await controller.reports("r")
            async with connected(worker.address) as again:  # a controller that was started again
                await again.send(run)
                second = await again.reports("r")
                await again.send(Status(ids=["r", "never"]))
                third = await again.reports("r")
                return first, second, third, await again.reports("never")

    first, second, third, never = asyncio.run(scenario())
    assert mark.read_text() == "x"
    assert second == third and second[-1] in first and kinds(never) == ["unknown"]


def test_a_cancelled_run_stops_and_one_cancelled_before_never_starts(tmp_path):
    mark = tmp_path / "mark"
    slow = python(f"import time; open({str(mark)!r}, 'w').close(); time.sleep(60)")

    async def scenario():
        async with running(tmp_path) as worker, connected(worker.address) as controller:
            await controller.send(Run(id="r", work=slow))
            while not mark.exists():
                await asyncio.sleep(0.01)
            await controller.send(Cancel(id="r"))
            running_one = await controller.reports("r")
            mark.unlink()
            await controller.send(Cancel(id="s"))
            await controller.send(Run(id="s", work=slow))
            return running_one, await controller.reports("s")

    running_one, never = asyncio.run(scenario())
    assert kinds(running_one) == ["execution_started", "cancelled"] and kinds(never)[0] == "cancelled"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (python("import sys; sys.exit('no luck')"), "ended with status 1: no luck"),
        (Command(argv=["/no/such/program"]), "ended with status 1: No such file"),
    ],
)
def test_what_fails_says_why(tmp_path, work, reason):
    async def scenario():
        async with running(tmp_path) as worker, connected(worker.address) as controller:
            await controller.send(Run(id="r", work=work))
            return await controller.reports("r")

    last = asyncio.run(scenario())[-1]
    assert isinstance(last, Failed)
    assert re.search(reason, last.reason)


def test_an_input_that_is_nowhere_fails_the_run(tmp_path):
    async def scenario():
        async with running(tmp_path, "a") as a, running(tmp_path, "b") as b, connected(b.address) as controller:
            part = Input(peer=a.address, id="lost", size=10, rate=1e6)
            await controller.send(Run(id="r", inputs=[part], work=Burn(cpu_seconds=0.0)))
            return await controller.reports("r")

    assert asyncio.run(scenario())[-1].reason == "a has no output of lost"


def test_a_transfer_goes_on_after_its_sender_was_away(tmp_path):
    """The sender ends in the middle and listens again on the same port."""

    async def scenario():
        async with running(tmp_path, "b") as b, connected(b.address) as controller:
            async with running(tmp_path, "a") as a:
                port = int(a.address.rsplit(":")[-1])
                part = Input(peer=a.address, size=40_000, rate=1e5)
                await controller.send(Run(id="r", inputs=[part], work=Burn(cpu_seconds=0.0)))
                await asyncio.sleep(0.2)
            again = Worker(WorkerSettings(name="a", folder=tmp_path / "a", port=port), TOKEN)
            serving = asyncio.create_task(again.serve())
            reports = await controller.reports("r")
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            return reports

    reports = asyncio.run(scenario())
    assert kinds(reports)[-1] == "execution_ended" and reports[1].parts[0].size == 40_000


def test_a_worker_that_was_killed_answers_for_what_it_did(tmp_path):
    """Run `done` has ended and `open` has not; the program of `open` ends with the worker."""
    environment = os.environ | {"JAXCEC_LIVE_TOKEN": TOKEN}
    command = [sys.executable, "-m", "jaxcec.live.worker", "--name", "n", "--folder", tmp_path / "n", "--port", "0"]

    def start():
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        return process, process.stdout.readline().split()[-1]

    async def before(address):
        async with connected(address) as controller:
            await controller.send(Run(id="done", work=python("print(1)")))
            await controller.reports("done")
            code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
            await controller.send(Run(id="open", work=python(code)))
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                await asyncio.sleep(0.01)

    async def after(address):
        async with connected(address) as controller:
            await controller.send(Status(ids=["done", "open"]))
            return await controller.reports("done"), await controller.reports("open")

    process, address = start()
    with process:
        asyncio.run(before(address))
        process.kill()
    again, address = start()
    with again:
        done, left = asyncio.run(after(address))
        again.send_signal(signal.SIGTERM)
        assert again.wait(10) == 0
    assert kinds(done) == ["execution_started", "execution_ended"]
    assert kinds(left) == ["execution_started", "failed"] and "started again" in left[-1].reason
    program = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(program) or psutil.Process(program).status() == psutil.STATUS_ZOMBIE


def test_what_is_forgotten_is_gone(tmp_path):
    async def scenario():
        async with running(tmp_path) as worker, connected(worker.address) as controller:
            await controller.send(Run(id="r", work=Burn(cpu_seconds=0.0)))
            await controller.reports("r")
            await controller.send(Forget(ids=["r", "other"]))
            await controller.send(Status(ids=["r"]))
            return await controller.reports("r")

    assert kinds(asyncio.run(scenario())) == ["unknown"]
    assert not (tmp_path / "node0" / "r").exists()


@pytest.mark.parametrize("opening", ["wrong token", "no message", "huge frame", "fetch with a wrong token"])
def test_strangers_are_refused(tmp_path, opening):
    async def scenario():
        async with running(tmp_path) as worker:
            host, port = worker.address.rsplit(":", 1)
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                {
                    "wrong token": protocol.frame(protocol.Hello(token="guess")),
                    "no message": b"\0\0\0\2{}",
                    "huge frame": b"\xff\xff\xff\xff",
                    "fetch with a wrong token": protocol.frame(protocol.Fetch(token="x", id=None, size=9, rate=9.0)),
                }[opening]
            )
            answer = await protocol.receive(reader, protocol.REPORTS)
            rest = await reader.read()
            writer.close()
            return answer, rest

    answer, rest = asyncio.run(scenario())
    assert isinstance(answer, Refused) and not answer.missing and rest == b""


def test_load_of_others_and_links_is_measured(tmp_path):
    """A transfer of 100 kB at 200 kB/s over loopback, which counts every byte as sent and as received."""

    async def scenario():
        async with (
            running(tmp_path, "a") as a,
            running(tmp_path, load_every=0.5, links={"lo": "wire"}) as b,
            connected(b.address) as controller,
        ):
            part = Input(peer=a.address, size=100_000, rate=2e5)
            await controller.send(Run(id="r", inputs=[part], work=Burn(cpu_seconds=0.0)))
            loads = []
            while sum(load.links["wire"] * load.seconds for load in loads) <= 100_000:  # received and half sent
                report = await controller.next()
                loads += [report] * (report.kind == "load")
            return loads

    loads = asyncio.run(scenario())
    assert sum(load.links["wire"] * load.seconds for load in loads) > 100_000
    assert all(load.cpu >= 0.0 and 0.3 < load.seconds < PATIENCE for load in loads)


def test_a_folder_has_one_worker(tmp_path):
    first = Worker(WorkerSettings(name="n", folder=tmp_path), TOKEN)
    with pytest.raises(ValueError, match="a worker that runs has it"):
        Worker(WorkerSettings(name="n", folder=tmp_path), TOKEN)
    first._lock.release()


def test_settings_are_checked(tmp_path):
    with pytest.raises(ValueError, match="cores: got -1; must be positive"):
        WorkerSettings(name="n", folder=tmp_path, cores=-1)
    with pytest.raises(ValueError, match="JAXCEC_LIVE_TOKEN: got nothing"):
        Worker(WorkerSettings(name="n", folder=tmp_path), "")


def test_the_clock_of_a_worker_is_read_from_here():
    """It is 100 s ahead; the second message was delayed by 3 s, and a lie about the future is cut off."""
    clock = protocol.WorkerClock()
    clock.saw(sent=110.0, received=10.001)
    clock.saw(sent=111.0, received=14.0)
    assert clock.local(112.0, now=20.0) == pytest.approx(12.001)
    assert clock.local(500.0, now=20.0) == 20.0
