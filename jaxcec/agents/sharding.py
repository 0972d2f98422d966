"""Layout of training on several devices: environments in equal parts, everything else on every device.

The compiled loop is the same for any number of devices, and XLA's partitioner divides it: each device steps its own
environments and samples its own part of each batch; gradients are averaged because a loss is a mean over the batch.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

ENV_AXIS = "env"


def env_mesh(devices: list[jax.Device]) -> Mesh:
    """All devices in a row, each with an equal part of the environments."""
    return jax.make_mesh((len(devices),), (ENV_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def check_divisible(num_envs: int, mesh: Mesh | None) -> None:
    """Raise ValueError if the environments cannot be divided equally among the devices."""
    if mesh is not None and num_envs % mesh.size:
        raise ValueError(f"num_envs: got {num_envs}; must be a multiple of the number of devices, {mesh.size}")


def number_of_groups(episodes: int, mesh: Mesh | None, *, most: int) -> int:
    """In how many groups of similar length episodes are played: 1, but on a CPU as many as possible, up to `most`.

    Each group has equally many episodes on every device. Episodes that are played together take as many steps as the
    longest of them; but on other platforms a step of few episodes takes as long as one of many.
    """
    if jax.default_backend() != "cpu":
        return 1
    devices = 1 if mesh is None else mesh.size
    return max(n for n in range(1, max(most, 1) + 1) if n == 1 or episodes % (n * devices) == 0)


def replicated(mesh: Mesh, tree: Any) -> Any:
    """The arrays of a pytree, which are the same in every process, on every device."""

    def put(x: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x)))
        # By way of the host: an array on a device of this process cannot be sent to the devices of others.
        return jax.device_put(np.asarray(x), NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(put, tree)


def shard_leading_axis(mesh: Mesh | None, tree: Any) -> Any:
    """Arrays of this process, divided equally along their leading axis; unchanged without a mesh.

    Raises:
        ValueError: they cannot be divided equally.
    """
    if mesh is None:
        return tree
    for length in {x.shape[0] for x in jax.tree.leaves(tree)}:
        if length % mesh.size:
            raise ValueError(f"--devices: got {mesh.size}; {length} episodes cannot be divided equally among them")
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(ENV_AXIS)))


def constrain_leading_axis(mesh: Mesh | None, tree: Any) -> Any:
    """Within a compiled program: divide arrays equally along their leading axis; unchanged without a mesh."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(ENV_AXIS)))


def sharding_of(mesh: Mesh, tree: Any, *axes: str | None) -> Any:
    """For each leaf of a pytree, the layout that divides the named axes; without names, a copy on every device."""
    return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec(*axes)), tree)


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes files other than checkpoints."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether a flag is set in some process, so that all processes decide the same."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
