"""The worker of one node: it pulls inputs from other workers, does the work, serves the outputs and reports times.

    JAXCEC_LIVE_TOKEN=... python -m jaxcec.live.worker --name node0 --folder /var/lib/jaxcec

It does what a holder of the token orders, `protocol.py` says how, and nothing else. Whatever a run reports is on disk
first. Started again in the same folder, a worker answers for the runs that had ended; those that had not have failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from pydantic import BaseModel

from jaxcec.checks import check_numbers
from jaxcec.files import write_aside
from jaxcec.live import protocol
from jaxcec.live.cgroups import Group
from jaxcec.live.executor import OUTPUT, Executor, WorkFailed, work_folder
from jaxcec.live.meters import Interface, Meter
from jaxcec.live.room import Room
from jaxcec.live.transfers import MissingInput, pull, send_paced

TOKEN = "JAXCEC_LIVE_TOKEN"  # the environment variable
_RECORD = "record.json"
_PATIENCE = 10.0  # s for a connection's first frame
_MOST_UNREAD = 1 << 24  # bytes of reports that a controller may leave unread; then it is disconnected
_LAST = (protocol.ExecutionEnded, protocol.Failed, protocol.Cancelled)


@dataclasses.dataclass(frozen=True)
class WorkerSettings:
    """One node. The token that workers and controller share is read from the environment variable JAXCEC_LIVE_TOKEN."""

    name: str
    """Of the node, for the controller."""
    folder: Path
    """Keeps what runs report and their outputs."""
    host: str = "127.0.0.1"
    """Address to listen on and to connect from. Traffic is not encrypted: use a private network."""
    port: int = 7070
    """Port to listen on; 0 takes any that is free. The first line of output names it."""
    cores: float = float(os.cpu_count() or 1)
    """Processor cores that the node may use; shares are shares of them."""
    links: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name of each link to measure, by its network interface; both directions count."""
    sent_links: dict[str, str] = dataclasses.field(default_factory=dict)
    """The same of links that are full duplex: only what the node sends counts."""
    group: str | None = None
    """Control group of the node, such as `jaxcec/node0`: the runs get groups within it, whatever else runs in it counts
    as other tenants. Without one, programs are not held to their share, and the whole machine is the node."""
    load_every: float = 1.0
    """Seconds between two reports of the load."""

    def __post_init__(self) -> None:
        check_numbers(self, "", least={"port": 0}, positive=("cores", "load_every"))


class Record(BaseModel):
    """A run and what it has reported, as it is on disk; `run` is None if it was cancelled before it was told."""

    run: protocol.Run | None
    reports: list[protocol.RunReport] = []

    @property
    def ended(self) -> bool:
        """Whether nothing more will be reported."""
        return any(isinstance(report, _LAST) for report in self.reports)

    @property
    def succeeded(self) -> bool:
        """Whether there is an output."""
        return any(isinstance(report, protocol.ExecutionEnded) for report in self.reports)


class Worker:
    """See the module. A folder has one worker at a time.

    Raises:
        ValueError: the folder is another worker's, or the token is empty.
    """

    def __init__(self, settings: WorkerSettings, token: str) -> None:
        if not token:
            raise ValueError(f"{TOKEN}: got nothing; must be the token that workers and controller share")
        self._settings, self._token = settings, token
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(settings.folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"folder: got {settings.folder}; a worker that runs has it") from None
        node = Group(settings.group) if settings.group else None
        runs = node.child("runs") if node else None
        if runs is not None:
            runs.remove()  # what a worker that was killed has left
            runs.make()
        self._executor, self._room = Executor(settings.cores, runs), Room()
        interfaces = [Interface(name, link, True) for name, link in settings.links.items()]
        interfaces += [Interface(name, link, False) for name, link in settings.sent_links.items()]
        self._meter = Meter(settings.cores, interfaces, node, runs)
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._controllers: set[asyncio.StreamWriter] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}  # of the runs that have not ended
        self._records: dict[str, Record] = {}
        self._closing = False
        self.address = ""  # host:port, once it listens
        self._recall()

    def _recall(self) -> None:
        """Read the records of the folder. Runs that had not ended have failed."""
        for file in self._settings.folder.glob(f"*/{_RECORD}"):
            name, record = file.parent.name, Record.model_validate_json(file.read_text())
            self._records[name] = record
            if not record.ended:
                reason = "the worker was started again"
                self._report(protocol.Failed(id=name, at=time.monotonic(), reason=reason))

    async def serve(self) -> None:
        """Listen until cancelled."""
        await self._executor.prepare()
        server = await asyncio.start_server(self._connected, self._settings.host, self._settings.port)
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        print(f"{self._settings.name} listens on {self.address}", flush=True)
        try:
            async with server, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._measure())
                tasks.create_task(server.serve_forever())
        finally:
            self._closing = True
            for task in self._tasks.values():
                task.cancel()
            for writer in self._connections.values():
                writer.transport.abort()
            await asyncio.gather(*self._tasks.values(), *self._connections, return_exceptions=True)
            await self._executor.close()
            self._lock.release()

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(self._settings.load_every)
            load = self._meter.read()
            for writer in [*self._controllers]:
                self._tell(writer, load)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            async with asyncio.timeout(_PATIENCE):
                opening = await protocol.receive(reader, protocol.OPENINGS)
            if not hmac.compare_digest(opening.token.encode(), self._token.encode()):
                raise protocol.ProtocolError("token: wrong")
            if isinstance(opening, protocol.Hello):
                await self._converse(reader, writer)
            else:
                await self._send_output(opening, writer)
        except protocol.ProtocolError as error:
            writer.write(protocol.frame(protocol.Refused(reason=str(error))))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer has gone, and connects again
        finally:
            del self._connections[task]
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = self._settings
        runs = [*self._records][: protocol.MOST_NAMED]
        welcome = protocol.Welcome(node=settings.name, cores=settings.cores, clock=time.monotonic(), runs=runs)
        self._tell(writer, welcome)
        self._controllers.add(writer)
        try:
            while True:
                self._obey(await protocol.receive(reader, protocol.ORDERS), writer)
        finally:
            self._controllers.discard(writer)

    def _obey(self, order: protocol.Order, writer: asyncio.StreamWriter) -> None:
        if isinstance(order, protocol.Run) and order.id not in self._records:
            self._begin(order)
        elif isinstance(order, protocol.Cancel) and order.id not in self._records:
            self._records[order.id] = Record(run=None)
            self._report(protocol.Cancelled(id=order.id, at=time.monotonic()))
        elif isinstance(order, protocol.Cancel) and order.id in self._tasks:
            if not self._tasks[order.id].cancelling():  # a second time would interrupt the end of the program
                self._tasks[order.id].cancel()
        elif isinstance(order, protocol.Forget):
            self._forget(order.ids)
        else:
            for name in order.ids if isinstance(order, protocol.Status) else [order.id]:
                record = self._records.get(name)
                for report in record.reports if record else [protocol.Unknown(id=name)]:
                    self._tell(writer, report)

    def _begin(self, run: protocol.Run) -> None:
        self._records[run.id] = Record(run=run)
        self._tasks[run.id] = asyncio.create_task(self._perform(run, time.monotonic()))
        self._tasks[run.id].add_done_callback(lambda task: self._stopped(run.id, task))

    def _stopped(self, name: str, task: asyncio.Task[None]) -> None:
        """A run has ended, or was cancelled, perhaps before it began. A shutdown leaves it unended, as a kill would."""
        del self._tasks[name]
        if task.cancelled() and not self._closing:
            self._report(protocol.Cancelled(id=name, at=time.monotonic()))

    async def _perform(self, run: protocol.Run, received: float) -> None:
        """A run from its receipt to its last report."""
        try:
            self._save(run.id)
            await _until(received + run.not_before)
            if run.inputs:
                await self._pull_inputs(run)
            await _until(received + run.hold)
            async with self._room.taken(run.usage):
                self._report(protocol.ExecutionStarted(id=run.id, at=time.monotonic()))
                used = await self._executor.work(run, self._folder(run.id))
                self._report(protocol.ExecutionEnded(id=run.id, at=time.monotonic(), cpu_seconds=used))
        except Exception as error:  # whatever it is, the controller must learn that the run has ended
            self._report(protocol.Failed(id=run.id, at=time.monotonic(), reason=_reason(error)))

    async def _pull_inputs(self, run: protocol.Run) -> None:
        """Pull all parts at once, each at its rate."""
        self._report(protocol.FlowStarted(id=run.id, at=time.monotonic()))
        async with asyncio.TaskGroup() as tasks:
            parts = [tasks.create_task(self._pull_input(run, part)) for part in run.inputs]
        ended = [part.result() for part in parts]
        self._report(protocol.FlowEnded(id=run.id, at=max(part.ended for part in ended), parts=ended))

    async def _pull_input(self, run: protocol.Run, part: protocol.Input) -> protocol.Part:
        """Programs get a file of each output; one that lies here is there at once."""
        with contextlib.ExitStack() as files:
            sink: BinaryIO | None = None
            if part.id is not None and isinstance(run.work, protocol.Command):
                sink = files.enter_context((work_folder(self._folder(run.id)) / part.id).open("wb"))
            if part.peer != self.address:
                return await pull(part, token=self._token, source=self._settings.host, sink=sink)
            started = time.monotonic()
            body, size = self._output(part.id, part.size)
            if body is not None and sink is not None:
                shutil.copyfileobj(files.enter_context(body), sink)
            return protocol.Part(peer=part.peer, size=size, started=started, ended=time.monotonic())

    def _output(self, name: str | None, size: int) -> tuple[BinaryIO | None, int]:
        """The output of a run as an open file, and its length. A burn has one of any size, without a file."""
        if name is None:
            return None, size
        record = self._records.get(name)
        if record is None or not record.succeeded:
            raise MissingInput(f"{self._settings.name} has no output of {name}")
        if record.run is None or isinstance(record.run.work, protocol.Burn):
            return None, size
        file = self._folder(name) / OUTPUT
        return file.open("rb"), file.stat().st_size

    async def _send_output(self, fetch: protocol.Fetch, writer: asyncio.StreamWriter) -> None:
        try:
            body, size = self._output(fetch.id, fetch.size)
        except MissingInput as error:
            writer.write(protocol.frame(protocol.Refused(reason=str(error), missing=True)))
            return
        left = max(size - fetch.offset, 0)
        writer.write(protocol.frame(protocol.Sending(size=left)))
        with body or contextlib.nullcontext():
            if body is not None:
                body.seek(fetch.offset)
            await send_paced(writer, body, size=left, rate=fetch.rate)

    def _report(self, report: protocol.RunReport) -> None:
        """Keep it, then tell everyone. A full disk is no reason to stop: it is forgotten if the worker ends."""
        self._records[report.id].reports.append(report)
        try:
            self._save(report.id)
        except OSError as error:
            print(f"{self._settings.name}: a report of {report.id} is not on disk: {error}", file=sys.stderr)
        for writer in [*self._controllers]:
            self._tell(writer, report)

    def _tell(self, writer: asyncio.StreamWriter, report: protocol.Report) -> None:
        if writer.transport.get_write_buffer_size() > _MOST_UNREAD:
            writer.transport.abort()
        else:
            writer.write(protocol.frame(report))

    def _forget(self, names: list[str]) -> None:
        for name in names:
            if name in self._records and self._records[name].ended:
                del self._records[name]
                shutil.rmtree(self._folder(name), ignore_errors=True)

    def _folder(self, run: str) -> Path:
        return self._settings.folder / run

    def _save(self, name: str) -> None:
        self._folder(name).mkdir(exist_ok=True)
        write_aside(self._folder(name) / _RECORD, self._records[name].model_dump_json())


async def _until(instant: float) -> None:
    await asyncio.sleep(max(instant - time.monotonic(), 0.0))


def _reason(error: Exception) -> str:
    """What went wrong, for a report."""
    if isinstance(error, ExceptionGroup):
        return "; ".join(map(_reason, error.exceptions))
    expected = isinstance(error, WorkFailed | MissingInput | protocol.ProtocolError)
    return str(error) if expected else f"{type(error).__name__}: {error}"


async def _serve_until_told(worker: Worker) -> None:
    """Serve until a signal says to end."""
    serving = asyncio.ensure_future(worker.serve())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def main() -> None:
    """`python -m jaxcec.live.worker`."""
    import tyro

    settings = tyro.cli(WorkerSettings, prog="python -m jaxcec.live.worker", description=__doc__)
    try:
        worker = Worker(settings, os.environ.pop(TOKEN, ""))  # programs do not inherit it
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    asyncio.run(_serve_until_told(worker))


if __name__ == "__main__":
    main()
