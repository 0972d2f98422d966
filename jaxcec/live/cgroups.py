"""Control groups of Linux: a bound on the processor time of a set of processes, and the time that they used.

Version 1 may mount what bounds time (`cpu`) and what counts it (`cpuacct`) apart; a group is then a folder in each.
Version 2 has one folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_PERIOD = 50_000  # µs within which a bound holds: shorter ones cut off more of the last tick, longer ones are coarser
_LEAST_QUOTA = 1_000  # µs in a period, the least that Linux takes
_PATIENCE = 5.0  # s for which killed processes may take to end


def may_bound(root: Path = ROOT) -> bool:
    """Whether this process may make control groups that bound processor time."""
    return bool(_hierarchies(root)) and all(os.access(folder, os.W_OK) for folder in _hierarchies(root))


def _hierarchies(root: Path) -> list[Path]:
    """The folders in which a group has one of its own; none if processor time cannot be bounded."""
    controllers = root / "cgroup.controllers"
    if controllers.exists():
        return [root] if "cpu" in controllers.read_text().split() else []
    apart = [root / "cpu", root / "cpuacct"]
    return list({folder.resolve(): None for folder in apart}) if all(map(Path.exists, apart)) else []


def _current(hierarchy: Path) -> Path:
    """The group of this process in a hierarchy."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        mounted = set(hierarchy.name.split(",")) & set(controllers.split(","))  # version 1 names the folder so
        if mounted or ((hierarchy / "cgroup.controllers").exists() and not controllers):
            return hierarchy / name.lstrip("/")
    return hierarchy


class Group:
    """A control group of a given name, such as `jaxcec/node3`, which exists from `make` to `remove`.

    Methods raise OSError where the system refuses.
    """

    def __init__(self, name: str, root: Path = ROOT) -> None:
        self.name, self._root = name, root
        self._unified = (root / "cgroup.controllers").exists()
        self._folders = [folder / name for folder in _hierarchies(root)]

    def child(self, name: str) -> Group:
        """A group within this one."""
        return Group(f"{self.name}/{name}", self._root)

    def make(self, cores: float | None = None) -> Group:
        """Create it, and those around it, and bound it to this many cores."""
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            if self._unified:
                for around in reversed(folder.parents[: len(Path(self.name).parts)]):
                    (around / "cgroup.subtree_control").write_text("+cpu")
        if cores is not None:
            self._bound(cores)
        return self

    def _bound(self, cores: float) -> None:
        quota = max(round(cores * _PERIOD), _LEAST_QUOTA)
        period = min(max(round(quota / cores), _PERIOD), 1_000_000)
        folder = self._folders[0]
        if self._unified:
            (folder / "cpu.max").write_text(f"{quota} {period}")
        else:
            (folder / "cpu.cfs_period_us").write_text(str(period))
            (folder / "cpu.cfs_quota_us").write_text(str(quota))

    def weigh(self, times: float) -> None:
        """Give it so many times the default weight against others in the group around it, from 1 / 100 to 100."""
        name, default = ("cpu.weight", 100) if self._unified else ("cpu.shares", 1024)
        (self._folders[0] / name).write_text(str(round(default * times)))

    def files(self) -> list[Path]:
        """The files that move a process into the group when its number is written to each; 0 is the one that writes."""
        return [folder / "cgroup.procs" for folder in self._folders]

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """A context in which this process is in the group, with all its threads; afterwards the group is removed."""
        own = str(os.getpid())
        before = [_current(folder) / "cgroup.procs" for folder in _hierarchies(self._root)]
        for file in self.files():
            file.write_text(own)
        try:
            yield
        finally:
            for file in before:
                file.write_text(own)
            self.remove()

    def usage(self) -> float:
        """Processor time that its processes and those of groups within it have used, s of one core."""
        folder = self._folders[-1]
        if not self._unified:
            return int((folder / "cpuacct.usage").read_text()) / 1e9
        fields = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return int(fields["usage_usec"]) / 1e6

    def pids(self) -> set[int]:
        """Its processes and those of groups within it."""
        files = [file for folder in self._folders for file in folder.rglob("cgroup.procs")]
        return {int(pid) for file in files for pid in file.read_text().split()}

    def exists(self) -> bool:
        """Whether it was made and not removed."""
        return any(folder.exists() for folder in self._folders)

    def remove(self) -> None:
        """Kill its processes and delete it with the groups within it; nothing happens if it does not exist."""
        until = time.monotonic() + _PATIENCE
        while pids := self.pids() - {os.getpid()}:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > until:
                raise TimeoutError(f"control group {self.name}: processes {sorted(pids)} do not end")
            time.sleep(0.01)
        for folder in self._folders:
            for inner in sorted(folder.rglob("*/"), reverse=True):  # the deepest first
                inner.rmdir()
            if folder.exists():
                folder.rmdir()
