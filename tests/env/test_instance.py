"""`build_instance`: rejected input with its messages, and a reset that gives exactly the instance."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.instances import INSTANCE

from jaxcec.env import Action, EnvConfig, build_instance

NAN, INF = float("nan"), float("inf")
SIZES = {"num_nodes": 3, "max_links": 2, "num_services": 2, "max_microservices": 3}

BAD = {
    # name: (path to the value, the invalid value, parts of the message)
    "negative bandwidth": (("links", 1), (1, 2, -3), [r"links\[1\] bandwidth", "-3", "greater than 0"]),
    "zero bandwidth": (("links", 0), (0, 1, 0), [r"links\[0\] bandwidth", "got 0", "greater than 0"]),
    "nan bandwidth": (("links", 0), (0, 1, NAN), [r"links\[0\] bandwidth", "nan", "finite"]),
    "infinite bandwidth": (("links", 0), (0, 1, INF), [r"links\[0\] bandwidth", "inf", "finite"]),
    "link without bandwidth": (("links", 0), (0, 1), [r"links\[0\]", r"\(0, 1\)", "Mbit/s"]),
    "link to no node": (("links", 1), (1, 3, 5), [r"links\[1\]", "got 3", "from 0 to 2"]),
    "link to half a node": (("links", 1), (1, 1.5, 5), [r"links\[1\]", "got 1.5", "from 0 to 2"]),
    "self link": (("links", 1), (2, 2, 5), [r"links\[1\]", r"\(2, 2\)", "two different nodes"]),
    "duplicate link": (("links", 1), (1, 0, 5), [r"links\[1\]", r"\(1, 0\)", "not joined before"]),
    "disconnected graph": (("links",), [(0, 1, 10)], ["links", r"\[2\]", "not connected"]),
    "links of four bandwidths": (("links", 0), (0, 1, [1, 2, 3, 4]), [r"links\[0\] bandwidth", r"\(4,\)", "length 2"]),
    "negative latency": (("links", 0), (0, 1, 10, -1), [r"links\[0\] latency", "got -1", "at least 0"]),
    "one direction without bandwidth": (
        ("links", 0),
        (0, 1, (10, 0)),
        [r"links\[0\] bandwidth\[1\]", "greater than 0"],
    ),
    "routers alone": (("node_speed",), [0, 0, 0], ["node_speed", "positive"]),
    "negative device speed": (("device_speed", 2), -1, [r"device_speed\[2\]", "got -1", "at least 0"]),
    "too few device speeds": (("device_speed",), [4, 5], ["device_speed", r"\(2,\)", "length 3"]),
    "too few capacities": (("capacity",), [[1, 1]] * 2, ["capacity", r"\(2, 2\)", "length 3"]),
    "negative capacity": (("capacity", 0, 1), -1, [r"capacity\[0\]\[1\]", "got -1", "at least 0"]),
    "ragged capacity": (("capacity", 0), [1], ["capacity", r"\[\[1\], \[1, 2\], \[4, 4\]\]", "list of lists"]),
    "no services": (("services",), [], ["services", "got none"]),
    "negative release": (("services", 0, "release"), -1, [r"services\[0\].release", "got -1", "at least 0"]),
    "infinite release": (("services", 1, "release"), INF, [r"services\[1\].release", "inf", "finite"]),
    "source not a node": (("services", 1, "source"), 3, [r"services\[1\].source", "got 3", "from 0 to 2"]),
    "negative source": (("services", 1, "source"), -1, [r"services\[1\].source", "got -1", "from 0 to 2"]),
    "negative load": (("services", 0, "load", 2), -5, [r"services\[0\].load\[2\]", "got -5", "at least 0"]),
    "nan data": (("services", 0, "data", 1), NAN, [r"services\[0\].data\[1\]", "nan", "finite"]),
    "load of wrong length": (("services", 0, "load"), [1], [r"services\[0\].load", r"\(1,\)", "length 3"]),
    "data of wrong length": (("services", 0, "data"), [1, 2], [r"services\[0\].data", r"\(2,\)", "length 3"]),
    "load is text": (("services", 0, "load"), "much", [r"services\[0\].load", "'much'", "list of numbers"]),
    "demand of wrong length": (
        ("services", 1, "demand"),
        [[1, 1]] * 2,
        [r"services\[1\].demand", r"\(2, 2\)", "length 1"],
    ),
    "demand of one kind": (
        ("services", 0, "demand"),
        [[1]] * 3,
        [r"services\[0\].demand", "got 1 kinds", "capacity has 2"],
    ),
    "negative demand": (
        ("services", 1, "demand"),
        [[1, -1]],
        [r"services\[1\].demand\[0\]\[1\]", "got -1", "at least 0"],
    ),
    "both forms of input": (
        ("services", 0, "inputs"),
        [{}, {0: 1}, {0: 1}],
        [r"services\[0\]", "unknown.*preds.*data"],
    ),
    "cyclic DAG": (("services", 0, "preds"), [[], [2], [1]], [r"services\[0\].preds", "cycle", "1 -> 2|2 -> 1"]),
    "its own predecessor": (("services", 0, "preds", 1), [1], [r"services\[0\].preds", "cycle", "1"]),
    "predecessor out of range": (
        ("services", 0, "preds", 1),
        [3],
        [r"services\[0\].preds\[1\]", "got 3", "from 0 to 2"],
    ),
    "negative predecessor": (("services", 0, "preds", 1), [-1], [r"services\[0\].preds\[1\]", "got -1", "from 0 to 2"]),
    "unknown field": (("services", 0, "colour"), "red", [r"services\[0\]", "unknown", "colour", "fields are"]),
}
BAD_CONFIG = [
    ("num_nodes", 2, "needs 3"),
    ("num_nodes", 4, "needs 3"),
    ("max_links", 1, "at least 2"),
    ("num_services", 1, "needs 2"),
    ("max_microservices", 2, "at least 3"),
    ("num_resources", 1, "needs 2"),
]


def put(tree, path, value):
    """A copy of nested lists and dicts with one entry replaced or added."""
    tree = copy.deepcopy(tree)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return tree


def fails_with(parts, **arguments):
    with pytest.raises(ValueError) as error:
        build_instance(**arguments)
    for part in parts:
        error.match(part)


def action_of(host):
    return Action(host=jnp.int32(host), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))


@pytest.mark.parametrize("name", BAD)
def test_the_error_states_the_field_the_value_and_what_is_allowed(name):
    path, value, parts = BAD[name]
    fails_with(parts, **put(INSTANCE, path, value))


def test_an_empty_service_is_rejected():
    empty = {"release": 0, "source": 0, "preds": [], "load": [], "data": [], "demand": np.zeros((0, 2))}
    fails_with([r"services\[1\].preds", "got 0", "1 to"], **put(INSTANCE, ("services", 1), empty))


@pytest.mark.parametrize("field", ["release", "source", "preds", "load", "data", "demand"])
def test_the_error_names_a_missing_service_field(field):
    service = {name: value for name, value in INSTANCE["services"][0].items() if name != field}
    fails_with([r"services\[0\]", "missing", f"'{field}'"], **put(INSTANCE, ("services", 0), service))


@pytest.mark.parametrize("field, value, needs", BAD_CONFIG)
def test_a_config_that_does_not_fit_is_rejected(field, value, needs):
    config = EnvConfig(**{**SIZES, field: value})
    fails_with([rf"config.{field}", f"got {value}", needs], **INSTANCE, config=config)


@pytest.mark.parametrize("more", [{}, {"max_links": 5, "max_microservices": 7}], ids=["exact", "padded"])
def test_a_reset_gives_exactly_the_instance(more):
    env, _ = build_instance(**INSTANCE, config=EnvConfig(**{**SIZES, **more}))
    links = env.config.max_links
    for seed in range(2):
        seen, state = env.reset(jax.random.key(seed))
        seen = jax.tree.map(np.asarray, seen)
        # Service 1 is released first: 80 Mcycles, 50 Mbit at node 2.
        assert (seen.microservice.load, seen.microservice.data, seen.microservice.rank) == (80, 50, 80)
        assert seen.microservice.demand.tolist() == [0.5, 1]
        assert (seen.microservice.in_degree, seen.microservice.out_degree) == (0, 0)
        assert (seen.service.remaining_load, seen.service.remaining) == (80, 1)
        assert (seen.service.age, seen.service.slack) == (0, 0)
        assert seen.service.source.tolist() == [0, 0, 1]
        assert seen.links.bandwidth.tolist() == [10, 5] + [0] * (links - 2)
        assert seen.links.free.tolist() == [10, 5] + [0] * (links - 2)
        assert not seen.links.load.any() and not seen.nodes.load.any()
        assert (seen.nodes.free == 1).all()
        assert seen.nodes.speed.tolist() == [40, 20, 10]
        assert seen.nodes.inputs.tolist() == [0, 0, 50]
        assert not seen.nodes.wait.any() and not seen.nodes.backlog.any()
        assert seen.nodes.transfer.tolist() == [10, 10, 0]  # 50 Mbit through the link of 5 Mbit/s
        assert seen.nodes.data_ready.tolist() == [10, 10, 0]
        assert seen.nodes.traffic.tolist() == [15, 10, 0]
        assert seen.nodes.execution.tolist() == [2, 4, 8]
        assert seen.nodes.finish.tolist() == [12, 14, 8]
        assert state.episode.next_ready.tolist() == [3, 1]


def test_default_sizes_are_those_of_the_instance():
    env, _ = build_instance(**INSTANCE)
    assert {name: getattr(env.config, name) for name in SIZES} == SIZES
    assert env.config.link_breakpoints == env.config.host_breakpoints == 2 * 4 + 2


def test_one_node_without_links_runs_services_in_sequence():
    """Services of one microservice each: two on the node, each of which takes all of it, and one on the device."""
    whole = {"demand": [[1]], "load": [30], "data": [7], "preds": [[]], "source": 0}
    env, _ = build_instance(
        links=[],
        node_speed=[10],
        device_speed=[5],
        capacity=[[1]],
        services=[whole | {"release": 0}, whole | {"release": 1}, whole | {"release": 2}],
    )
    assert (env.config.max_microservices, env.config.max_links) == (1, 1)
    seen, state = env.reset(jax.random.key(0))
    assert seen.nodes.finish.tolist() == [3]
    finishes = []
    for host in (0, 0, 1):
        seen, state, _, terminated, info = env.step_env(jax.random.key(0), state, action_of(host), env.default_params)
        finishes.append((info["data_ready"].item(), info["start"].item(), info["finish"].item()))
    assert finishes == [(0, 0, 3), (1, 3, 6), (2, 2, 8)]
    assert terminated
    assert info["act"] == pytest.approx((3 + 5 + 6) / 3, rel=1e-6)
