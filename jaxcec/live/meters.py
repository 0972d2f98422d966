"""What a node's processor and links carry."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping

import psutil

from jaxcec.live.cgroups import Group
from jaxcec.live.protocol import Load


class Meter:
    """Measures from one reading to the next.

    Args:
        cores: that the node may use.
        links: name of each link, by its network interface.
        node: control group of everything that runs on the node, and `runs`, the one within it of the runs; both None if
            the node is the whole machine, where the runs are the children of this process.
        runs: see `node`.
    """

    def __init__(self, cores: float, links: Mapping[str, str], node: Group | None, runs: Group | None) -> None:
        self._cores, self._links = cores, dict(links)
        self._node, self._runs = node, runs
        self._at, self._others, self._bytes = time.monotonic(), self._used_by_others(), self._carried()

    def read(self) -> Load:
        """The load since the last reading."""
        at, others, carried = time.monotonic(), self._used_by_others(), self._carried()
        seconds = max(at - self._at, 1e-9)
        cpu = max((others - self._others) / seconds / self._cores, 0.0)
        rates = {self._links[name]: max(carried[name] - self._bytes[name], 0) / seconds for name in carried}
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
        """Bytes that each interface has sent and received."""
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        return {name: counters[name].bytes_sent + counters[name].bytes_recv for name in self._links if name in counters}


def _used(process: psutil.Process) -> float:
    """Processor time of a process, s; none once it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
