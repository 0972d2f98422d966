"""Random topologies, with and without their bandwidths and speeds."""

import networkx as nx
import numpy as np
import pytest

from jaxcec.scenarios import Scenario, make_env, topology
from jaxcec.scenarios.seeds import split_rng
from jaxcec.scenarios.topology import draw_topology, most_links, synthetic_topology, varied_topology


def draw(rng):
    """Draw a topology with the default scenario's settings."""
    return synthetic_topology(rng, 8, neighbours=(2, 3), bandwidth=10.0, node_speed=40.0, device_speed=10.0)


def test_topologies_have_as_many_links_and_hops_as_the_generator_that_the_paper_cites():
    rng = np.random.default_rng(0)
    graphs = [nx.Graph(draw_topology(rng, 8, (2, 3))) for _ in range(500)]
    links = np.array([graph.number_of_edges() for graph in graphs])
    assert all(len(graph) == 8 and nx.is_connected(graph) for graph in graphs)
    assert links.mean() == pytest.approx(13.1, abs=0.3)
    assert links.min() >= 8 and links.max() <= most_links(8, (2, 3)) == 18
    assert np.mean([nx.average_shortest_path_length(graph) for graph in graphs]) == pytest.approx(1.70, abs=0.05)


@pytest.mark.parametrize("num_nodes", [1, 2, 3])
def test_few_nodes_are_all_linked_to_each_other(num_nodes):
    links = draw_topology(np.random.default_rng(0), num_nodes, (2, 3))
    assert len(links) == num_nodes * (num_nodes - 1) // 2


def test_links_are_sorted_and_unique():
    links = draw_topology(np.random.default_rng(0), 20, (2, 3))
    assert links == sorted(set(links)) and all(a < b for a, b in links)


def test_bandwidths_and_speeds_have_the_requested_means():
    rng = np.random.default_rng(0)
    topologies = [draw(rng) for _ in range(500)]
    assert np.mean([link.bandwidth for t in topologies for link in t.links]) == pytest.approx(10.0, rel=0.03)
    assert np.mean([t.node_speed for t in topologies]) == pytest.approx(40.0, rel=0.03)
    assert np.mean([t.device_speed for t in topologies]) == pytest.approx(10.0, rel=0.01)
    assert topologies[0].node_speed.shape == topologies[0].device_speed.shape == (8,)


def test_equal_seeds_give_equal_topologies_and_splits_share_none():
    train = [draw(rng).links for rng in [split_rng(0, "train", "topology")] for _ in range(50)]
    again = [draw(rng).links for rng in [split_rng(0, "train", "topology")] for _ in range(50)]
    test = [draw(rng).links for rng in [split_rng(0, "test", "topology")] for _ in range(50)]
    assert train == again
    assert not {tuple(links) for links in train} & {tuple(links) for links in test}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, (2, 3)), "num_nodes: got 0"),
        ((8, (0, 2)), r"neighbours: got \(0, 2\)"),
        ((8, (3, 2)), r"neighbours: got \(3, 2\)"),
        ((60, (1, 1)), "none of 5 draws of 60 nodes was connected"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message, monkeypatch):
    monkeypatch.setattr(topology, "_TRIES", 5)
    with pytest.raises(ValueError, match=message):
        draw_topology(np.random.default_rng(0), *arguments)


def test_varied_topologies_differ_in_what_a_scheduler_depends_on():
    rng = np.random.default_rng(0)
    means = {"neighbours": (2, 3), "bandwidth": 10.0, "node_speed": 40.0, "device_speed": 10.0}
    drawn = [varied_topology(rng, 8, crossing=50.0, latency=0.0, **means) for _ in range(400)]
    sizes = np.array([len(each.node_speed) for each in drawn])
    assert set(sizes) == set(range(2, 9)) and np.mean(sizes < 8) == pytest.approx(0.25 * 6 / 7, abs=0.05)
    rates = np.array([np.mean([link.bandwidth for link in each.links]) for each in drawn])
    speeds = np.array([each.node_speed[each.node_speed > 0.0].mean() for each in drawn])
    ratios = np.log10(rates / speeds / 0.25)
    for far in (ratios > 0.5, ratios < -0.5):
        assert np.mean(far) == pytest.approx(0.25 * 0.75, abs=0.06), "to both sides"
    latencies = np.array([each.links[0].latency for each in drawn])
    assert np.mean(latencies == 0.0) == pytest.approx(0.5, abs=0.08)
    assert latencies[latencies > 0.0].min() >= 0.1 and latencies.max() <= 25.0
    whole = [(each.node_speed > 0.0) & (each.capacity == 1.0).all(axis=1) for each in drawn]
    assert all(nodes.any() for nodes in whole), "one node at least is no router and not small"
    assert np.mean([not nodes.all() for nodes in whole]) == pytest.approx(0.23, abs=0.08)
    assert min(each.capacity.min() for each in drawn) >= 0.5


def test_varied_networks_are_a_source_of_a_scenario():
    scenario = Scenario(network="varied", num_topologies=24, num_dags=8, num_patterns=4, num_traces=2, num_frames=8)
    env, params = make_env(scenario, "train")
    nodes = params.network.speed[:, : scenario.num_nodes] > 0.0
    assert env.config == scenario.env_config() and nodes.any(axis=1).all() and not nodes.all()
    assert params.network.latency.max() > 0.0
    with pytest.raises(ValueError, match=r"scenario.network: got 'variedd'; must be one of generated, varied, "):
        Scenario(network="variedd")
