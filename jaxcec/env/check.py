"""Numbers that no environment can have, found before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from jaxcec.env.types import MOST_LOAD, EnvConfig, EnvParams

P = TypeVar("P", bound=EnvParams)
_Sizes = dict[str, tuple[int | None, ...]]


def check_params(config: EnvConfig, params: P) -> P:
    """The params unchanged, if an environment of these sizes can have them.

    Whatever takes params from outside calls this. Inside a compiled function there are no numbers yet, so traced params
    pass.

    Args:
        config: sizes of the environment.
        params: one set of banks, without batch axes.

    Raises:
        ValueError: a leaf has a wrong shape, a number that is not finite or out of range, or an index without a row.
    """
    if not is_concrete(params):
        return params
    leaves = tree_leaves_with_path(params)
    arrays = {keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}
    for name, shape in _shapes(config).items():
        _check_shape(name, arrays[name], shape)
    ranges = _ranges(config, len(arrays["dags.size"]))
    for name, array in arrays.items():
        if name not in ("network.route", "network.bottleneck", "dags.preds"):
            _check(name, array, np.isfinite, "finite")
            least, most = ranges.get(name, (0, np.inf))
            _check(name, array, lambda x: (x >= least) & (x <= most), f"from {least:g} to {most:g}")  # noqa: B023
    _check("network.bottleneck", arrays["network.bottleneck"], lambda x: x > 0.0, "positive")
    if not (arrays["network.speed"][:, : config.num_nodes] > 0.0).any(axis=1).all():
        raise ValueError("network.speed: got a topology without an edge node whose speed is positive; must have one")
    _check_feasible(arrays, config.num_nodes)
    return params


def is_concrete(params: EnvParams) -> bool:
    """Whether the leaves have values, as they do outside of compiled functions."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params))


def run_by_no_node(load: np.ndarray, demand: np.ndarray, *, node_speed: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Which microservices, (...) Mcycles and (..., K), no edge node can run, of (V,) Mcycles/s and (V, K)."""
    fits = (demand[..., None, :] <= capacity).all(axis=-1) & (node_speed > 0.0)
    return np.asarray(~fits.any(axis=-1) & (load > 0.0))


def _check_feasible(arrays: dict[str, np.ndarray], num_nodes: int) -> None:
    """Raise ValueError if a service has a microservice that no edge node and not its own end device can run."""
    speed, load, demand = arrays["network.speed"], arrays["dags.load"], arrays["dags.demand"]
    dag, source = arrays["arrivals.dag"], arrays["arrivals.source"]
    for g in np.flatnonzero((speed[:, num_nodes:] == 0.0).any(axis=1)):
        stuck = run_by_no_node(
            load, demand, node_speed=speed[g, :num_nodes], capacity=arrays["network.capacity"][g, :num_nodes]
        )
        wrong = np.any(stuck, axis=-1)[dag] & (speed[g, num_nodes + source] == 0.0)
        if wrong.any():
            where = tuple(np.argwhere(wrong)[0])
            s, j = dag[where], np.argmax(stuck[dag[where]])
            raise ValueError(
                f"dags.demand[{s}][{j}]: got {demand[s, j].tolist()}; must fit an edge node of topology {g} whose "
                f"speed is positive, for the source {source[where]} has no end device"
            )


def _shapes(config: EnvConfig) -> _Sizes:
    """Shape of every leaf; None for the rows of a bank."""
    v, e, h, k = config.num_nodes, config.max_links, config.num_hosts, config.num_resources
    m, n = config.num_services, config.max_microservices
    dags: _Sizes = {"preds": (n, n), "load": (n,), "data": (n,), "sent": (n, n), "demand": (n, k)}
    dags |= {"size": (), "in_degree": (n,), "entry": (), "turn": (n,), "rank": (n,), "work": ()}
    network: _Sizes = {"bandwidth": (e,), "bottleneck": (v, v), "latency": (v, v), "speed": (h,), "capacity": (h, k)}
    network |= {"route": (-(-v // 32), v, e)}
    arrivals: _Sizes = dict.fromkeys(("dag", "source", "release"), (m,))
    banks: dict[str, _Sizes] = {"network": network, "dags": dags, "arrivals": arrivals, "background": {"load": (None,)}}
    rows: _Sizes = {f"{bank}.{name}": (None, *shape) for bank, names in banks.items() for name, shape in names.items()}
    return rows | dict.fromkeys(("background.frame", "arrival_rate", "max_steps_in_episode", "time_unit"), ())


def _ranges(config: EnvConfig, num_dags: int) -> dict[str, tuple[float, float]]:
    """Least and largest value of some leaves; all others are at least 0."""
    n = config.max_microservices
    return {
        "arrivals.dag": (0, num_dags - 1),
        "arrivals.source": (0, config.num_nodes - 1),
        "dags.entry": (0, n - 1),
        "dags.turn": (0, n - 1),
        "dags.size": (1, n),
        "dags.in_degree": (-1, n),
        "background.load": (0, MOST_LOAD),
        "background.frame": (1e-9, np.inf),
        "arrival_rate": (1e-9, np.inf),
        "time_unit": (1e-9, np.inf),
        "max_steps_in_episode": (1, np.inf),
    }


def _check_shape(name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or not array.size:
        wanted = ", ".join("rows" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: got shape {array.shape}; must be ({wanted})")


def _check(name: str, array: np.ndarray, allowed: Callable[[np.ndarray], np.ndarray], what: str) -> None:
    wrong = ~allowed(array)
    if wrong.any():
        index = "".join(f"[{i}]" for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name}{index}: got {array[wrong].flat[0]}; must be {what}")
