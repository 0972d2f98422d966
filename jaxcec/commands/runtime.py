"""What a command settles before anything is compiled: devices, processes, the compilation cache."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax
from jax.sharding import Mesh

from jaxcec.agents.sharding import env_mesh

_AUTO = "auto"


def use_compilation_cache() -> None:
    """Keep what was compiled for the next process: in JAX_COMPILATION_CACHE_DIR, or else in the user's cache folder."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(root / "jaxcec" / "compiled"))


def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Make this process one of several that train together (`jax.distributed`); with no coordinator it stays alone.

    Raises:
        ValueError: some of the three are missing.
    """
    if coordinator == _AUTO:
        jax.distributed.initialize()  # Slurm, Open MPI, Kubernetes, cloud TPU: JAX knows where to look
    elif coordinator is not None:
        if num_processes is None or process_id is None:
            raise ValueError("--coordinator: needs --num-processes and --process-id, or must be auto")
        jax.distributed.initialize(coordinator, num_processes, process_id)
    elif num_processes is not None or process_id is not None:
        raise ValueError("--num-processes, --process-id: need --coordinator HOST:PORT")


def choose_mesh(devices: str) -> Mesh | None:
    """The devices that share the environments; None if it is one device of one process.

    Args:
        devices: `all`, or how many of each process's. On CPUs a core is a device.

    Raises:
        ValueError: not a number, or more than there are.
    """
    if devices != "all" and not (devices.isdigit() and int(devices) > 0):
        raise ValueError(f"--devices: got {devices!r}; must be all or a positive number")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # a program that has used its devices already cannot make more of them
        jax.config.update("jax_num_cpu_devices", cores if devices == "all" else int(devices))
    local = jax.local_device_count()
    wanted = local if devices == "all" else int(devices)
    if wanted > local:
        raise ValueError(f"--devices: got {wanted}; this process has {local}")
    if wanted == 1 and jax.process_count() == 1:
        return None
    kept = [[d for d in jax.devices() if d.process_index == i][:wanted] for i in range(jax.process_count())]
    return env_mesh([device for process in kept for device in process])
