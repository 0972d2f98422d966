"""One explicit instance from plain lists: the entry point for users' own topologies and services."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxcec.env.banks import Dag, Ties, Topology, make_dags, make_network, time_unit
from jaxcec.env.check import run_by_no_node
from jaxcec.env.env import CECEnv
from jaxcec.env.routing import Link, resources
from jaxcec.env.types import Arrivals, Background, Dags, EnvConfig, EnvParams, Network

_SERVICE_FIELDS = ("release", "source", "load", "demand")
_INPUT_FIELDS = (("preds", "data"), ("inputs", "external"))  # one of two forms; `external` may be missing
_ENOUGH_BREAKPOINTS = 512
_SHOWN = reprlib.Repr()  # shortens values in messages
_SHOWN.maxlevel = 3
_LEAST, _MOST = 1e-6, 1e15  # bounds of the numbers: the times that follow from them stay within float32's range


def build_instance(
    *,
    links: Sequence[tuple[Any, ...]],
    node_speed: Any,
    device_speed: Any,
    capacity: Any,
    services: Sequence[Mapping[str, Any]],
    ties: Ties = "index",
    config: EnvConfig | None = None,
) -> tuple[CECEnv, EnvParams]:
    """An environment in which every reset gives exactly this instance, without background load.

    Args:
        links: (a, b, Mbit/s) or (a, b, Mbit/s, latency in s) each, between edge nodes a and b. Both directions share a
            bandwidth; of a pair (from a to b, from b to a), each direction has its own.
        node_speed: (V,) Mcycles/s of the edge nodes; 0 of a router, which runs nothing.
        device_speed: (V,) Mcycles/s of the end device attached to each edge node; 0 if there is none.
        capacity: (V, K) resources of each edge node, such as [cpu, mem]; an end device has one unit of each.
        services: mappings with `release` s, `source` edge node, `load` (n,) Mcycles, `demand` (n, K) resources held
            while running, and one of two forms of the input:

            - `preds`, the predecessors of each microservice, and `data` (n,) Mbit, which the predecessors of a
              microservice send in equal shares and which lies at the source if it has none;
            - `inputs`, of each microservice a mapping {predecessor: Mbit}, where 0 Mbit is precedence alone, and
              `external` (n,) Mbit that lie at the source, by default 0.

            Some edge node must be able to run each microservice: it has the demand and, unless the load is 0, a speed.
            So must the service's own end device otherwise, where a demand above its capacity takes the whole device.
        ties: which of a service's microservices that are ready at one time is decided first: that of lowest `index`, or
            that of largest upward `rank` (Mcycles on the heaviest path from it to an exit).
        config: sizes at least those of the instance; the rest is padding. By default exactly its sizes, with timelines
            on which nothing is merged for up to 255 microservices.

    Returns:
        The environment, and its params, which are also `env.default_params`.

    Raises:
        ValueError: an invalid value; the message names the field, the value and what is allowed.
    """
    if ties not in get_args(Ties):
        raise ValueError(f"ties: got {_SHOWN.repr(ties)}; must be one of {', '.join(get_args(Ties))}")
    topology = check_topology(links, node_speed, device_speed, capacity)
    dags = [check_service(f"services[{i}]", service, topology) for i, service in enumerate(_list("services", services))]
    if not dags:
        raise ValueError("services: got none; at least one is needed")
    config = _check_config(config, topology, dags)
    arrivals = Arrivals(
        dag=np.arange(len(dags), dtype=np.int32)[None],
        source=np.array([[service["source"] for service in services]], np.int32),
        release=np.array([[service["release"] for service in services]], np.float32),
    )
    network, bank = make_network([topology], config.max_links), make_dags(dags, config.max_microservices, ties)
    params = _params(network, bank, arrivals)
    return CECEnv(config, params), params


def _params(network: Network, dags: Dags, arrivals: Arrivals) -> EnvParams:
    """The params of one instance."""
    params = EnvParams(
        network=network,
        dags=dags,
        arrivals=arrivals,
        background=Background(load=np.zeros((1, 1), np.float32), frame=np.float32(1.0)),
        arrival_rate=np.float32(1.0),
        max_steps_in_episode=np.int32(np.iinfo(np.int32).max),
        time_unit=time_unit(network, dags),
    )
    return jax.tree.map(jnp.asarray, params)


def check_topology(links: Sequence[Any], node_speed: Any, device_speed: Any, capacity: Any) -> Topology:
    """The topology of a network given as to `build_instance`.

    Raises:
        ValueError: an invalid value; the message names the field, the value and what is allowed.
    """
    speed = _numbers("node_speed", node_speed, 1)
    count = len(speed)
    if not count:
        raise ValueError("node_speed: got none; at least one edge node is needed")
    if not (speed > 0.0).any():
        raise ValueError(
            f"node_speed: got {_SHOWN.repr(speed.tolist())}; at least one edge node must have a positive speed"
        )
    device = _numbers("device_speed", device_speed, 1, length=count)
    kinds = _numbers("capacity", capacity, 2, length=count)
    checked: list[Link] = []
    for i, link in enumerate(_list("links", links)):
        checked.append(_check_link(f"links[{i}]", link, count))
        a, b = checked[-1][:2]
        if a == b or any({a, b} == {*other[:2]} for other in checked[:-1]):
            raise ValueError(f"links[{i}]: got ({a}, {b}); must join two different nodes not joined before")
    return Topology(links=checked, node_speed=speed, device_speed=device, capacity=kinds)


def _check_link(where: str, link: Any, count: int) -> Link:
    parts = _list(where, link)
    if len(parts) not in (3, 4):
        raise ValueError(f"{where}: got {_SHOWN.repr(link)}; must be (a, b, Mbit/s) or (a, b, Mbit/s, latency in s)")
    a, b = (_node(where, end, count) for end in parts[:2])
    latency = float(_numbers(f"{where} latency", parts[3], 0, least=0.0)) if len(parts) == 4 else 0.0
    both = isinstance(parts[2], (list, tuple)) or getattr(parts[2], "ndim", 0) > 0  # a nested list has no `np.ndim`
    if not both:
        return Link(a, b, float(_numbers(f"{where} bandwidth", parts[2], 0, above=0.0)), latency=latency)
    rate, back = _numbers(f"{where} bandwidth", parts[2], 1, above=0.0, length=2)
    return Link(a, b, float(rate), float(back), latency)


def check_service(where: str, service: Mapping[str, Any], topology: Topology) -> Dag:
    """The DAG of one service given as to `build_instance`, if each of its microservices can run in the network.

    Raises:
        ValueError: an invalid value; the message names the field, after `where`, the value and what is allowed.
    """
    form = _input_form(where, service)
    _numbers(f"{where}.release", service["release"], 0)
    source = _node(f"{where}.source", service["source"], len(topology.node_speed))
    inputs = _list(f"{where}.{form}", service[form])
    size = len(inputs)
    rows = [_list(f"{where}.{form}[{j}]", row) for j, row in enumerate(inputs)]
    preds = [[_node(f"{where}.{form}[{j}]", k, size, what="a microservice") for k in row] for j, row in enumerate(rows)]
    demand = _numbers(f"{where}.demand", service["demand"], 2, length=size)
    load = _numbers(f"{where}.load", service["load"], 1, length=size)
    if demand.shape[1] != topology.capacity.shape[1]:
        kinds = topology.capacity.shape[1]
        raise ValueError(f"{where}.demand: got {demand.shape[1]} kinds of resource; capacity has {kinds}")
    _check_feasible(where, load, demand, source=source, topology=topology)
    if form == "preds":
        data = _numbers(f"{where}.data", service["data"], 1, length=size)
        return Dag(preds=preds, load=load, data=data, demand=demand)
    sent = [_sent(f"{where}.inputs[{j}]", row) for j, row in enumerate(inputs)]
    external = _numbers(f"{where}.external", service.get("external", [0.0] * size), 1, length=size)
    data = np.array([sum(row.values()) for row in sent]) + external
    return Dag(preds=preds, load=load, data=data, demand=demand, sent=sent, external=external)


def _input_form(where: str, service: Any) -> str:
    """The form in which a service gives its inputs, once it has all its fields and no others."""
    if not isinstance(service, Mapping):
        allowed = ", ".join(_SERVICE_FIELDS + _INPUT_FIELDS[0])
        raise ValueError(f"{where}: got {_SHOWN.repr(service)}; must be a mapping of {allowed}")
    form, amounts = _INPUT_FIELDS["inputs" in service]
    fields = (*_SERVICE_FIELDS, form, amounts)
    missing = [name for name in fields if name not in service and name != "external"]
    unknown = [name for name in service if name not in fields]
    if missing or unknown:
        raise ValueError(f"{where}: missing {missing}, unknown {unknown}; fields are {', '.join(fields)}")
    return form


def _sent(where: str, row: Any) -> dict[int, float]:
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: got {_SHOWN.repr(row)}; must be a mapping {{predecessor: Mbit}}")
    return {int(k): float(_numbers(f"{where}[{k}]", amount, 0)) for k, amount in row.items()}


def _check_feasible(where: str, load: np.ndarray, demand: np.ndarray, *, source: int, topology: Topology) -> None:
    """Raise ValueError unless some edge node or the service's end device can run each microservice."""
    stuck = run_by_no_node(load, demand, node_speed=topology.node_speed, capacity=topology.capacity)
    if topology.device_speed[source] == 0.0 and stuck.any():
        j = int(np.argmax(stuck))
        raise ValueError(
            f"{where}.demand[{j}]: got {demand[j].tolist()}; must fit an edge node whose speed is positive, for there "
            f"is no end device at the source {source}"
        )


def _check_config(config: EnvConfig | None, topology: Topology, dags: Sequence[Dag]) -> EnvConfig:
    total = sum(len(dag.preds) for dag in dags)
    breakpoints = min(2 * total + 2, _ENOUGH_BREAKPOINTS)
    needed = {
        "num_nodes": len(topology.node_speed),
        "max_links": max(len(resources(topology.links)), 1),
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


def _numbers(
    where: str, value: Any, ndim: int, *, above: float | None = None, least: float = _LEAST, length: int | None = None
) -> np.ndarray:
    """Finite float64 array of a given rank, at least 0 or greater than `above`; at least `least` where it is not 0."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: got {_SHOWN.repr(value)}; must be {_SHAPES[ndim]}") from None
    if array.ndim != ndim or (length is not None and len(array) != length):
        expected = _SHAPES[ndim] + ("" if length is None else f" of length {length}")
        raise ValueError(f"{where}: got an array of shape {array.shape}; must be {expected}")
    bad = ~np.isfinite(array) | (array < 0.0 if above is None else array <= above)
    extreme = (array > _MOST) | ((array != 0.0) & (array < least))
    for wrong, bound in (
        (bad, "at least 0" if above is None else f"greater than {above:g}"),
        (extreme, f"{'0 or ' if above is None else ''}from {least:g} to {_MOST:g}"),
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
