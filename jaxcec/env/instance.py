"""One explicit instance from plain lists: the entry point for users' own topologies and services."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env.banks import Dag, Topology, make_dags, make_network
from jaxcec.env.env import CECEnv
from jaxcec.env.types import Arrivals, Background, EnvConfig, EnvParams

_SERVICE_FIELDS = ("release", "source", "preds", "load", "data", "demand")
_ENOUGH_BREAKPOINTS = 512
_SHOWN = reprlib.Repr()  # shortens values in messages
_SHOWN.maxlevel = 3
_LEAST, _MOST = 1e-6, 1e15  # bounds of the numbers: the times that follow from them stay within float32's range


def build_instance(
    *,
    links: Sequence[tuple[int, int, float]],
    node_speed: Any,
    device_speed: Any,
    capacity: Any,
    services: Sequence[Mapping[str, Any]],
    config: EnvConfig | None = None,
) -> tuple[CECEnv, EnvParams]:
    """An environment in which every reset gives exactly this instance, without background load.

    Args:
        links: (a, b, Mbit/s) each, between edge nodes a and b; both directions share the bandwidth.
        node_speed: (V,) Mcycles/s of the edge nodes.
        device_speed: (V,) Mcycles/s of the end device attached to each edge node.
        capacity: (V, K) resources of each edge node, such as [cpu, mem]; an end device has one unit of each.
        services: mappings with `release` s, `source` edge node, `preds` (predecessors of each microservice), `load`
            (n,) Mcycles, `data` (n,) Mbit of input, `demand` (n, K) resources held while running. A demand must fit
            every edge node; a demand above an end device's capacity takes the whole device.
        config: sizes at least those of the instance; the rest is padding. By default exactly its sizes, with timelines
            on which nothing is merged for up to 255 microservices.

    Returns:
        The environment, and its params, which are also `env.default_params`.

    Raises:
        ValueError: an invalid value; the message names the field, the value and what is allowed.
    """
    topology = _check_topology(links, node_speed, device_speed, capacity)
    dags = [_check_service(i, service, topology) for i, service in enumerate(_list("services", services))]
    if not dags:
        raise ValueError("services: got none; at least one is needed")
    config = _check_config(config, topology, dags)
    params = EnvParams(
        network=make_network([topology], config.max_links),
        dags=make_dags(dags, config.max_microservices),
        arrivals=Arrivals(
            dag=np.arange(len(dags), dtype=np.int32)[None],
            source=np.array([[service["source"] for service in services]], np.int32),
            release=np.array([[service["release"] for service in services]], np.float32),
        ),
        background=Background(load=np.zeros((1, 1), np.float32), frame=np.float32(1.0)),
        arrival_rate=np.float32(1.0),
        max_steps_in_episode=np.int32(np.iinfo(np.int32).max),
    )
    params = jax.tree.map(jnp.asarray, params)
    return CECEnv(config, params), params


def _check_topology(links: Sequence[Any], node_speed: Any, device_speed: Any, capacity: Any) -> Topology:
    speed = _numbers("node_speed", node_speed, 1, above=0.0)
    count = len(speed)
    if not count:
        raise ValueError("node_speed: got none; at least one edge node is needed")
    device = _numbers("device_speed", device_speed, 1, above=0.0, length=count)
    resources = _numbers("capacity", capacity, 2, above=0.0, length=count)
    seen: set[frozenset[int]] = set()
    checked = []
    for i, link in enumerate(_list("links", links)):
        ends = _list(f"links[{i}]", link)
        if len(ends) != 3:
            raise ValueError(f"links[{i}]: got {_SHOWN.repr(link)}; must be (a, b, Mbit/s)")
        a, b = (_node(f"links[{i}]", end, count) for end in ends[:2])
        if a == b or frozenset((a, b)) in seen:
            raise ValueError(f"links[{i}]: got ({a}, {b}); must join two different nodes not joined before")
        seen.add(frozenset((a, b)))
        checked.append((a, b, float(_numbers(f"links[{i}] bandwidth", ends[2], 0, above=0.0))))
    return Topology(links=checked, node_speed=speed, device_speed=device, capacity=resources)


def _check_service(i: int, service: Mapping[str, Any], topology: Topology) -> Dag:
    where = f"services[{i}]"
    if not isinstance(service, Mapping):
        raise ValueError(f"{where}: got {_SHOWN.repr(service)}; must be a mapping of {', '.join(_SERVICE_FIELDS)}")
    missing = [name for name in _SERVICE_FIELDS if name not in service]
    unknown = [name for name in service if name not in _SERVICE_FIELDS]
    if missing or unknown:
        raise ValueError(f"{where}: missing {missing}, unknown {unknown}; fields are {', '.join(_SERVICE_FIELDS)}")
    _numbers(f"{where}.release", service["release"], 0)
    _node(f"{where}.source", service["source"], len(topology.node_speed))
    rows = [_list(f"{where}.preds[{j}]", row) for j, row in enumerate(_list(f"{where}.preds", service["preds"]))]
    preds = [
        [_node(f"{where}.preds[{j}]", k, len(rows), what="a microservice") for k in row] for j, row in enumerate(rows)
    ]
    demand = _numbers(f"{where}.demand", service["demand"], 2, length=len(preds))
    least = topology.capacity.min(axis=0)
    if demand.shape[1] != len(least):
        raise ValueError(f"{where}.demand: got {demand.shape[1]} kinds of resource; capacity has {len(least)}")
    if (demand > least).any():
        j, k = np.argwhere(demand > least)[0]
        raise ValueError(
            f"{where}.demand[{j}][{k}]: got {demand[j, k]:g}; must fit every edge node, the smallest has {least[k]:g}"
        )
    load = _numbers(f"{where}.load", service["load"], 1, length=len(preds))
    data = _numbers(f"{where}.data", service["data"], 1, length=len(preds))
    return Dag(preds=preds, load=load, data=data, demand=demand)


def _check_config(config: EnvConfig | None, topology: Topology, dags: Sequence[Dag]) -> EnvConfig:
    total = sum(len(dag.preds) for dag in dags)
    breakpoints = min(2 * total + 2, _ENOUGH_BREAKPOINTS)
    needed = {
        "num_nodes": len(topology.node_speed),
        "max_links": max(len(topology.links), 1),
        "num_services": len(dags),
        "max_microservices": max(len(dag.preds) for dag in dags),
        "num_resources": topology.capacity.shape[1],
    }
    if config is not None and not isinstance(config, EnvConfig):
        raise ValueError(f"config: got {_SHOWN.repr(config)}; must be an EnvConfig or None")
    if config is None:
        return EnvConfig(**needed, link_breakpoints=breakpoints, host_breakpoints=breakpoints)
    for name, value in needed.items():
        exact = name not in ("max_links", "max_microservices")
        given = getattr(config, name)
        if given < value or (exact and given != value):
            raise ValueError(f"config.{name}: got {given}; the instance needs {'' if exact else 'at least '}{value}")
    return config


def _numbers(where: str, value: Any, ndim: int, *, above: float | None = None, length: int | None = None) -> np.ndarray:
    """Finite float64 array of a given rank, at least 0 or greater than `above`, and in the range of float32."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: got {_SHOWN.repr(value)}; must be {_SHAPES[ndim]}") from None
    if array.ndim != ndim or (length is not None and len(array) != length):
        expected = _SHAPES[ndim] + ("" if length is None else f" of length {length}")
        raise ValueError(f"{where}: got an array of shape {array.shape}; must be {expected}")
    bad = ~np.isfinite(array) | (array < 0.0 if above is None else array <= above)
    extreme = (array > _MOST) | ((array != 0.0) & (array < _LEAST))
    for wrong, bound in (
        (bad, "at least 0" if above is None else f"greater than {above:g}"),
        (extreme, f"{'0 or ' if above is None else ''}from {_LEAST:g} to {_MOST:g}"),
    ):
        if wrong.any():
            index = "".join(f"[{i}]" for i in np.argwhere(wrong)[0]) if ndim else ""
            raise ValueError(f"{where}{index}: got {array[wrong].flat[0]:g}; must be finite and {bound}")
    return array


_SHAPES = ("a number", "a list of numbers", "a list of lists of numbers")


def _list(where: str, value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        raise ValueError(f"{where}: got {_SHOWN.repr(value)}; must be a list") from None


def _node(where: str, value: Any, count: int, *, what: str = "an edge node") -> int:
    try:
        node = -1 if isinstance(value, bool) or int(value) != value else int(value)
    except (TypeError, ValueError, OverflowError):
        node = -1
    if not 0 <= node < count:
        raise ValueError(f"{where}: got {_SHOWN.repr(value)}; must be {what} from 0 to {count - 1}")
    return node
