"""The work of runs: programs and burns, each within its share of the node's processor."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcec.live import burner, launcher
from jaxcec.live.cgroups import Group
from jaxcec.live.protocol import Burn, Command, Run

OUTPUT, ERRORS = "output", "errors"  # files in a run's folder that hold what its program wrote to its two streams
_BARE_PYTHON = [sys.executable, "-I", "-S"]  # starts within milliseconds
_READY = 4  # burners
_SHOWN = 500  # characters of a failed program's errors in its report


def work_folder(folder: Path) -> Path:
    """The folder in which a run's program finds its inputs, within the run's; it is created."""
    inner = folder / "work"
    inner.mkdir(exist_ok=True)
    return inner


class WorkFailed(Exception):
    """A program could not be started, or ended with an error."""


class Executor:
    """Does the work of the runs of one node.

    Args:
        cores: that the node may use.
        group: control group of the runs, which must exist; None if processor time cannot be bounded, where only burns
            keep to their share.
    """

    def __init__(self, cores: float, group: Group | None) -> None:
        self._cores, self._group = cores, group
        self._idle: list[Process] = []  # burners

    async def work(self, run: Run, folder: Path) -> float | None:
        """Do the work of a run whose inputs are in its folder; cancelled, it kills what it started.

        Returns:
            Processor time used, s; None where it cannot be told.

        Raises:
            WorkFailed: the program could not be started, or ended with an error.
            OSError: the system refuses files or control groups.
        """
        cores = run.share * self._cores
        if isinstance(run.work, Burn):
            await self.burn(run.work.cpu_seconds, cores)
            return run.work.cpu_seconds
        group = self._group.child(run.id).make(cores) if self._group else None
        try:
            await _execute(run.work, folder, group)
            return group.usage() if group else None
        finally:
            if group is not None:
                group.remove()

    async def prepare(self) -> None:
        """Start burners before they are needed, which takes as long as short work."""
        self._idle += [await self._new_burner() for _ in range(_READY)]

    async def burn(self, cpu_seconds: float, cores: float) -> None:
        """Use processor time in as many processes as the cores need."""
        count = max(math.ceil(cores), 1)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(self._burn_part(cpu_seconds / count, cores / count))

    async def _burn_part(self, cpu_seconds: float, cores: float) -> None:
        process = self._idle.pop() if self._idle else await self._new_burner()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{cpu_seconds} {cores}\n".encode())
            if await process.stdout.readline() != b"done\n":
                raise WorkFailed("a burner ended before its time")
        except BaseException:
            await _kill(process)
            raise
        self._idle.append(process)

    async def _new_burner(self) -> Process:
        program = [*_BARE_PYTHON, burner.__file__]
        return await _start(program, self._group, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    async def close(self) -> None:
        """End the burners that wait for work."""
        for process in self._idle:
            await _kill(process)
        self._idle = []


async def _execute(command: Command, folder: Path, group: Group | None) -> None:
    with (folder / OUTPUT).open("wb") as output, (folder / ERRORS).open("wb") as errors:
        null = subprocess.DEVNULL
        process = await _start(command.argv, group, cwd=work_folder(folder), stdin=null, stdout=output, stderr=errors)
        try:
            code = await process.wait()
        except BaseException:
            await _kill(process)
            raise
    if code:
        shown = (folder / ERRORS).read_text(errors="replace")[-_SHOWN:]
        raise WorkFailed(f"{command.argv[0]}: ended with status {code}: {shown}")


async def _start(argv: Sequence[str], group: Group | None, **streams: Any) -> Process:
    """Start a program in a group; it ends with this process."""
    files = group.files() if group else []
    launch = [*_BARE_PYTHON, launcher.__file__, str(os.getpid()), *map(str, files), "--"]
    return await asyncio.create_subprocess_exec(*launch, *argv, start_new_session=True, **streams)


async def _kill(process: Process) -> None:
    """End a process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
