"""Two verbs of a Kubernetes scheduler extender: filter and prioritize, by the predicted finish on each node.

A pod is a service of one microservice. Annotations say what the simulator must know of it: `jaxcec/load` in Mcycles,
`jaxcec/data` in Mbit of input and `jaxcec/source`, the name of the node where the input lies; what it demands of a node
are the requests of its containers. The messages are those of `k8s.io/kube-scheduler/extender/v1`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from jaxcec.env import CECEnv, Network
from jaxcec.live.events import Service, Submitted
from jaxcec.live.lateness import Lateness, corrected
from jaxcec.live.ledger import Ledger
from jaxcec.live.mirror import Facts, mirror

ANNOTATIONS = ("jaxcec/load", "jaxcec/data", "jaxcec/source")
_MOST_SCORE = 10  # that an extender may give
_NAME = "pod-that-is-asked-about"
_UNITS = {unit: f"1e{power}" for unit, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)}
_UNITS |= {f"{unit}i": str(1024**power) for power, unit in enumerate("KMGTPE", start=1)}


class Unplaceable(ValueError):
    """A pod that is not described as it must be."""


class ExtenderArgs(BaseModel):
    """What the scheduler asks: a pod, and the nodes that are left, whole or by name."""

    model_config = ConfigDict(extra="ignore")

    Pod: dict[str, Any]
    Nodes: dict[str, Any] | None = None
    NodeNames: list[str] | None = Field(default=None, max_length=10_000)

    def names(self) -> list[str]:
        """Names of the nodes."""
        if self.NodeNames is not None:
            return self.NodeNames
        return [node["metadata"]["name"] for node in (self.Nodes or {}).get("items") or []]


class _Outlook(NamedTuple):
    """For each node of the site."""

    feasible: np.ndarray  # (V,)
    finish: np.ndarray  # (V,) s from now


class Extender:
    """Answers the scheduler.

    Args:
        ledger: what is known of the site.
        clock: the controller's, s.
        lateness: what was learned of it until now.
        names: of the site's nodes in Kubernetes.
        resources: name of each kind of resource of the site, such as `cpu`, and how much of Kubernetes' unit is one of
            the site's.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Callable[[], float],
        lateness: Callable[[], Lateness],
        names: Sequence[str],
        resources: Mapping[str, float],
    ) -> None:
        site = ledger.site
        if len(names) != site.config.num_nodes or len(resources) != site.config.num_resources:
            sizes = f"{site.config.num_nodes} nodes and {site.config.num_resources} kinds of resource"
            raise ValueError(f"kubernetes: got names {names} and resources {dict(resources)}; the site has {sizes}")
        self._ledger, self._clock, self._lateness = ledger, clock, lateness
        self._resources = dict(resources)
        self._index = {name: node for node, name in enumerate(names)}
        self._env = CECEnv(site.config)

    def filter(self, args: ExtenderArgs) -> dict[str, Any]:
        """The nodes that can run the pod, in the form in which they were given."""
        outlook = self._outlook(args.Pod)
        kept, failed = [], {}
        for name in args.names():
            node = self._index.get(name)
            if node is None:
                failed[name] = "is not a node of the site"
            elif not outlook.feasible[node]:
                failed[name] = "has not what the pod demands, or its worker is not connected"
            else:
                kept.append(name)
        result: dict[str, Any] = {"Nodes": None, "NodeNames": None, "FailedNodes": failed, "Error": ""}
        if args.NodeNames is not None:
            return result | {"NodeNames": kept}
        items = [node for node in (args.Nodes or {}).get("items") or [] if node["metadata"]["name"] in kept]
        return result | {"Nodes": {**(args.Nodes or {}), "items": items}}

    def prioritize(self, args: ExtenderArgs) -> list[dict[str, Any]]:
        """A score from 0 to 10 for each node: its share of the earliest finish."""
        outlook = self._outlook(args.Pod)
        finish = {name: outlook.finish[self._index[name]] for name in args.names() if name in self._index}
        first = min(finish.values(), default=0.0)

        def score(name: str) -> int:
            if name not in finish or not outlook.feasible[self._index[name]]:
                return 0
            return round(_MOST_SCORE * first / finish[name]) if finish[name] > 0.0 else _MOST_SCORE

        return [{"Host": name, "Score": score(name)} for name in args.names()]

    def _outlook(self, pod: Mapping[str, Any]) -> _Outlook:
        """What the twin expects of the pod on each node, if it came now."""
        ledger, now = copy.deepcopy(self._ledger), self._clock()
        ledger.apply(Submitted(time=now, service=_NAME, spec=self._service(pod)))
        slot = ledger.slot_of.get(_NAME)
        if slot is None:
            raise Unplaceable("all slots for services are taken")
        facts = ledger.facts(now, (slot, 0))
        return _Outlook(*jax.device_get(_outlook(self._env, facts, ledger.site.network, self._lateness())))

    def _service(self, pod: Mapping[str, Any]) -> Service:
        metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
        annotations = metadata.get("annotations") or {}
        missing = [name for name in ANNOTATIONS if name not in annotations]
        if missing:
            raise Unplaceable(f"annotations: got none named {', '.join(missing)}")
        load, data, source = (annotations[name] for name in ANNOTATIONS)
        if source not in self._index:
            raise Unplaceable(f"jaxcec/source: got {source!r}; must be one of {', '.join(self._index)}")
        requests = [(c.get("resources") or {}).get("requests") or {} for c in spec.get("containers") or []]
        demand = [
            sum(_quantity(name, each.get(name, "0")) for each in requests) / unit
            for name, unit in self._resources.items()
        ]
        service = Service(
            source=self._index[source],
            load=[_quantity("jaxcec/load", load)],
            demand=[demand],
            preds=[[]],
            data=[_quantity("jaxcec/data", data)],
        )
        self._ledger.site.dag(service)  # raises ValueError if no node can ever run it
        return service


@partial(jax.jit, static_argnames="env")
def _outlook(env: CECEnv, facts: Facts, network: Network, lateness: Lateness) -> tuple[chex.Array, chex.Array]:
    world = mirror(env.config, facts, network)
    nodes = corrected(env.observe(jax.random.key(0), world.state, None, world.params), lateness)[0].nodes
    return nodes.feasible > 0.0, nodes.finish


def _quantity(name: str, text: str) -> float:
    """A quantity of Kubernetes, such as 500m or 2Gi.

    Raises:
        Unplaceable: it is none.
    """
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if str(text).endswith(unit)), "")
    try:
        number = Decimal(str(text).removesuffix(unit)) * Decimal(_UNITS.get(unit, "1"))
    except InvalidOperation:
        raise Unplaceable(f"{name}: got {text!r}; must be a quantity such as 500m or 2Gi") from None
    if not number.is_finite() or number < 0:
        raise Unplaceable(f"{name}: got {text!r}; must be at least 0")
    return float(number)
