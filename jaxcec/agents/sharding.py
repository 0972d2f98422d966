"""How training lies on several devices: environments in equal parts, everything else on each of them.

The compiled loop is the same, and XLA's partitioner divides it: every device steps its own environments and samples
its own part of each batch; gradients are averaged because a loss is a mean over the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

if TYPE_CHECKING:
    from jaxcec.agents.training import RunnerState

_ENV = "env"


def env_mesh(devices: list[jax.Device]) -> Mesh:
    """All devices in a row, each with an equal part of the environments."""
    return jax.make_mesh((len(devices),), (_ENV,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh, tree: Any) -> Any:
    """The arrays of a pytree, the same in every process, on every device."""

    def put(x: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x)))
        # By way of the host: from a device of this process it could not go to those of others.
        return jax.device_put(np.asarray(x), NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(put, tree)


def shared_out(mesh: Mesh | None, tree: Any) -> Any:
    """Arrays of this process in equal parts of their leading axis, where there are devices to share them.

    Raises:
        ValueError: they cannot be divided equally.
    """
    if mesh is None:
        return tree
    for length in {x.shape[0] for x in jax.tree.leaves(tree)}:
        if length % mesh.size:
            raise ValueError(f"--devices: got {mesh.size}; {length} episodes cannot be divided equally among them")
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(_ENV)))


def over_environments(mesh: Mesh | None, tree: Any) -> Any:
    """Within a compiled program: arrays in equal parts of their leading axis, where there are devices to share them."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(_ENV)))


def runner_sharding(mesh: Mesh, runner: RunnerState) -> RunnerState:
    """Where each leaf of a runner (arrays or shapes) lies.

    Raises:
        ValueError: the environments cannot be divided equally.
    """
    num_envs = runner.horizon.shape[0]
    if num_envs % mesh.size:
        raise ValueError(f"num_envs: got {num_envs}; must be a multiple of the number of devices, {mesh.size}")

    def lying(tree: Any, *axes: str | None) -> Any:
        return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec(*axes)), tree)

    return runner.replace(
        agent=lying(runner.agent),
        evolution=lying(runner.evolution),
        replay=lying(runner.replay).replace(blocks=lying(runner.replay.blocks, None, _ENV)),
        env_state=lying(runner.env_state, _ENV),
        key=lying(runner.key),
        horizon=lying(runner.horizon, _ENV),
        step=lying(runner.step),
    )


def placed(mesh: Mesh, runner: RunnerState) -> RunnerState:
    """Shapes of a runner, each with where it lies: what a checkpoint of any layout is read into."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        runner,
        runner_sharding(mesh, runner),
    )
