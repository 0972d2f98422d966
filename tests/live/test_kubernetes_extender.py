"""The extender's messages, made and read by the official client library, and what they say; no cluster takes part."""

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("kubernetes")

import numpy as np
from helpers.controlled import SITE
from helpers.pods import NAMES, extender_of, pod
from kubernetes import client

from jaxcec.live import events
from jaxcec.live.kubernetes_extender import ExtenderArgs, Unplaceable, _quantity
from jaxcec.live.lateness import no_lateness
from jaxcec.live.ledger import Ledger


def node_list(*names):
    nodes = [client.V1Node(metadata=client.V1ObjectMeta(name=name)) for name in names]
    return client.V1NodeList(api_version="v1", kind="NodeList", items=nodes)


def plain(model):
    """A model as JSON, as the API server would send it."""
    return client.ApiClient().sanitize_for_serialization(model)


def args(asked, *names):
    return ExtenderArgs(Pod=plain(asked), NodeNames=list(names))


@pytest.fixture
def ledger():
    ledger = Ledger(SITE)
    for node in range(3):
        ledger.apply(events.WorkerUp(time=100.0, host=node))
    return ledger


@pytest.fixture
def extender(ledger):
    return extender_of(ledger, no_lateness(3))


def test_nodes_are_scored_by_the_predicted_finish(extender):
    """800 Mcycles take 20 s on `edge-a`, 40 s on `edge-b` after 1 s of transfer, and 26.7 s on `edge-c` after 2 s."""
    scores = extender.prioritize(args(pod(), *NAMES, "stranger"))
    assert scores == [
        {"Host": "edge-a", "Score": 10},
        {"Host": "edge-b", "Score": round(10 * 20 / 41)},
        {"Host": "edge-c", "Score": round(10 * 20 / (800 / 30 + 2))},
        {"Host": "stranger", "Score": 0},
    ]


def test_a_node_that_is_known_to_be_slow_has_a_lower_score(ledger):
    slow = no_lateness(3).replace(slower=np.float32([2.0, 0.0, 0.0]))
    scores = extender_of(ledger, slow).prioritize(args(pod(), *NAMES))
    assert [each["Score"] for each in scores] == [round(10 * (800 / 30 + 2) / 60), round(10 * (800 / 30 + 2) / 41), 10]


def test_nodes_without_what_is_demanded_or_without_a_worker_are_filtered(ledger, extender):
    """1.5 GiB fit `edge-a` (2) and `edge-c` (2), not `edge-b` (1); the worker of `edge-c` is lost."""
    ledger.apply(events.WorkerDown(time=100.0, host=2))
    result = extender.filter(args(pod(memory="1536Mi"), *NAMES, "stranger"))
    assert result["NodeNames"] == ["edge-a"] and result["Nodes"] is None and result["Error"] == ""
    assert set(result["FailedNodes"]) == {"edge-b", "edge-c", "stranger"}


def test_nodes_that_were_given_whole_are_given_back_whole(extender):
    asked = ExtenderArgs(Pod=plain(pod(memory="1536Mi")), Nodes=plain(node_list(*NAMES)))
    kept = client.ApiClient()._ApiClient__deserialize(extender.filter(asked)["Nodes"], "V1NodeList")
    assert [node.metadata.name for node in kept.items] == ["edge-a", "edge-c"]


def test_asking_changes_nothing(ledger, extender):
    extender.filter(args(pod(), *NAMES))
    extender.prioritize(args(pod(), *NAMES))
    assert not ledger.slot_of and ledger.counters.submitted == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"jaxcec/source": "nowhere"}, "jaxcec/source: got 'nowhere'; must be one of edge-a, edge-b, edge-c"),
        ({"jaxcec/load": "much"}, "jaxcec/load: got 'much'; must be a quantity"),
        ({"jaxcec/data": "-1"}, "jaxcec/data: got '-1'; must be at least 0"),
        ({"cpu": "64"}, "demand"),
    ],
)
def test_pods_that_are_not_described_are_refused(extender, changed, message):
    with pytest.raises(ValueError, match=message):
        extender.filter(args(pod(**changed), *NAMES))


def test_a_pod_without_annotations_is_refused(extender):
    bare = pod()
    bare.metadata.annotations = None
    with pytest.raises(Unplaceable, match="annotations: got none named jaxcec/load, jaxcec/data, jaxcec/source"):
        extender.prioritize(args(bare, *NAMES))


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), ("2", 2.0), ("1.5", 1.5), ("2Gi", 2.0 * 1024**3), ("3M", 3e6), ("1e3", 1e3)]
)
def test_quantities_are_read(text, value):
    assert _quantity("cpu", text) == pytest.approx(value)


def test_names_must_suit_the_site(ledger):
    with pytest.raises(ValueError, match="the site has 3 nodes and 2 kinds of resource"):
        extender_of(ledger, no_lateness(3), names=["one"])
