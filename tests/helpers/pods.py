"""Pods that a site can run, and the extender of that site."""

from kubernetes import client

from jaxcec.live.kubernetes_extender import Extender

NAMES = ["edge-a", "edge-b", "edge-c"]
RESOURCES = {"cpu": 2.0, "memory": float(1 << 30)}  # one of the site's is two cores, and a GiB


def pod(*, cpu="500m", memory="512Mi", **annotations):
    """A pod of a third of a minute on the fastest node, with 8 Mbit of input at `edge-a`."""
    values = {"jaxcec/load": "800", "jaxcec/data": "8", "jaxcec/source": "edge-a"} | annotations
    resources = client.V1ResourceRequirements(requests={"cpu": cpu, "memory": memory})
    container = client.V1Container(name="main", image="image", resources=resources)
    return client.V1Pod(
        api_version="v1",
        kind="Pod",
        metadata=client.V1ObjectMeta(name="pod", namespace="default", annotations=values),
        spec=client.V1PodSpec(containers=[container], scheduler_name="with-jaxcec"),
    )


def extender_of(ledger, lateness, names=NAMES):
    return Extender(ledger, clock=lambda: 100.0, lateness=lambda: lateness, names=names, resources=RESOURCES)
