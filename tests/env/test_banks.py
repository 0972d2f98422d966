"""Banks from plain lists: padding, routes, ranks, and rejected input."""

import networkx as nx
import numpy as np
import pytest

from jaxcec.env.banks import Dag, make_dags, upward_rank
from jaxcec.env.routing import Link, routes
from jaxcec.scenarios.synthetic_dags import synthetic_dag


def diamond(**changes):
    """The DAG 0 -> (1, 2) -> 3."""
    fields = {
        "preds": [[], [0], [0], [1, 2]],
        "load": np.array([1.0, 2.0, 5.0, 3.0]),
        "data": np.ones(4),
        "demand": np.full((4, 2), 0.5),
    }
    return Dag(**(fields | changes))


def test_rank_is_the_heaviest_path_to_an_exit_for_any_numbering():
    assert upward_rank(diamond().preds, diamond().load, "preds").tolist() == [9.0, 5.0, 8.0, 3.0]
    assert upward_rank([[2], [0], []], np.array([1.0, 10.0, 100.0]), "preds").tolist() == [11.0, 10.0, 111.0]


def test_rank_agrees_with_networkx():
    dag = synthetic_dag(np.random.default_rng(1), 40, mean_load=500.0, mean_data=500.0, demand=(0.25, 0.75))
    graph = nx.DiGraph([(k, j, {"w": dag.load[k]}) for j, row in enumerate(dag.preds) for k in row])
    longest = nx.dag_longest_path_length(graph, weight="w")  # excludes the load of the exit
    exits = max(dag.load[j] for j in graph if graph.out_degree(j) == 0)
    rank = upward_rank(dag.preds, dag.load, "preds")
    assert longest < rank.max() <= longest + exits


def test_padding_is_zero():
    bank = make_dags([diamond(), diamond(load=np.arange(4.0))], 6)
    assert bank.size.tolist() == [4, 4] and bank.size.dtype == np.int32
    assert bank.preds.shape == (2, 6, 6) and bank.preds.dtype == bool
    assert [np.flatnonzero(row).tolist() for row in bank.preds[0]] == [[], [0], [0], [1, 2], [], []]
    assert bank.demand.shape == (2, 6, 2) and bank.demand[0, 4:].sum() == 0
    assert bank.in_degree[0].tolist() == [0, 1, 1, 2, -1, -1] and bank.entry.tolist() == [0, 0]
    assert bank.rank[0].tolist() == [9.0, 5.0, 8.0, 3.0, 0.0, 0.0]
    assert {leaf.dtype for leaf in (bank.load, bank.data, bank.demand, bank.rank)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "dags, message",
    [
        ([], "services: got none"),
        ([diamond(preds=[[3], [0], [0], [1, 2]])], r"services\[0\].preds: the graph has a cycle: .*must be a DAG"),
        ([diamond(), diamond(preds=[[], [9], [0], [1]])], r"services\[1\].preds\[1\]: got \[9\]; must be .* 0 to 3"),
        ([diamond(preds=[])], r"services\[0\].preds: got 0 microservices; must be 1 to 4"),
    ],
)
def test_invalid_dags_are_rejected(dags, message):
    with pytest.raises(ValueError, match=message):
        make_dags(dags, 4)


def test_routes_prefer_few_hops_then_high_bandwidth_then_low_indices():
    square = [Link(0, 1, 4.0), Link(1, 3, 4.0), Link(0, 2, 5.0), Link(2, 3, 6.0)]
    route, bottleneck, _ = routes(square, 4, 6)
    assert np.flatnonzero(route[0, 3]).tolist() == [2, 3], "the wider of the two paths of two hops"
    assert bottleneck[0, 3] == 5.0 and np.isinf(bottleneck[2, 2])
    route, _, _ = routes([link._replace(bandwidth=1.0) for link in square], 4, 4)
    assert np.flatnonzero(route[0, 3]).tolist() == [0, 1], "equally wide paths: through node 1"
    assert not route[1, 1].any()


def test_a_disconnected_graph_is_rejected():
    with pytest.raises(ValueError, match=r"links: .*not connected; \[2\] cannot be reached from node 0"):
        routes([Link(0, 1, 1.0)], 3, 2)
