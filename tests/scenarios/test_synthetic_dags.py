import networkx as nx
import numpy as np
import pytest

from jaxcec.scenarios.synthetic_dags import synthetic_dag


def test_synthetic_sizes_lie_within_the_maximum_and_centre_on_half_of_it():
    rng = np.random.default_rng(0)
    sizes = np.array([len(synthetic_dag(rng, 50).preds) for _ in range(500)])
    assert sizes.min() >= 1 and sizes.max() <= 50
    assert sizes.mean() == pytest.approx(25, abs=1.5)


def test_synthetic_dags_are_layered():
    rng = np.random.default_rng(0)
    for _ in range(100):
        dag = synthetic_dag(rng, 30)
        graph = nx.DiGraph([(k, j) for j, row in enumerate(dag.preds) for k in row])
        graph.add_nodes_from(range(len(dag.preds)))
        layer = {j: i for i, layer in enumerate(nx.topological_generations(graph)) for j in layer}
        assert all(layer[j] == layer[k] + 1 for k, j in graph.edges)  # edges join adjacent layers only
        assert all(len(row) == len(set(row)) for row in dag.preds)


def test_synthetic_numbers_follow_section_five():
    rng = np.random.default_rng(0)
    dags = [synthetic_dag(rng, 50, num_resources=3, mean_load=0.5, demand=(0.2, 0.4)) for _ in range(300)]
    assert np.concatenate([dag.load for dag in dags]).mean() == pytest.approx(0.5, rel=0.03)
    assert np.concatenate([dag.data for dag in dags]).mean() == pytest.approx(500, rel=0.03)
    demand = np.concatenate([dag.demand for dag in dags])
    assert demand.shape[1] == 3 and demand.min() >= 0.2 and demand.max() <= 0.4


def test_one_seed_gives_one_dag():
    one, two = (synthetic_dag(np.random.default_rng(4), 25) for _ in range(2))
    assert one.preds == two.preds and np.array_equal(one.load, two.load)


def test_smallest_dag():
    assert synthetic_dag(np.random.default_rng(0), 1).preds == [[]]


def test_other_errors():
    with pytest.raises(ValueError, match="max_microservices: got 0"):
        synthetic_dag(np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match=r"demand: got \(0.5, 1.5\)"):
        synthetic_dag(np.random.default_rng(0), 5, demand=(0.5, 1.5))
