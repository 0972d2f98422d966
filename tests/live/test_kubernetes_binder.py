"""The binder with the official client library, against a mock of an API server that keeps objects; no cluster."""

import asyncio
import contextlib

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("uvicorn")
pytest.importorskip("kubernetes")
pytest.importorskip("kmock")

import kmock
import uvicorn
from helpers.controlled import SITE
from helpers.pods import NAMES, extender_of, pod
from kubernetes import client, config
from kubernetes.utils import parse_quantity

from jaxcec.commands import bind_pods
from jaxcec.commands.live import main
from jaxcec.live import events, kubernetes_binder
from jaxcec.live.kubernetes_binder import Refused, _free_of, _requests, asking, bind_waiting
from jaxcec.live.lateness import no_lateness
from jaxcec.live.ledger import Ledger
from jaxcec.live.server import Api, make_app

TOKEN = "of the API"


class Stub:
    """Stands in for the controller: the extender needs none."""

    def __init__(self):
        self.listeners = []


def site():
    """The address of the HTTP API of a site whose workers are all connected."""
    ledger = Ledger(SITE)
    for node in range(3):
        ledger.apply(events.WorkerUp(time=100.0, host=node))
    return serving(make_app(Api(Stub(), None, extender_of(ledger, no_lateness(3))), TOKEN))


@contextlib.asynccontextmanager
async def serving(app):
    """The address of an application."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    finally:
        server.should_exit = server.force_exit = True
        await running


def node(name, *, cpu="4", ready=True, cordoned=False):
    condition = client.V1NodeCondition(type="Ready", status=str(ready))
    return client.V1Node(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1NodeSpec(unschedulable=cordoned),
        status=client.V1NodeStatus(allocatable={"cpu": cpu, "memory": "8Gi", "pods": "110"}, conditions=[condition]),
    )


def waiting(name, *, on=None, phase="Pending", scheduler="with-jaxcec", **fields):
    new = pod(**fields)
    new.metadata.name, new.spec.node_name, new.spec.scheduler_name = name, on, scheduler
    new.status = client.V1PodStatus(phase=phase)
    return new


def bound(nodes, pods):
    """What the binder says, and the nodes of the bindings that the API server received, by pod."""

    async def scenario():
        async with site() as address, kmock.KubernetesEmulator() as cluster, kmock.Server(cluster) as server:
            made = cluster["post", kmock.subresource("binding")] << b'{"kind": "Status", "status": "Success"}'
            core = client.CoreV1Api(client.ApiClient(client.Configuration(host=str(server.url).rstrip("/"))))
            for each in nodes:
                await asyncio.to_thread(core.create_node, each)
            for each in pods:
                await asyncio.to_thread(core.create_namespaced_pod, "default", each)
            outcome = await asyncio.to_thread(bind_waiting, core, asking(address, TOKEN), "with-jaxcec")
            return outcome, {each.data["metadata"]["name"]: each.data["target"]["name"] for each in made}

    return asyncio.run(scenario())


def test_a_pod_is_bound_where_it_finishes_first():
    outcome, bindings = bound(map(node, NAMES), [waiting("pod")])
    assert bindings == {"pod": "edge-a"} and outcome == {"default/pod": "bound to edge-a"}


def test_nodes_are_not_given_more_than_they_have():
    """`edge-a` is the fastest and has half a core left; then come `edge-c` and `edge-b`."""
    nodes = [node("edge-a"), node("edge-b", cpu="500m"), node("edge-c", cpu="0.9")]
    pods = [waiting("old", on="edge-a", cpu="3500m"), waiting("over", on="edge-c", cpu="10", phase="Succeeded")]
    outcome, bindings = bound(nodes, [*pods, *(waiting(name) for name in "abcd")])
    assert bindings == {"a": "edge-a", "b": "edge-c", "c": "edge-b"}
    assert outcome.pop("default/d") == "waits: no node that is ready has what it requests"
    assert {pod: what.rsplit(" ", 1)[1] for pod, what in outcome.items()} == {
        f"default/{name}": to for name, to in bindings.items()
    }


def test_nodes_that_take_no_pods_and_pods_of_others_are_left_alone():
    nodes = [node("edge-a", ready=False), node("edge-b"), node("edge-c", cordoned=True), node("stranger")]
    others = [waiting("theirs", scheduler="default-scheduler"), waiting("ended", phase="Failed"), waiting("on", on="b")]
    outcome, bindings = bound(nodes, [*others, waiting("pod")])
    assert bindings == {"pod": "edge-b"} and outcome.keys() == {"default/pod"}


def test_a_pod_that_cannot_be_placed_says_why_and_does_not_hold_up_others():
    undescribed, large = waiting("undescribed"), waiting("large", memory="1536Mi")
    undescribed.metadata.annotations = {}
    outcome, bindings = bound([node("edge-b")], [undescribed, large, waiting("pod")])
    assert bindings == {"pod": "edge-b"}
    assert "annotations: got none named jaxcec/load" in outcome["default/undescribed"]
    assert outcome["default/large"].startswith("waits: edge-b has not what the pod demands")


def container(cpu, **fields):
    resources = client.V1ResourceRequirements(requests={"cpu": cpu})
    return client.V1Container(name="some", image="image", resources=resources, **fields)


@pytest.mark.parametrize(
    ("before", "fields", "cpu"),
    [
        ([], {}, "500m"),
        ([container("2")], {}, "2"),
        ([container("100m")], {}, "500m"),
        ([container("1", restart_policy="Always")], {}, "1.5"),
        ([container("1", restart_policy="Always"), container("700m")], {}, "1.7"),
        ([container("700m"), container("1", restart_policy="Always")], {}, "1.5"),
        ([], {"overhead": {"cpu": "250m"}}, "750m"),
    ],
)
def test_a_pod_requests_what_runs_together(before, fields, cpu):
    asked = waiting("pod", cpu="250m", memory="1Gi")
    asked.spec.containers *= 2
    asked.spec.init_containers = before
    for name, value in fields.items():
        setattr(asked.spec, name, value)
    assert _requests(asked) == {"cpu": parse_quantity(cpu), "memory": 2 << 30, "pods": 1}


def test_the_oldest_pod_is_bound_first_and_terminating_ones_hold_what_they_have():
    young, old, there = waiting("young"), waiting("old"), waiting("there", on="edge-a", cpu="3500m")
    young.metadata.creation_timestamp, old.metadata.creation_timestamp = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
    outcome, bindings = bound([node("edge-a")], [young, old, there])
    assert bindings == {"old": "edge-a"} and outcome["default/young"].startswith("waits: no node")
    there.metadata.deletion_timestamp = "2026-01-03T00:00:00Z"
    assert _free_of([node("edge-a")], [there])["edge-a"]["cpu"] == parse_quantity("500m")


def test_what_a_pod_says_is_printed_as_it_is(monkeypatch, capsys):
    said = {"default/pod": "waits: got '[/x]'"}
    monkeypatch.setattr(config, "load_config", lambda: None)
    monkeypatch.setattr(kubernetes_binder, "bind_waiting", lambda *_: said)
    monkeypatch.setattr(bind_pods.time, "sleep", interrupted)
    main(["bind"])
    assert "default/pod: waits: got '[/x]'" in capsys.readouterr().out


def interrupted(_):
    raise KeyboardInterrupt


def test_errors_of_the_extender_are_told_apart():
    """A site without a section `kubernetes` answers 404; one that is not there does not answer."""
    refused = make_app(Api(Stub(), None), "")

    async def scenario():
        async with serving(refused) as address:
            with pytest.raises(Refused, match=r"404.*the site has no section `kubernetes`"):
                await asyncio.to_thread(asking(address), "filter", {})
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(asking(address), "filter", {})

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--every", "0"], "--every: got 0.0; must be positive"),
        (["--site", "edge"], "--site: got 'edge'; must be an address"),
        ([], "kubernetes: no configuration of a cluster"),
    ],
)
def test_the_command_needs_a_cluster(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(config, "load_config", none_configured)
    with pytest.raises(SystemExit) as left:
        main(["bind", *arguments])
    assert left.value.code == 2 and message in capsys.readouterr().err


def none_configured():
    raise config.ConfigException("no file")


def test_the_command_goes_on_until_the_cluster_answers(monkeypatch, capsys):
    """It says once that nothing answers, and ends when it is interrupted."""
    rounds = []

    def sleep(seconds):
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    unreachable = client.Configuration(host="http://127.0.0.1:1")
    unreachable.retries = False
    monkeypatch.setattr(config, "load_config", lambda: client.Configuration.set_default(unreachable))
    monkeypatch.setattr(bind_pods.time, "sleep", sleep)
    main(["bind", "--every", "2"])
    assert rounds == [2.0] * 3 and capsys.readouterr().out.count("nothing is bound: ") == 1
