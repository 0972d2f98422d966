"""Workers over loopback, and a controller that writes down what they say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from jaxcec.live.protocol import REPORTS, Cancelled, ExecutionEnded, Failed, Hello, Message, Unknown, frame, receive
from jaxcec.live.worker import Worker, WorkerSettings

TOKEN = "secret"
LAST = (ExecutionEnded, Failed, Cancelled, Unknown)


@contextlib.asynccontextmanager
async def running(folder: Path, name: str = "node0", **settings) -> AsyncIterator[Worker]:
    """A worker in this process, on a free port."""
    worker = Worker(WorkerSettings(name=name, folder=folder / name, **{"port": 0} | settings), TOKEN)
    serving = asyncio.create_task(worker.serve())
    while not worker.address and not serving.done():
        await asyncio.sleep(0.001)
    try:
        yield worker
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@contextlib.asynccontextmanager
async def connected(address: str, token: str = TOKEN) -> AsyncIterator[Controller]:
    """A controller of a worker."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    controller = Controller(reader, writer)
    await controller.send(Hello(token=token))
    try:
        yield controller
    finally:
        writer.close()
        await writer.wait_closed()


class Controller:
    """One connection to a worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, message: Message) -> None:
        self.writer.write(frame(message))
        await self.writer.drain()

    async def next(self):
        async with asyncio.timeout(120):
            return await receive(self.reader, REPORTS)

    async def reports(self, run: str) -> list:
        """The reports of a run up to its last one; those of others, and loads, are dropped."""
        found: list = []
        while not found or not isinstance(found[-1], LAST):
            report = await self.next()
            if getattr(report, "id", None) == run:
                found.append(report)
        return found
