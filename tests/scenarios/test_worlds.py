"""Worlds whose networks, services, arrivals and loads come from files."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from jaxcec.evaluation import Contender, episode_keys, record, save_schedule
from jaxcec.evaluation.schedule import resources
from jaxcec.policies import BASELINES
from jaxcec.readers import network_graph, read_networks, read_workflows
from jaxcec.scenarios import Scenario, Sources, make_env, read_sources
from jaxcec.scenarios.sources import rescaled

SMALL = Scenario(
    num_services=3, max_microservices=6, num_topologies=4, num_dags=12, num_patterns=8, num_traces=2, num_frames=16
)


def write_ring(path, size, **attributes):
    """A ring of nodes with their speeds, and a latency on each link."""
    graph = nx.cycle_graph(size)
    nx.set_node_attributes(graph, {v: 20.0 + 10.0 * v for v in graph}, "speed")
    nx.set_node_attributes(graph, 5.0, "device_speed")
    nx.set_edge_attributes(graph, 0.25, "latency")
    for name, value in attributes.items():
        nx.set_edge_attributes(graph, value, name)
    nx.write_graphml(graph, path)
    return str(path)


def write_chain(path, size, run_time=4.0):
    """A chain of tasks, each of which sends 8 Mbit to the next."""
    graph = nx.path_graph(size, create_using=nx.DiGraph)
    nx.set_node_attributes(graph, run_time, "run_time")
    nx.set_edge_attributes(graph, 8.0, "data")
    graph.nodes[0]["external"] = 80.0
    path.write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    return str(path)


def changed(**settings):
    return dataclasses.replace(SMALL, **settings)


def test_what_a_file_gives_is_kept_and_what_it_lacks_is_drawn(tmp_path):
    ring, chain = write_ring(tmp_path / "ring.graphml", 5, bandwidth=12.5), write_chain(tmp_path / "chain.json", 3)
    env, params = make_env(changed(network=ring, dataset=chain), "train")
    assert (env.config.num_nodes, env.config.max_links, env.config.max_microservices) == (5, 5, 3)
    assert np.all(np.asarray(params.network.bandwidth) == 12.5)
    assert np.all(np.asarray(params.network.speed) == [20, 30, 40, 50, 60, 5, 5, 5, 5, 5])
    assert params.network.speed.shape[0] == 1, "nothing was drawn, so one network is enough"
    assert np.allclose(params.dags.load, 4.0 * SMALL.node_speed), "4 s on a node of the reference speed"
    assert np.all(np.asarray(params.dags.sent[:, 0, 0]) == 80.0) and np.all(
        np.asarray(params.dags.sent[:, 1, 0]) == 8.0
    )
    assert len(np.unique(params.dags.demand)) > 12, "shares of a node are drawn"
    bare = write_ring(tmp_path / "bare.graphml", 5)
    drawn = make_env(changed(network=bare), "train")[1].network.bandwidth
    assert drawn.shape[0] == SMALL.num_topologies and len(np.unique(drawn)) == drawn.size


def test_units_of_a_resource_count_where_networks_and_workflows_give_them(tmp_path):
    graph = nx.cycle_graph(3)
    nx.set_node_attributes(graph, {0: 16.0, 1: 8.0}, "cpu")
    nx.set_node_attributes(graph, {1: 2.0}, "gpu")
    nx.set_node_attributes(graph, 64.0, "mem")
    nx.write_graphml(graph, tmp_path / "mine.graphml")
    chain = nx.path_graph(3, create_using=nx.DiGraph)
    nx.set_node_attributes(chain, {0: 4.0, 1: 16.0}, "cpu")
    nx.set_edge_attributes(chain, 8.0, "data")
    (tmp_path / "chain.json").write_text(json.dumps(nx.node_link_data(chain, edges="edges")))
    scenario = changed(network=str(tmp_path / "mine.graphml"), dataset=str(tmp_path / "chain.json"))
    sources = read_sources(scenario)
    params = make_env(scenario, "train", sources)[1]
    assert np.all(np.asarray(params.network.capacity[:, :3]) == [[16, 1], [8, 1], [12, 1]]), (
        "a mean where none is given"
    )
    demand = np.asarray(params.dags.demand)
    assert np.all(demand[:, :2, 0] == [4, 16]) and np.all(demand[:, 2, 0] <= 0.75 * 12) and demand[..., 1].max() <= 0.75
    assert {"gpu: not used, for only the networks give it", "mem: not used, for only the networks give it"} <= set(
        sources.notes
    )


def test_rescaling_gives_the_means_of_the_scenario(tmp_path):
    ring, chain = write_ring(tmp_path / "ring.graphml", 4, bandwidth=1e4), write_chain(tmp_path / "chain.json", 4)
    scenario = changed(network=ring, dataset=chain, rescale=True)
    sources = read_sources(scenario)
    params = make_env(scenario, "train", sources)[1]
    assert np.allclose(params.network.bandwidth, scenario.bandwidth)
    assert np.isclose(np.mean(params.network.speed[0, :4]), scenario.node_speed)
    assert np.isclose(np.mean(params.dags.load[0]), scenario.load)
    assert np.isclose(np.mean(params.dags.data[0]), scenario.data)
    assert "bandwidths are multiplied by 0.001, to a mean of 10" in sources.notes


def test_networks_of_different_sizes_share_an_environment_and_play_as_if_alone(tmp_path):
    """The smaller network is filled up with routers at the places of its nodes, which change nothing."""
    paths = [write_ring(tmp_path / f"{size}.graphml", size, bandwidth=4.0) for size in (4, 7)]
    scenario = changed(background="none")
    small, both = read_networks(paths[0]), read_networks(str(tmp_path / "*.graphml"))
    alone_env, alone = make_env(scenario, "train", Sources(networks=tuple(small)))
    env, params = make_env(scenario, "train", Sources(networks=tuple(both)))
    assert env.config.num_nodes == 7
    padded = params.replace(network=jax.tree.map(lambda x: x[:1], params.network), arrivals=alone.arrivals)
    keys = episode_keys(seed=0, count=8)
    for name in ("eft",):
        rule = Contender.of_rule(name, BASELINES[name])
        expected = rule.play(alone_env, alone, keys).act
        assert np.allclose(rule.play(env, padded, keys).act, expected, rtol=1e-6), name
    arrived = np.asarray(params.arrivals.source)
    assert arrived.max() == 6, "services arrive at the filled rows too, which are at the places of nodes"


def test_a_schedule_has_the_names_of_the_files(tmp_path):
    """Also at the rows that fill up a smaller network; they are not drawn and do not count as idle nodes."""
    cities = ("Oslo", "New York", "Rome", "Kyiv", "Lima")
    for size in (3, 5):
        graph = nx.relabel_nodes(nx.path_graph(size), dict(enumerate(cities)))
        nx.set_edge_attributes(graph, 4.0, "bandwidth")
        nx.write_graphml(graph, tmp_path / f"{size}.graphml")
    chain = nx.DiGraph([("decode", "detect")])
    nx.set_node_attributes(chain, 4.0, "run_time")
    (tmp_path / "video.json").write_text(json.dumps(nx.node_link_data(chain, edges="edges")))
    scenario = changed(network=str(tmp_path / "*.graphml"), dataset=str(tmp_path / "video.json"))
    sources = read_sources(scenario)
    env, params = make_env(scenario, "test", sources)
    small = params.replace(
        network=jax.tree.map(lambda x: x[:1], params.network),
        arrivals=params.arrivals.replace(source=jnp.full_like(params.arrivals.source, 4)),
    )
    rule = Contender.of_rule("local", BASELINES["local"])
    schedule = record(env, small, rule, episode_keys(seed=0, count=1)[0], names=sources.names("test"))
    assert schedule.nodes == ["Oslo", "New York", "Rome", "Oslo (2)", "New York (2)"]
    assert schedule.places == [0, 1, 2, 0, 1] and schedule.link_names == ["Oslo - New York", "New York - Rome"]
    assert {(p.workflow, p.task) for p in schedule.placed} == {("video", "decode"), ("video", "detect")}
    assert {p.host for p in schedule.placed} <= {*cities[:3], "device at New York (2)"}
    assert [schedule.name(row) for row in resources([schedule])][:3] == ["Oslo", "New York", "Rome"]
    save_schedule([schedule], tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert {row["predecessors"] for row in rows} == {"", "decode"}
    assert {row["origins"] for row in rows} <= {"", "New York (2)", *cities[:3]}


def test_a_few_files_are_in_both_splits_and_more_are_divided(tmp_path):
    for size in range(2, 6):
        write_chain(tmp_path / f"{size}.json", size)
    few = read_sources(changed(dataset=str(tmp_path / "*.json")))
    assert few.shared == ["workflows"]
    for size in range(6, 12):
        write_chain(tmp_path / f"{size}.json", size)
    scenario = changed(dataset=str(tmp_path), num_dags=1)
    sizes = {split: set(np.asarray(make_env(scenario, split)[1].dags.size).tolist()) for split in ("train", "test")}
    assert read_sources(scenario).shared == []
    assert len(sizes["test"]) == 2 and sizes["train"] | sizes["test"] == set(range(2, 12))
    assert not sizes["train"] & sizes["test"]


def test_instants_of_a_file_are_kept_and_divided_in_time(tmp_path):
    times = np.cumsum(np.random.default_rng(0).exponential(3.0, 100))
    path = tmp_path / "instants.csv"
    path.write_text("time\n" + "\n".join(map(str, times)) + "\n")
    for split, part in (("train", times[:80]), ("test", times[80:])):
        params = make_env(changed(arrivals=str(path)), split)[1]
        seconds = np.asarray(params.arrivals.release) / np.asarray(params.arrival_rate)
        windows = np.stack([part[i : i + 3] - part[i] for i in range(len(part) - 2)])
        assert np.all(np.min(np.max(np.abs(seconds[:, None] - windows), axis=-1), axis=1) < 1e-3)
    rescaled = make_env(changed(arrivals=str(path), rescale=True), "train")[1]
    assert np.isclose(rescaled.arrival_rate, SMALL.arrival_rate)
    with pytest.raises(ValueError, match=r"instants\.csv: got 100 instants, 20 of them in the split test; must be at"):
        make_env(changed(arrivals=str(path), num_services=30), "test")


def test_loads_of_a_file_are_those_of_its_machines(tmp_path):
    path = tmp_path / "loads.csv"
    rows = [f"m{i},{10 * frame},{10 * i + frame}" for i in range(3) for frame in range(4)]
    path.write_text("machine,time,load_percent\n" + "\n".join(rows) + "\n")
    scenario = changed(background=str(path))
    sources = read_sources(scenario)
    assert sources.shared == ["machines"]
    for split in ("train", "test"):
        load = np.asarray(make_env(scenario, split, sources)[1].background.load)
        assert np.allclose(load, [[0.1 * i + 0.01 * frame for frame in range(4)] for i in range(3)])


@pytest.mark.parametrize("dataset", ["synthetic", "alibaba"])
def test_services_may_have_no_input(dataset):
    env, params = make_env(changed(dataset=dataset, data=0.0), "train")
    assert not np.asarray(params.dags.data).any()
    played = Contender.of_rule("eft", BASELINES["eft"]).play(env, params, episode_keys(seed=0, count=4))
    assert np.isfinite(played.act).all() and not np.asarray(played.traffic).any()


def test_bursts_have_the_rate_and_a_larger_spread():
    gaps = {
        arrivals: np.diff(make_env(changed(arrivals=arrivals, num_patterns=4096), "train")[1].arrivals.release)
        for arrivals in ("poisson", "bursty")
    }
    for name, spread in (("poisson", 1.0), ("bursty", 7.5)):
        assert np.isclose(gaps[name].mean(), 1.0, atol=0.1)
        assert np.isclose(gaps[name].var() / gaps[name].mean() ** 2, spread, rtol=0.15)


def test_the_jobs_of_the_trace_arrive_at_its_instants():
    params = make_env(changed(dataset="alibaba", arrivals="trace", arrival_rate=0.5), "test")[1]
    assert params.arrival_rate == 0.5
    assert 0.2 < np.diff(params.arrivals.release).mean() < 5.0


@pytest.mark.slow
@pytest.mark.parametrize("size", [200, 500])
def test_workflows_of_every_recipe_play(size):
    pytest.importorskip("wfcommons")
    names = ("blast", "bwa", "cycles", "epigenomics", "genome", "montage", "seismology", "soykb", "srasearch")
    workflows = [read_workflows(f"wfcommons:{name}:{size}", count=1)[0] for name in names]
    scenario = changed(num_services=2, num_dags=9)
    env, params = make_env(scenario, "train", rescaled(Sources(workflows=tuple(workflows)), scenario))
    params = params.replace(arrivals=params.arrivals.replace(dag=np.arange(8)[:, None] + np.arange(2)[None]))
    keys = episode_keys(seed=0, count=16)
    played = Contender.of_rule("eft", BASELINES["eft"]).play(env, params, keys)
    assert env.config.max_microservices > 0.9 * size and np.isfinite(played.act).all()
    assert set(np.asarray(played.decisions)) <= {len(a.tasks) + len(b.tasks) for a in workflows for b in workflows}


@pytest.mark.slow
def test_all_networks_of_the_zoo_in_topohub_load():
    pytest.importorskip("topohub")
    networks = read_networks("topohub:topozoo")
    assert len(networks) == 203
    largest = sorted(networks, key=lambda network: len(network.nodes))[-1]
    env, params = make_env(changed(num_topologies=1), "train", Sources(networks=(largest,)))
    played = Contender.of_rule("eft", BASELINES["eft"]).play(env, params, episode_keys(seed=0, count=2))
    assert env.config.num_nodes == len(largest.nodes) > 100 and np.isfinite(played.act).all()


def test_a_network_is_written_as_it_is_read(tmp_path):
    graph = nx.cycle_graph(4)
    nx.set_node_attributes(graph, {0: 1.5, 2: 0.0}, "speed")
    nx.set_node_attributes(graph, {1: 16.0}, "cpu")
    nx.set_edge_attributes(graph, {(0, 1): {"up": 0.1, "down": 3.0}, (1, 2): {"bandwidth": 7.0, "latency": 0.3}})
    nx.write_graphml(graph, tmp_path / "first.graphml")
    (first,) = read_networks(str(tmp_path / "first.graphml"))
    nx.write_graphml(network_graph(first), tmp_path / "again.graphml")
    (again,) = read_networks(str(tmp_path / "again.graphml"))
    assert again.digest == first.digest and again.nodes == first.nodes
    assert first.links[0].back == 3.0 and first.capacity["cpu"] == (None, 16.0, None, None)


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"network": "abilene"},
            "scenario.network: got 'abilene'; must be one of generated, varied, topohub:NAME, the path of",
        ),
        (
            {"dataset": "alibab"},
            "scenario.dataset: got 'alibab'; must be one of synthetic, alibaba, both, wfcommons:RECI",
        ),
        (
            {"arrivals": "weibull"},
            "scenario.arrivals: got 'weibull'; must be one of poisson, bursty, trace, the path of",
        ),
        (
            {"background": "constant"},
            "scenario.background: got 'constant'; must be one of none, ar1, alibaba, the path",
        ),
        (
            {"arrivals": "trace"},
            "scenario.arrivals: got 'trace' with dataset synthetic; needs alibaba, whose jobs have",
        ),
        ({"dataset": "missing.json", "trace": "x.csv"}, "scenario.trace: got 'x.csv'; must be None where"),
    ],
)
def test_impossible_sources_are_refused(settings, message):
    with pytest.raises(ValueError) as refused:
        changed(**settings)
    assert str(refused.value).startswith(message)
