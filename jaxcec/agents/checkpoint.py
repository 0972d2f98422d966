"""The state of a run, to continue from (orbax), and a policy in one small file (msgpack).

Reading either executes no code.
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
from jaxcec.agents.features import Features, encode
from jaxcec.agents.learners import learner_for
from jaxcec.agents.trained_policy import TrainedPolicy
from jaxcec.agents.training import TrainState
from jaxcec.env import EnvConfig, Observation
from jaxcec.files import write_aside
from jaxcec.mapping import from_mapping

_FORMAT = "jaxcec-policy-4"
_CHECKSUM = ".sha256"  # ending of the file next to a checkpoint
_WIDEST = 2**16  # units of a hidden layer
_KEPT = 3  # checkpoints of a run
_NO_STEP = -1
PRETRAINED = Path(__file__).parent / "pretrained"


def save_state(folder: Path, state: TrainState) -> None:
    """Write the state of a run: first under another name, then renamed, with a checksum next to it.

    The newest three checkpoints are kept; older ones are removed once this one is complete.
    """
    step = int(state.runner.step)
    with _manager(folder) as manager:
        if step == 0 and step in manager.all_steps():
            manager.delete(step)  # of an earlier generation of the evolution: orbax keeps a step that it has
        manager.save(step, args=ocp.args.StandardSave(state))
        kept = {str(step) for step in manager.all_steps()}
    if jax.process_index() > 0:
        return
    write_aside(folder / f"{step}{_CHECKSUM}", _checksum(folder / str(step)))
    for file in folder.glob(f"*{_CHECKSUM}"):
        if file.stem not in kept:
            file.unlink()


def load_state(folder: Path, like: TrainState, *, report: Callable[[str], None]) -> TrainState | None:
    """Read the newest complete checkpoint in a folder of `save_state`; None if there never was one.

    `like` has the shapes and layout of the expected state, from `training.state_shapes`. `report` is called with a
    message about each damaged checkpoint, which is renamed and skipped.

    Raises:
        ValueError: all are damaged, or the newest complete one has other shapes.
    """
    if not folder.is_dir():
        return None
    with _manager(folder) as manager:
        steps = sorted(manager.all_steps(), reverse=True)
        if not steps:
            return None
        step = _newest_whole(folder, steps, report) if jax.process_index() == 0 else _NO_STEP
        if jax.process_count() > 1:  # one process judges and renames: others would meet files that it moves
            step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
        if step == _NO_STEP:
            raise ValueError(f"{folder}: every checkpoint is damaged; train again into another folder")
        try:
            return manager.restore(step, args=ocp.args.StandardRestore(like))
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{folder}: the checkpoint does not fit this run's settings, or another version of jaxcec wrote it; "
                f"train again into another folder: {first}"
            ) from None


def _newest_whole(folder: Path, steps: list[int], report: Callable[[str], None]) -> int:
    """The first of the steps whose checkpoint is as it was written, or _NO_STEP; the damaged ones before are renamed.

    A checkpoint without a checksum is whole, because orbax renames it when it is complete.
    """
    for step in steps:
        checksum = folder / f"{step}{_CHECKSUM}"
        if not checksum.is_file() or checksum.read_text() == _checksum(folder / str(step)):
            return step
        report(f"{folder / str(step)}: damaged, its checksum does not match; renamed, and the one before is used")
        (folder / str(step)).rename(folder / f"{step}.damaged")
    return _NO_STEP


def _manager(folder: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.resolve(), options=options)


def _checksum(folder: Path) -> str:
    """SHA-256 of all files below a folder, with their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def save_policy(path: str | Path, policy: TrainedPolicy, sizes: EnvConfig) -> None:
    """Write a policy, whose settings are plain numbers, to one file: first under another name, then renamed.

    `sizes` are those of the environment it was trained in.
    """
    header = {"format": _FORMAT, "origin": policy.origin, "config": dataclasses.asdict(policy.config)}
    header |= {name: getattr(sizes, name) for name in ("num_nodes", "max_links", "num_resources")}
    content = {"header": json.dumps(header), "params": serialization.to_state_dict(jax.device_get(policy.params))}
    write_aside(Path(path), serialization.msgpack_serialize(content))


def load_policy(path: str | Path, observation: Observation) -> TrainedPolicy:
    """Read what `save_policy` wrote, for an environment with observations of these shapes.

    Raises:
        ValueError: no such file, not a policy, or a flat one for another size of network.
    """
    path = Path(path)
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
    like = jax.eval_shape(learner_for(config).init_params, jax.random.key(0), features)
    return TrainedPolicy(config, _restore(path, like, state), str(header.get("origin")))


def policy_algorithm(path: Path) -> str:
    """The algorithm of a policy file, a key of `LEARNERS`.

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
        header, params = json.loads(content["header"]), content["params"]
        form = header["format"]
    except Exception as error:  # msgpack, json and flax each raise their own on foreign bytes
        raise ValueError(f"{path}: not a policy written by train.py ({type(error).__name__}: {error})") from None
    if form != _FORMAT:
        raise ValueError(f"{path}: written by another version of jaxcec (format {form!r}); train again")
    return header, params


def _config(path: Path, header: dict[str, Any]) -> AgentConfig:
    try:
        config = from_mapping(AgentConfig, header["config"], "")
        if any(units > _WIDEST for units in (*config.hidden, *config.twin.hidden)):
            raise ValueError(f"hidden must be at most {_WIDEST}")
        learner_for(config)
        return config
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: written by another version of jaxcec ({error}); train again") from None


def _restore(path: Path, like: Any, state: Any) -> Any:
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
