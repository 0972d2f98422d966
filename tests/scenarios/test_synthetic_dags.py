"""Structure and numbers of synthetic services."""

import networkx as nx
import numpy as np
import pytest

from jaxcec.scenarios.synthetic_dags import synthetic_dag


def draw(rng, max_microservices, **changes):
    settings = {"mean_load": 500.0, "mean_data": 500.0, "demand": (0.25, 0.75)} | changes
    return synthetic_dag(rng, max_microservices, **settings)


def test_the_mean_size_is_half_of_the_largest():
    rng = np.random.default_rng(0)
    sizes = np.array([len(draw(rng, 50).preds) for _ in range(500)])
    assert sizes.min() >= 1 and sizes.max() <= 50
    assert sizes.mean() == pytest.approx(25, abs=1.5)


def test_edges_join_adjacent_layers():
    rng = np.random.default_rng(0)
    for _ in range(100):
        dag = draw(rng, 30)
        graph = nx.DiGraph([(k, j) for j, row in enumerate(dag.preds) for k in row])
        graph.add_nodes_from(range(len(dag.preds)))
        layer = {j: i for i, layer in enumerate(nx.topological_generations(graph)) for j in layer}
        assert all(layer[j] == layer[k] + 1 for k, j in graph.edges)
        assert all(len(row) == len(set(row)) for row in dag.preds)


def test_loads_data_and_demands_have_the_requested_distributions():
    rng = np.random.default_rng(0)
    dags = [draw(rng, 50, num_resources=3, mean_load=0.5, demand=(0.2, 0.4)) for _ in range(300)]
    assert np.concatenate([dag.load for dag in dags]).mean() == pytest.approx(0.5, rel=0.03)
    assert np.concatenate([dag.data for dag in dags]).mean() == pytest.approx(500, rel=0.03)
    demand = np.concatenate([dag.demand for dag in dags])
    assert demand.shape[1] == 3 and demand.min() >= 0.2 and demand.max() <= 0.4


def test_equal_seeds_give_equal_dags():
    one, two = (draw(np.random.default_rng(4), 25) for _ in range(2))
    assert one.preds == two.preds and np.array_equal(one.load, two.load)


def test_the_smallest_dag_has_one_microservice():
    assert draw(np.random.default_rng(0), 1).preds == [[]]


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="max_microservices: got 0"):
        draw(np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match=r"demand: got \(0.5, 1.5\)"):
        draw(np.random.default_rng(0), 5, demand=(0.5, 1.5))
