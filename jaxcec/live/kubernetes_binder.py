"""A small scheduler for Kubernetes: it binds the pods that name it to the nodes that a site's extender prefers.

It is for clusters whose own scheduler cannot be given an extender. It looks at requests, readiness and cordons only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from decimal import Decimal
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import urllib3
from kubernetes import client
from kubernetes.utils import parse_quantity

_PATIENCE = 10.0  # s for an answer
_ENDED = ("Succeeded", "Failed")  # phases of pods that use nothing any more
Resources = dict[str, Decimal]  # amount of each kind of resource
Ask = Callable[[str, dict[str, Any]], Any]  # the extender: from a verb and its arguments to the answer


class Refused(Exception):
    """The extender does not place a pod, or its answer is of no use."""


def asking(address: str, token: str = "") -> Ask:
    """The extender of the site whose HTTP API is at an address.

    Calling it raises Refused if the pod cannot be placed, and OSError if there is no answer.
    """

    def ask(verb: str, arguments: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = Request(f"{address.rstrip('/')}/kubernetes/{verb}", json.dumps(arguments).encode(), headers)
        try:
            with urlopen(request, timeout=_PATIENCE) as response:
                answer = json.load(response)
        except HTTPError as error:
            with error:
                raise Refused(f"{error.code}: {error.read().decode(errors='replace')}") from None
        except (ValueError, HTTPException) as error:
            raise Refused(f"the answer of {address}: {type(error).__name__}: {error}") from None
        if isinstance(answer, dict) and answer.get("Error"):
            raise Refused(answer["Error"])
        return answer

    return ask


def bind_waiting(core: client.CoreV1Api, ask: Ask, scheduler: str) -> dict[str, str]:
    """Bind each pod that waits for the scheduler of this name, the oldest first, to the node with the best score.

    Returns:
        By pod, as NAMESPACE/NAME, where it is now or why it still waits.

    Raises:
        urllib3.exceptions.HTTPError: the API server does not answer.
        client.ApiException: it refuses to list pods or nodes.
    """
    pods = core.list_pod_for_all_namespaces(_request_timeout=_PATIENCE).items
    free = _free_of(core.list_node(_request_timeout=_PATIENCE).items, pods)
    waiting = [pod for pod in pods if _waits(pod, scheduler)]
    outcome = {}
    for pod in sorted(waiting, key=lambda pod: str(pod.metadata.creation_timestamp)):
        requests = _requests(pod)
        fitting = [name for name, left in free.items() if all(left.get(k, 0) >= v for k, v in requests.items())]
        try:
            node = _best(ask, pod, fitting)
            _bind(core, pod, node)
        except client.ApiException as error:
            outcome[_name(pod)] = f"waits: the API server answered {error.status} {error.reason}"
        except (Refused, urllib3.exceptions.HTTPError) as error:
            outcome[_name(pod)] = f"waits: {error}"
        except OSError as error:
            outcome[_name(pod)] = f"waits: the extender does not answer: {error}"
            break  # it would not answer for the next pod either, after as long a wait
        else:
            free[node] = _less(free[node], requests)
            outcome[_name(pod)] = f"bound to {node}"
    return outcome


def _waits(pod: client.V1Pod, scheduler: str) -> bool:
    """Whether a pod is to be bound by the scheduler of this name, and nothing holds it back."""
    held = pod.spec.node_name or pod.spec.scheduling_gates or pod.metadata.deletion_timestamp or _has_ended(pod)
    return pod.spec.scheduler_name == scheduler and not held


def _has_ended(pod: client.V1Pod) -> bool:
    return pod.status is not None and pod.status.phase in _ENDED


def _free_of(nodes: Iterable[client.V1Node], pods: Iterable[client.V1Pod]) -> dict[str, Resources]:
    """What pods have not requested yet, of each node that is ready and takes pods."""
    ready = [node for node in nodes if not (node.spec and node.spec.unschedulable) and _is_ready(node)]
    free = {node.metadata.name: _amounts(node.status.allocatable) for node in ready}
    for pod in pods:
        if pod.spec.node_name in free and not _has_ended(pod):
            free[pod.spec.node_name] = _less(free[pod.spec.node_name], _requests(pod))
    return free


def _is_ready(node: client.V1Node) -> bool:
    conditions = node.status.conditions or []
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)


def _requests(pod: client.V1Pod) -> Resources:
    """What a pod requests, as kube-scheduler counts it.

    Containers and sidecars run together. An init container runs before them, together with the sidecars that were
    started before it. What the pod itself requests takes the place of both, and its overhead is added.
    """
    together: Resources = {}
    largest: Resources = {}
    for each in pod.spec.init_containers or []:
        running = _more(together, _requested(each))
        largest = _most(running, largest)
        together = running if each.restart_policy == "Always" else together
    for each in pod.spec.containers:
        together = _more(together, _requested(each))
    of_pod = _requested(pod.spec) if hasattr(pod.spec, "resources") else {}
    return _more(_most(together, largest) | of_pod, _amounts(pod.spec.overhead)) | {"pods": Decimal(1)}


def _requested(what: Any) -> Resources:
    return _amounts(what.resources and what.resources.requests)


def _amounts(quantities: dict[str, str] | None) -> Resources:
    return {kind: parse_quantity(quantity) for kind, quantity in (quantities or {}).items()}


def _more(left: Resources, added: Resources) -> Resources:
    return left | {kind: left.get(kind, Decimal(0)) + amount for kind, amount in added.items()}


def _most(left: Resources, right: Resources) -> Resources:
    return {kind: max(left.get(kind, Decimal(0)), right.get(kind, Decimal(0))) for kind in left | right}


def _less(left: Resources, taken: Resources) -> Resources:
    return left | {kind: left.get(kind, Decimal(0)) - amount for kind, amount in taken.items()}


def _best(ask: Ask, pod: client.V1Pod, nodes: list[str]) -> str:
    """The node with the best score, of those that the extender keeps; the first of equal ones."""
    if not nodes:
        raise Refused("no node that is ready has what it requests")
    arguments = {"Pod": client.ApiClient().sanitize_for_serialization(pod), "Nodes": None}
    kept = ask("filter", arguments | {"NodeNames": nodes})
    if not kept["NodeNames"]:
        raise Refused("; ".join(f"{name} {why}" for name, why in kept["FailedNodes"].items()))
    scores = ask("prioritize", arguments | {"NodeNames": kept["NodeNames"]})
    return str(max(scores, key=lambda each: each["Score"])["Host"])


def _bind(core: client.CoreV1Api, pod: client.V1Pod, node: str) -> None:
    metadata = client.V1ObjectMeta(name=pod.metadata.name, uid=pod.metadata.uid)
    body = client.V1Binding(metadata=metadata, target=client.V1ObjectReference(kind="Node", name=node))
    # The answer is a status, and not the binding that the client expects.
    how = {"_preload_content": False, "_request_timeout": _PATIENCE}
    core.create_namespaced_pod_binding(pod.metadata.name, pod.metadata.namespace, body, **how)


def _name(pod: client.V1Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"
