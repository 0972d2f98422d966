"""Transfers between workers: the sender keeps to the rate that the receiver asked for."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any, BinaryIO

from jaxcec.live.protocol import ANSWERS, Fetch, Input, Part, ProtocolError, Refused, frame, receive

_PACED_BY_KERNEL = 47  # SO_MAX_PACING_RATE of Linux, which the module `socket` does not name
_HEADROOM = 1.05  # of the kernel's rate over the one asked for, with which a late sender catches up
_MOST_PACED = 4e9  # bytes/s, of what the option can express
_TICK = 0.04  # s of data handed over at once, and of data for which a receiver is woken
_LEAST_CHUNK, _MOST_CHUNK = 1448, 1 << 18  # bytes; the payload of one packet, and a bound of memory
_MOST_AWAITED = 1 << 15  # bytes; of more, a receiver's buffer might not have room
_SILENCE = 5.0  # s without a byte after which a connection counts as lost
_PAUSE = 0.2  # s until the next attempt


class MissingInput(Exception):
    """The peer does not have what it is asked for."""


class _ConnectionLost(Exception):
    """A connection failed, or nothing came over it for too long."""


async def send_paced(writer: asyncio.StreamWriter, body: BinaryIO | None, *, size: int, rate: float) -> None:
    """Send `size` bytes of a file, or zeros, such that no byte leaves before its time at `rate` bytes/s.

    The kernel spaces the packets out. Alone it would send the first ten at once, which is most of a small transfer.
    """
    connection = writer.get_extra_info("socket")
    if sys.platform == "linux" and rate * _HEADROOM < _MOST_PACED:
        connection.setsockopt(socket.SOL_SOCKET, _PACED_BY_KERNEL, max(round(rate * _HEADROOM), 1))
    chunk = _chunk(rate)
    writer.transport.set_write_buffer_limits(high=chunk)
    begin, sent = time.monotonic(), 0
    while sent < size:
        await asyncio.sleep(max(begin + sent / rate - time.monotonic(), 0.0))
        count = min(chunk, size - sent)
        writer.write(bytes(count) if body is None else body.read(count))
        await writer.drain()
        sent += count


def _chunk(rate: float) -> int:
    """Bytes that are handled at once at a rate in bytes/s."""
    return int(min(max(rate * _TICK, _LEAST_CHUNK), _MOST_CHUNK))


def wake_seldom(connection: Any, rate: float) -> None:
    """Let a socket wait for as many bytes as are handled at once, or the end of the connection, not for each packet."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(_chunk(rate), _MOST_AWAITED))


async def pull(part: Input, *, token: str, source: str, sink: BinaryIO | None) -> Part:
    """Pull one input from its peer into a file, if one is given; a connection that is lost is resumed until cancelled.

    Args:
        part: what to pull.
        token: that the workers share.
        source: own address, from which to connect; routes depend on it.
        sink: file opened for writing.

    Raises:
        MissingInput: the peer does not have it.
        ProtocolError: the peer refuses for another reason, or does not follow the protocol.
        OSError: the file cannot be written.
    """
    started, got = time.monotonic(), 0
    while True:
        fetch = Fetch(token=token, id=part.id, size=part.size, offset=got, rate=part.rate)
        try:
            async for piece in _pieces(part.peer, fetch, source):
                got += len(piece)
                if sink is not None:
                    sink.write(piece)
            return Part(peer=part.peer, size=got, started=started, ended=time.monotonic())
        except _ConnectionLost:
            await asyncio.sleep(_PAUSE)


async def _pieces(peer: str, fetch: Fetch, source: str) -> AsyncGenerator[bytes]:
    """The bytes that a peer sends."""
    host, _, port = peer.rpartition(":")
    writer = None
    try:
        async with asyncio.timeout(_SILENCE):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), local_addr=(source, 0))
            writer.write(frame(fetch))
            answer = await receive(reader, ANSWERS)
        if isinstance(answer, Refused):
            raise MissingInput(answer.reason) if answer.missing else ProtocolError(answer.reason)
        left = answer.size
        wake_seldom(writer.get_extra_info("socket"), fetch.rate)
        while left:
            async with asyncio.timeout(_SILENCE):
                piece = await reader.read(min(left, _MOST_CHUNK))
            if not piece:
                raise _ConnectionLost
            left -= len(piece)
            yield piece
    except (OSError, asyncio.IncompleteReadError) as error:
        raise _ConnectionLost from error
    finally:
        if writer is not None:
            writer.close()
