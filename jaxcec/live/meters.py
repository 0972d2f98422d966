"""What a node's processor and links carry."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import psutil

from jaxcec.live.cgroups import Group
from jaxcec.live.protocol import Load

_HEADERS = 66  # bytes of a packet that are no data: Ethernet, IPv4, and TCP with time stamps


class Interface(NamedTuple):
    """A network interface that is measured."""

    name: str
    link: str  # name of its link
    both: bool  # both directions count, or only what is sent


class Meter:
    """Measures from one reading to the next.

    Args:
        cores: that the node may use; of a whole machine, all count.
        interfaces: one of each link.
        node: control group of everything that runs on the node, and `runs`, the one within it of the runs; both None if
            the node is the whole machine, where the runs are the children of this process.
        runs: see `node`.
    """

    def __init__(self, cores: float, interfaces: Sequence[Interface], node: Group | None, runs: Group | None) -> None:
        self._cores = cores if node is not None else float(os.cpu_count() or 1)
        self._interfaces = interfaces
        self._node, self._runs = node, runs
        self._at, self._others, self._bytes = time.monotonic(), self._used_by_others(), self._carried()

    def read(self) -> Load:
        """The load since the last reading."""
        at, others, carried = time.monotonic(), self._used_by_others(), self._carried()
        seconds = max(at - self._at, 1e-9)
        cpu = max((others - self._others) / seconds / self._cores, 0.0)
        rates = {link: max(carried[link] - self._bytes.get(link, 0), 0) / seconds for link in carried}
        self._at, self._others, self._bytes = at, others, carried
        return Load(clock=at, seconds=seconds, cpu=cpu, links=rates)

    def _used_by_others(self) -> float:
        """Processor time that others than the runs have used, s."""
        if self._node is not None and self._runs is not None:
            return self._node.usage() - self._runs.usage()
        times = psutil.cpu_times()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = ended.ru_utime + ended.ru_stime + sum(map(_used, psutil.Process().children(recursive=True)))
        return sum(times) - times.idle - getattr(times, "iowait", 0.0) - own

    def _carried(self) -> dict[str, int]:
        """Bytes of data on each link whose interface is there."""
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        return {link: _data(counters[name], both) for name, link, both in self._interfaces if name in counters}


def _data(counters: Any, both: bool) -> int:
    sent = counters.bytes_sent - _HEADERS * counters.packets_sent
    return sent + both * (counters.bytes_recv - _HEADERS * counters.packets_recv)


def _used(process: psutil.Process) -> float:
    """Processor time of a process, s; none once it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
