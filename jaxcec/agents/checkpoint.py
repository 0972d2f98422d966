"""What outlives a process: a training run to go on from (orbax), and a policy in one small file (msgpack).

Neither executes code when it is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization
from jax.experimental import multihost_utils

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import AgentParams, init_params
from jaxcec.agents.features import Features, encode
from jaxcec.agents.training import RunnerState
from jaxcec.env import EnvConfig, Observation
from jaxcec.files import write_aside

_FORMAT = "jaxcec-policy-1"
_CHECKSUM = ".sha256"  # ending of the file beside a checkpoint
_WIDEST = 2**16  # units of a hidden layer
_KEPT = 3  # checkpoints of a run
_NO_STEP = -1
PRETRAINED = Path(__file__).parent / "pretrained"


def save_runner(folder: Path, runner: RunnerState) -> None:
    """Write everything that training goes on from, aside and then renamed, and beside it a checksum.

    The newest three are kept; older ones are removed once this one is whole.
    """
    step = int(runner.step)
    with _manager(folder) as manager:
        manager.save(step, args=ocp.args.StandardSave(runner))
        kept = {str(step) for step in manager.all_steps()}
    if jax.process_index() > 0:
        return
    write_aside(_checksum_file(folder, step), _checksum(folder / str(step)))
    for file in folder.glob(f"*{_CHECKSUM}"):
        if file.stem not in kept:
            file.unlink()


def load_runner(folder: Path, like: RunnerState, tell: Callable[[str], None]) -> RunnerState | None:
    """Read the newest checkpoint that is whole; None if there never was one.

    Args:
        folder: where `save_runner` wrote.
        like: arrays or shapes of the runner that is expected, `jax.eval_shape(init_runner, ...)`.
        tell: is told of each checkpoint that is damaged, and passed over.

    Raises:
        ValueError: all are damaged, or the newest whole one is of other shapes.
    """
    if not folder.is_dir():
        return None
    with _manager(folder) as manager:
        steps = sorted(manager.all_steps(), reverse=True)
        if not steps:
            return None
        step = _newest_whole(folder, steps, tell) if jax.process_index() == 0 else _NO_STEP
        if jax.process_count() > 1:  # one judges and renames, for others would meet what it moves
            step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
        if step == _NO_STEP:
            raise ValueError(f"{folder}: every checkpoint is damaged; train again into another folder")
        try:
            return manager.restore(step, args=ocp.args.StandardRestore(like))
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"{folder}: the checkpoint does not fit this run's settings: {first}") from None


def _newest_whole(folder: Path, steps: list[int], tell: Callable[[str], None]) -> int:
    """The first of the steps whose checkpoint is whole, or _NO_STEP; those before it are renamed."""
    for step in steps:
        if _is_whole(folder, step):
            return step
        tell(f"{folder / str(step)}: damaged, its checksum is another; renamed, and the one before is used")
        (folder / str(step)).rename(folder / f"{step}.damaged")
    return _NO_STEP


def _manager(folder: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.resolve(), options=options)


def _checksum_file(folder: Path, step: int) -> Path:
    return folder / f"{step}{_CHECKSUM}"


def _is_whole(folder: Path, step: int) -> bool:
    """Whether a checkpoint is as it was written; one without checksum was renamed when whole, and then the run died."""
    file = _checksum_file(folder, step)
    return not file.is_file() or file.read_text() == _checksum(folder / str(step))


def _checksum(folder: Path) -> str:
    """SHA-256 of all files below a folder, with their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def save_policy(path: Path, config: AgentConfig, params: AgentParams, sizes: EnvConfig, run: str) -> None:
    """Write what choosing actions needs.

    Args:
        path: file to write, aside first and then renamed.
        config: the agent's.
        params: its networks.
        sizes: of its environment.
        run: what is said of where it comes from.
    """
    header = {
        "format": _FORMAT,
        "run": run,
        "config": dataclasses.asdict(config),
        "num_nodes": sizes.num_nodes,
        "max_links": sizes.max_links,
        "num_resources": sizes.num_resources,
    }
    content = {"header": json.dumps(header), "params": serialization.to_state_dict(jax.device_get(params))}
    write_aside(path, serialization.msgpack_serialize(content))


def load_policy(path: Path, observation: Observation) -> tuple[AgentConfig, AgentParams, str]:
    """Read what `save_policy` wrote, for an environment with observations like this one.

    Returns:
        The agent's config, its parameters, and where it comes from.

    Raises:
        ValueError: no such file, not a policy, or a flat one for another size of network.
    """
    header, state = _read(path)
    config = _config(path, header)
    sizes = {
        "num_nodes": observation.service.source.shape[-1],
        "max_links": observation.links.free.shape[-1],
        "num_resources": observation.microservice.demand.shape[-1],
    }
    for name, size in sizes.items():
        if header.get(name) != size and (config.network == "flat" or name == "num_resources"):
            raise ValueError(f"{path}: trained for {name} = {header.get(name)!r}, but the scenario has {size}")
    features: Features = jax.eval_shape(encode, observation)
    like = jax.eval_shape(lambda key, f: init_params(config, key, f), jax.random.key(0), features)
    return config, _restore(path, like, state), str(header.get("run"))


def policy_algorithm(path: Path) -> str:
    """The algorithm of a policy file, one of `config.ALGORITHMS`.

    Raises:
        ValueError: no such file, or not a policy.
    """
    return _config(path, _read(path)[0]).algorithm


def _read(path: Path) -> tuple[dict[str, Any], Any]:
    """Header and parameters of a policy file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint; expected a policy.msgpack or the folder of a run")
    try:
        content = serialization.msgpack_restore(path.read_bytes())
        header = json.loads(content["header"])
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']!r}")
        return header, content["params"]
    except Exception as error:  # msgpack, json and flax each raise their own on foreign bytes
        raise ValueError(f"{path}: not a policy written by train.py ({type(error).__name__}: {error})") from None


def _config(path: Path, header: dict[str, Any]) -> AgentConfig:
    try:
        values = header["config"] | {"hidden": tuple(header["config"]["hidden"])}
        for field in dataclasses.fields(AgentConfig):
            kind, value = type(field.default), values.get(field.name, field.default)
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise TypeError(f"{field.name} is no {kind.__name__}")
            values[field.name] = kind(value)
        config = AgentConfig(**values)
        if any(type(units) is not int or units > _WIDEST for units in config.hidden):
            raise ValueError(f"hidden must be integers up to {_WIDEST}")
        return config
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: written by another version of jaxcec ({error}); train again") from None


def _restore(path: Path, like: AgentParams, state: Any) -> AgentParams:
    try:
        params = serialization.from_state_dict(like, state)
        fits = jax.tree.map(lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype), like, params)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: its networks do not fit its settings ({error})") from None
    if not all(jax.tree.leaves(fits)):
        raise ValueError(f"{path}: its networks do not fit this scenario's observations; train again")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise ValueError(f"{path}: damaged, its networks hold numbers that are not finite; train again")
    return jax.tree.map(jnp.asarray, params)
