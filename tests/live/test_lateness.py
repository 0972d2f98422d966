"""What the mechanism leaves out: that it is found, what decisions it changes, and its file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pydantic")

from jaxcec.env import CECEnv
from jaxcec.evaluation import Contender
from jaxcec.live import events
from jaxcec.live.decider import Verdict
from jaxcec.live.lateness import FEATURES, fitted_lateness, lateness_of, load_lateness, no_lateness, save_lateness
from jaxcec.live.ledger import Ledger
from jaxcec.live.mirror import decide
from jaxcec.live.orders import decision_event
from jaxcec.live.service_state import service_state, site_state
from jaxcec.live.site import Site
from jaxcec.policies import at_full_rate, earliest_finish

SITE = Site(
    links=[(0, 1, 10.0)],
    node_speed=[30.0, 20.0],
    device_speed=[5.0, 0.0],
    capacity=[[1.0, 1.0]] * 2,
    num_services=1,
    max_microservices=1,
)
SLOW = no_lateness(2).replace(slower=np.float32([2.0, 0.0]))


def measured(seed, count=600):
    """Features, nodes, and a lateness of 0.2 s, 0.1 s more over links, and a third of the execution on node 1."""
    rng = np.random.default_rng(seed)
    seen = np.zeros((count, len(FEATURES)), np.float32)
    seen[:, :4] = rng.random((count, 4)) < [1.0, 0.5, 0.3, 0.3]
    seen[:, 4:] = rng.exponential([20.0, 30.0, 30.0, 40.0], (count, 4)) * seen[:, [1, 2, 3, 0]]
    host = rng.integers(2, size=count)
    late = 0.2 + 0.1 * seen[:, 1] + (host == 1) * seen[:, -1] / 3.0
    return seen, host, late.astype(np.float32)


@pytest.mark.parametrize("by_node", [True, False])
def test_what_is_left_out_is_found_in_spite_of_outliers(by_node):
    seen, node, late = measured(seed=0)
    odd = np.random.default_rng(1).random(len(late)) < 0.02
    found = fitted_lateness(seen, node, late + 60.0 * odd, num_nodes=2, by_node=by_node)
    seen, node, late = measured(seed=1)
    error = np.abs(late - lateness_of(found, seen, node)).mean()
    if by_node:
        assert error < 0.05
        np.testing.assert_allclose(found.shared[-1] + found.slower, [0.0, 1 / 3], atol=0.01)
    else:
        assert not found.pause.any() and not found.slower.any()
        assert error > 1.0


@pytest.mark.parametrize(
    ("number", "execution", "wait", "late"),
    [(1, 40.0, 0.002, 5.0), (1, 0.01, 0.0, 60.0), (3, 40.0, 0.0, 20.0)],
    ids=["one short wait", "one short run", "three runs on another node"],
)
def test_a_few_odd_decisions_teach_nothing(number, execution, wait, late):
    seen, node, usual = measured(seed=0)
    quick = node == 0
    seen, node, usual = seen[quick], node[quick], usual[quick]
    seen[:number, 3], seen[:number, 6], seen[:number, 7] = wait > 0.0, wait, execution
    node[:number], usual[:number] = 1, late
    found = fitted_lateness(seen, node, usual, num_nodes=2, by_node=True)
    everything = np.array([[1.0, 1.0, 1.0, 1.0, 30.0, 30.0, 30.0, 40.0]] * 2, np.float32)
    assert np.abs(lateness_of(found, everything, np.arange(2)) - 0.3).max() < 0.1


def decided(lateness, rule=earliest_finish):
    """The decision about a service that is on node 0 and would take 10 s there, and 15 s and a moment on 1."""
    ledger = Ledger(SITE)
    service = events.Service(source=0, preds=[[]], load=[300.0], data=[1.0], demand=[[0.5, 0.5]])
    submitted = events.Submitted(time=0.0, service="s", spec=service)
    for event in (*(events.WorkerUp(time=0.0, host=host) for host in range(4)), submitted):
        ledger.apply(event)
    due, facts, policy = ledger.next_due(), ledger.facts(0.0, (0, 0)), Contender.of_rule("some", rule)
    how = {"lateness": lateness, "apply": policy.apply, "params": policy.params, "number": np.int32(0)}
    info = jax.device_get(decide(CECEnv(SITE.config), facts, SITE.network, **how))
    event = decision_event(ledger, due, Verdict(info, "some", late=False), 0.0)
    ledger.apply(event)
    return event, service_state([submitted, event])["microservices"][0], site_state(ledger, 0.0)["runs"][0]


def test_a_node_that_is_known_to_be_slow_is_avoided_and_finishes_are_predicted_with_it():
    event, state, run = decided(no_lateness(2))
    assert event.host == 0 and event.later == 0.0 and event.expected == event.finish == pytest.approx(10.0)
    event, *_ = decided(SLOW)
    assert event.host == 1 and event.expected == event.finish == pytest.approx(15.1, abs=0.01)
    everywhere = SLOW.replace(slower=np.full(2, 2.0, np.float32))
    event, state, run = decided(everywhere)
    assert event.host == 0 and event.finish == pytest.approx(10.0)  # what the worker is told does not change
    assert event.expected == state["predicted_finish"] == run["predicted_finish"] == pytest.approx(30.0)


def test_nothing_ends_before_it_begins_and_end_devices_are_not_late():
    sooner = no_lateness(2).replace(pause=np.full(2, -1e6, np.float32))
    assert decided(sooner)[0].expected == 0.0
    event, *_ = decided(SLOW, lambda observation, key: at_full_rate(jnp.int32(2)))
    assert event.host == 2 and event.later == 0.0 and event.finish == pytest.approx(60.0)


def test_the_file_is_read_as_it_was_written_and_refused_where_it_is_not_fit(tmp_path):
    path, other = tmp_path / "lateness.json", SITE.model_copy(update={"node_speed": [30.0, 30.0]})
    save_lateness(path, SLOW, SITE)
    jax.tree.map(np.testing.assert_array_equal, load_lateness(path, [SITE], num_nodes=2), SLOW)
    for sites in ([other], [SITE, other], []):
        with pytest.raises(ValueError, match="has terms of the nodes of another site"):
            load_lateness(path, sites, num_nodes=2)
    save_lateness(path, SLOW.replace(shared=np.arange(len(FEATURES), dtype=np.float32)), None)
    found = load_lateness(path, [other], num_nodes=5)
    assert found.shared.tolist() == [*range(len(FEATURES))] and not found.slower.any() and found.slower.size == 5
    read = json.loads(path.read_text())
    unfit = {"damaged": ({**read, "pause": [0.0, float("nan")]}, {**read, "pause": 1.0}, {"pause": []}, "no JSON")}
    unfit["features"] = ({**read, "shared": {"weather": 1.0}},)
    for message, contents in unfit.items():
        for content in contents:
            path.write_text(json.dumps(content).strip('"'))
            with pytest.raises(ValueError, match=message):
                load_lateness(path, [SITE], num_nodes=2)
