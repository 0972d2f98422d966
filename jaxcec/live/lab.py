"""The lab: a whole edge network on one Linux machine, with a worker in each node, and with other tenants."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from filelock import FileLock, Timeout

from jaxcec.env.routing import Link, resources
from jaxcec.live import lab_network, launcher
from jaxcec.live.cgroups import Group
from jaxcec.live.lab_tenants import LabTenants, TenantFlow
from jaxcec.live.worker import TOKEN

_LOCK = Path("/run/lock/jaxcec-lab")  # held by the process that has the lab
_BYTES = 125_000  # in a Mbit
_PROGRAMS = f"{lab_network.PREFIX}/programs"  # control group of workers and tenants themselves
_FIRST = 50.0  # weight of the lab and of this process on the machine, and of these programs within the lab
_SLACK = 1.2  # of a node's bound over its cores: the kernel's is coarse, and what runs keeps to its share itself


class Lab:
    """A network with a worker in each node, as long as the context lasts; a machine has at most one.

    This process and the network go before what else wants the machine's processors. However the process ends, nothing
    that it started goes on. The names of namespaces and control groups that it could not remove are removed by the next
    lab, or by `clean`.

    Args:
        links: of the network.
        cores: processor cores of each node.
        folder: for the workers' files; it must be new or empty.
        load_every: s between two reports of the load.

    Raises (on entering the context):
        LabUnavailable: this machine or user cannot have a lab, or there is one.
        ValueError: the network cannot be emulated.
    """

    def __init__(self, links: Sequence[Link], cores: Sequence[float], *, folder: Path, load_every: float) -> None:
        self.links, self.cores, self.token = list(links), list(cores), secrets.token_hex()
        self._folder, self._load_every = folder, load_every
        self._lock = FileLock(_LOCK)
        self._stack = contextlib.ExitStack()
        self._workers: list[subprocess.Popen[str]] = []
        self._tenants: list[subprocess.Popen[str]] = []

    @property
    def addresses(self) -> list[str]:
        """host:port of each worker."""
        return [f"{lab_network.address(node)}:{lab_network.PORT}" for node in range(len(self.cores))]

    def __enter__(self) -> Lab:
        lab_network.check_available()
        _hold(self._lock)
        try:
            lab_network.remove()
            lab_network.build(self.links, len(self.cores))
            for name in lab_network.GROUPS:
                Group(name).make().weigh(_FIRST)
            self._stack.enter_context(Group(lab_network.GROUPS[1]).joined())
            Group(_PROGRAMS).make().weigh(_FIRST)
            for node, cores in enumerate(self.cores):
                Group(_group(node)).make(cores * _SLACK)
            self._workers += map(self._start_worker, range(len(self.cores)))
            for process in self._workers:
                _await_line(process)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self._stack.close()
        _stop([*self._workers, *self._tenants])
        lab_network.remove()
        self._lock.release()

    def _start_worker(self, node: int) -> subprocess.Popen[str]:
        """Each direction of a full-duplex link is measured where it begins, a half-duplex link at both ends."""
        both, sent = [], []
        for i, name in lab_network.interfaces(node, self.links).items():
            a, b = self.links[i][:2]
            if self.links[i].back is None:
                both += [name, f"{a}-{b}"]
            else:
                sent += [name, f"{node}-{b if node == a else a}"]
        return self._start(
            node,
            "jaxcec.live.worker",
            *("--name", f"node{node}", "--folder", str(self._folder / f"node{node}")),
            *("--host", lab_network.address(node), "--port", str(lab_network.PORT)),
            *("--cores", str(self.cores[node]), "--group", _group(node), "--load-every", str(self._load_every)),
            *(["--links", *both] if both else []),
            *(["--sent-links", *sent] if sent else []),
        )

    def _start(self, node: int, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a program of the package in a node's network. It ends with this process and counts as no tenant."""
        files = map(str, Group(_PROGRAMS).files())
        launch = [sys.executable, launcher.__file__, str(os.getpid()), *files, "--"]
        return subprocess.Popen(
            [*launch, *lab_network.inside(node, sys.executable, "-m", module, *arguments)],
            env=os.environ | {TOKEN: self.token},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def link_names(self) -> dict[str, int]:
        """Index of each link resource, by the name by which workers report its load."""
        return {f"{a}-{b}": index for (a, b), index in _resources(self.links).items()}

    def start_tenants(self, loads: np.ndarray, *, frame: float, yields: bool) -> None:
        """Get other tenants ready, who will use links and processors as a trace says.

        Args:
            loads: (frames, E + V) share of each link resource, then of each node.
            frame: length of a frame, s.
            yields: whether they leave the site's flows and runs what these have reserved, or compete with them.
        """
        rates = _tenant_rates(self.links, loads)
        for node, cores in enumerate(self.cores):
            flows = {to: rate for (start, to), rate in rates.items() if start == node}
            tenants = LabTenants(
                address=lab_network.address(node),
                frame=frame,
                cores=cores,
                cpu=loads[:, loads.shape[1] - len(self.cores) + node].tolist(),
                group=f"{_group(node)}/tenants",
                yields=yields,
                flows=[TenantFlow(to=lab_network.address(to), rates=rate.tolist()) for to, rate in flows.items()],
            )
            self._tenants.append(self._start(node, "jaxcec.live.lab_tenants"))
            _tell(self._tenants[-1], tenants.model_dump_json())
        for process in self._tenants:
            _await_line(process)

    def begin_tenants(self, at: float) -> None:
        """Let the tenants' first frame begin at a time of the monotonic clock, s."""
        for process in self._tenants:
            _tell(process, str(at))

    def stop_tenants(self) -> None:
        """End the tenants."""
        _stop(self._tenants)
        self._tenants = []


def clean() -> list[str]:
    """Remove what a lab that was killed has left, and return its names.

    Raises:
        LabUnavailable: this user cannot, or a lab is running.
    """
    lab_network.check_available()
    lock = FileLock(_LOCK)
    _hold(lock)
    try:
        found = lab_network.left_over()
        lab_network.remove()
    finally:
        lock.release()
    return found


def _hold(lock: FileLock) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise lab_network.LabUnavailable("a lab is running on this machine; two would disturb each other") from None


def _group(node: int) -> str:
    """The control group of everything that a node's processor does."""
    return f"{lab_network.PREFIX}/node{node}"


def _await_line(process: subprocess.Popen[str]) -> None:
    """Wait until a program says that it is ready."""
    assert process.stdout is not None
    if not process.stdout.readline():
        raise lab_network.LabUnavailable(f"{process.args!r}: ended with status {process.wait()} before it was ready")


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _stop(processes: Iterable[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        for stream in filter(None, (process.stdin, process.stdout)):
            stream.close()


def _resources(links: Sequence[Link]) -> dict[tuple[int, int], int]:
    """Index of each link resource, by the ends of its link in the order in which data cross it."""
    directions = [end for link in links for end in ([link[:2]] if link.back is None else [link[:2], link[1::-1]])]
    return {(a, b): index for index, (a, b) in enumerate(directions)}


def _tenant_rates(links: Sequence[Link], loads: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """(frames,) bytes/s that tenants send from a node to a neighbour; over a half-duplex link, in one direction."""
    ends = zip(_resources(links).items(), resources(links), strict=True)
    return {direction: loads[:, index] * rate * _BYTES for (direction, index), rate in ends}
