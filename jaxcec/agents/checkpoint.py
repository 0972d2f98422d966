"""What outlives a process: a training run to go on from (orbax), and a policy in one small file (msgpack).

Neither executes code when it is read.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from flax import serialization

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import AgentParams, init_params
from jaxcec.agents.features import Features, encode
from jaxcec.agents.train import RunnerState
from jaxcec.env import EnvConfig, Observation

_FORMAT = "jaxcec-policy-1"
PRETRAINED = Path(__file__).parent / "pretrained"


def save_runner(folder: Path, runner: RunnerState) -> None:
    """Write everything that training goes on from; the checkpoint before it is removed once this one is whole."""
    with _manager(folder) as manager:
        manager.save(int(runner.step), args=ocp.args.StandardSave(runner))


def load_runner(folder: Path, like: RunnerState) -> RunnerState:
    """Read the newest checkpoint.

    Args:
        folder: where `save_runner` wrote.
        like: arrays or shapes of the runner that is expected, `jax.eval_shape(init_runner, ...)`.

    Raises:
        ValueError: there is none, or it is of other shapes.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no checkpoint here; expected the folder of a run that was saved")
    with _manager(folder) as manager:
        if manager.latest_step() is None:
            raise ValueError(f"{folder}: no checkpoint here; expected the folder of a run that was saved")
        try:
            return manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(like))
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"{folder}: the checkpoint does not fit this run's settings: {first}") from None


def _manager(folder: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.resolve(), options=options)


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
    aside = path.with_name(f".{path.name}")
    aside.write_bytes(serialization.msgpack_serialize(content))
    aside.replace(path)


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
        if header[name] != size and (config.network == "flat" or name == "num_resources"):
            raise ValueError(f"{path}: trained for {name} = {header[name]}, but the scenario has {size}")
    features: Features = jax.eval_shape(encode, observation)
    like = jax.eval_shape(lambda key, f: init_params(config, key, f), jax.random.key(0), features)
    return config, _restore(path, like, state), header["run"]


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
        return AgentConfig(**(header["config"] | {"hidden": tuple(header["config"]["hidden"])}))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: written by another version of jaxcec ({error}); train again") from None


def _restore(path: Path, like: AgentParams, state: Any) -> AgentParams:
    try:
        params = serialization.from_state_dict(like, state)
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: its networks do not fit its settings ({error})") from None
    fits = jax.tree.map(lambda x, y: x.shape == y.shape, like, params)
    if not all(jax.tree.leaves(fits)):
        raise ValueError(f"{path}: its networks do not fit this scenario's observations; train again")
    return jax.tree.map(jnp.asarray, params)
