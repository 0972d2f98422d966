import networkx as nx
import numpy as np
import pytest

from jaxcec.scenarios.seeds import split_rng
from jaxcec.scenarios.topology import draw_topology, most_links, synthetic_topology


def test_eight_nodes_have_the_links_and_hops_of_the_generator_the_paper_names():
    rng = np.random.default_rng(0)
    graphs = [nx.Graph(draw_topology(rng, 8)) for _ in range(500)]
    links = np.array([graph.number_of_edges() for graph in graphs])
    assert all(len(graph) == 8 and nx.is_connected(graph) for graph in graphs)
    assert links.mean() == pytest.approx(13.1, abs=0.3)
    assert links.min() >= 8 and links.max() <= most_links(8) == 18
    assert np.mean([nx.average_shortest_path_length(graph) for graph in graphs]) == pytest.approx(1.70, abs=0.05)


@pytest.mark.parametrize("num_nodes", [1, 2, 3])
def test_a_node_joins_all_others_where_they_are_few(num_nodes):
    links = draw_topology(np.random.default_rng(0), num_nodes)
    assert len(links) == num_nodes * (num_nodes - 1) // 2


def test_links_are_ordered_and_unique():
    links = draw_topology(np.random.default_rng(0), 20)
    assert links == sorted(set(links)) and all(a < b for a, b in links)


def test_numbers_follow_section_five():
    rng = np.random.default_rng(0)
    topologies = [synthetic_topology(rng) for _ in range(500)]
    assert np.mean([rate for t in topologies for *_, rate in t.links]) == pytest.approx(10.0, rel=0.03)
    assert np.mean([t.node_speed for t in topologies]) == pytest.approx(40.0, rel=0.03)
    assert np.mean([t.device_speed for t in topologies]) == pytest.approx(10.0, rel=0.01)
    assert topologies[0].node_speed.shape == topologies[0].device_speed.shape == (8,)


def test_one_seed_gives_one_bank_and_splits_share_none():
    train = [synthetic_topology(rng).links for rng in [split_rng(0, "train", "topology")] for _ in range(50)]
    again = [synthetic_topology(rng).links for rng in [split_rng(0, "train", "topology")] for _ in range(50)]
    test = [synthetic_topology(rng).links for rng in [split_rng(0, "test", "topology")] for _ in range(50)]
    assert train == again
    assert not {tuple(links) for links in train} & {tuple(links) for links in test}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0,), "num_nodes: got 0"),
        ((8, (0, 2)), r"neighbours: got \(0, 2\)"),
        ((8, (3, 2)), r"neighbours: got \(3, 2\)"),
        ((60, (1, 1), 5), "none of 5 draws of 60 nodes was connected"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_topology(np.random.default_rng(0), *arguments)
