"""Devices, processes and the compilation cache, which a command sets up before anything is compiled."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh

from jaxcec.agents.sharding import env_mesh, replicated
from jaxcec.env import EnvParams
from jaxcec.evaluation import Contender


def use_compilation_cache() -> None:
    """Keep compiled programs for later processes, in JAX_COMPILATION_CACHE_DIR or else in the user's cache folder."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(root / "jaxcec" / "compiled"))


def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Make this process one of several that train together (`jax.distributed`); without a coordinator, do nothing.

    Raises:
        ValueError: one of the three is missing.
    """
    if coordinator == "auto":
        jax.distributed.initialize()  # JAX finds the addresses under Slurm, Open MPI, Kubernetes and on cloud TPUs
    elif coordinator is not None:
        if num_processes is None or process_id is None:
            raise ValueError("--coordinator: needs --num-processes and --process-id, or must be auto")
        jax.distributed.initialize(coordinator, num_processes, process_id)
    elif num_processes is not None or process_id is not None:
        raise ValueError("--num-processes, --process-id: need --coordinator HOST:PORT")


def choose_mesh(devices: str) -> Mesh | None:
    """A mesh of the devices that share the environments; None for one device of a single process.

    `devices` is their number in each process, or `all`. A CPU core counts as a device.

    Raises:
        ValueError: it is not a positive number, or there are fewer devices.
    """
    if devices != "all" and not (devices.isdigit() and int(devices) > 0):
        raise ValueError(f"--devices: got {devices!r}; must be all or a positive number")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # too late once JAX has used its devices
        jax.config.update("jax_num_cpu_devices", cores if devices == "all" else int(devices))
    local = jax.local_device_count()
    wanted = local if devices == "all" else int(devices)
    if wanted > local:
        raise ValueError(f"--devices: got {wanted}; must be at most {local}, the devices of this process")
    if wanted == 1 and jax.process_count() == 1:
        return None
    kept = [[d for d in jax.devices() if d.process_index == i][:wanted] for i in range(jax.process_count())]
    return env_mesh([device for process in kept for device in process])


def replicate_policies(
    mesh: Mesh | None, env_params: EnvParams, contenders: Sequence[Contender]
) -> tuple[EnvParams, list[Contender]]:
    """Put the banks and the parameters of policies on every device of a mesh; without a mesh they stay as they are."""
    if mesh is None:
        return env_params, list(contenders)
    replicas = [contender._replace(params=replicated(mesh, contender.params)) for contender in contenders]
    return replicated(mesh, env_params), replicas
