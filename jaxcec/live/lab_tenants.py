"""Other tenants of a node of the lab: they use its processor and its links as a trace says.

The lab starts one such program in the network of each node. It reads its trace, a line of JSON, says that it is ready,
and reads when the first frame begins, in s of the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncGenerator, Sequence

from pydantic import BaseModel

from jaxcec.live.cgroups import Group
from jaxcec.live.executor import Executor
from jaxcec.live.lab_network import YIELDING
from jaxcec.live.transfers import send_paced, wake_seldom

PORT = 7071  # on which they listen
_SINK_RATE = 1e6  # bytes/s, of the order of a link's
_PAUSE = 0.2  # s until a connection is tried again


class TenantFlow(BaseModel):
    """Data to a neighbour, over one link."""

    to: str  # its address
    rates: list[float]  # bytes/s in each frame


class LabTenants(BaseModel):
    """What the tenants of a node do. The trace is over after its last frame."""

    address: str  # the node's
    frame: float  # s, length of a frame
    cores: float  # of the node
    cpu: list[float]  # share of the cores in each frame
    group: str  # control group for what uses the processor
    yields: bool  # to the site's own flows and runs
    flows: list[TenantFlow]


async def play(tenants: LabTenants) -> None:
    """Get ready, be told when to begin, and use the processor and the links until the trace is over."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Sink, tenants.address, PORT)
    group = Group(tenants.group).make()
    if tenants.yields:
        group.weigh(0.01)
    executor = Executor(tenants.cores, group)
    await executor.prepare()
    writers = [await _connect(flow.to, tenants) for flow in tenants.flows]
    print("ready", flush=True)
    begin = float(await asyncio.to_thread(sys.stdin.readline))
    try:
        async with server, asyncio.TaskGroup() as tasks:
            tasks.create_task(_use_processor(executor, tenants, begin))
            for writer, flow in zip(writers, tenants.flows, strict=True):
                tasks.create_task(_send(writer, flow, begin=begin, frame=tenants.frame))
    finally:
        for writer in writers:
            writer.close()
        await executor.close()


class _Sink(asyncio.Protocol):
    """Drops what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        wake_seldom(transport.get_extra_info("socket"), _SINK_RATE)


async def _use_processor(executor: Executor, tenants: LabTenants, begin: float) -> None:
    async for share, left in _frames(tenants.cpu, begin, tenants.frame):
        cores = share * tenants.cores
        if cores > 0.0:
            await executor.burn(cores * left, cores)


async def _send(writer: asyncio.StreamWriter, flow: TenantFlow, *, begin: float, frame: float) -> None:
    async for rate, left in _frames(flow.rates, begin, frame):
        if rate > 0.0:
            await send_paced(writer, None, size=round(rate * left), rate=rate)


async def _frames(values: Sequence[float], begin: float, frame: float) -> AsyncGenerator[tuple[float, float]]:
    """The value of each frame as it begins, and how much of the frame is left, s; without those that were missed."""
    for index, value in enumerate(values):
        start = begin + index * frame
        await asyncio.sleep(max(start - time.monotonic(), 0.0))
        left = start + frame - time.monotonic()
        if left > 0.0:
            yield value, left


async def _connect(to: str, tenants: LabTenants) -> asyncio.StreamWriter:
    while True:
        try:
            writer = (await asyncio.open_connection(to, PORT, local_addr=(tenants.address, 0)))[1]
        except OSError:  # the neighbour does not listen yet
            await asyncio.sleep(_PAUSE)
            continue
        if tenants.yields:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, socket.IP_TOS, YIELDING)
        return writer


if __name__ == "__main__":
    asyncio.run(play(LabTenants.model_validate_json(sys.stdin.readline())))
