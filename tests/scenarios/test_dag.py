import networkx as nx
import numpy as np
import pytest

from jaxcec.scenarios.dag import Dag, pack_dags, remaining_path, synthetic_dag, topological_order


def diamond(**changes):
    """0 -> (1, 2) -> 3."""
    fields = {
        "preds": [[], [0], [0], [1, 2]],
        "load": np.array([1.0, 2.0, 5.0, 3.0]),
        "data": np.ones(4),
        "demand": np.full((4, 2), 0.5),
    }
    return Dag(**(fields | changes))


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


def test_rank_is_the_heaviest_path_to_an_exit_in_any_numbering():
    assert remaining_path(diamond().preds, diamond().load).tolist() == [9.0, 5.0, 8.0, 3.0]
    assert remaining_path([[2], [0], []], np.array([1.0, 10.0, 100.0])).tolist() == [11.0, 10.0, 111.0]


def test_rank_agrees_with_networkx():
    dag = synthetic_dag(np.random.default_rng(1), 40)
    graph = nx.DiGraph([(k, j, {"w": dag.load[k]}) for j, row in enumerate(dag.preds) for k in row])
    longest = nx.dag_longest_path_length(graph, weight="w")  # without the load of the exit
    exits = max(dag.load[j] for j in graph if graph.out_degree(j) == 0)
    rank = remaining_path(dag.preds, dag.load)
    assert longest < rank.max() <= longest + exits


def test_pack_pads_with_zeros():
    bank = pack_dags([diamond(), diamond(load=np.arange(4.0))], 6, 2)
    assert bank.size.tolist() == [4, 4] and bank.size.dtype == np.int32
    assert bank.preds.shape == (2, 6, 6) and bank.preds.dtype == bool
    assert [np.flatnonzero(row).tolist() for row in bank.preds[0]] == [[], [0], [0], [1, 2], [], []]
    assert bank.demand.shape == (2, 6, 2) and bank.demand[0, 4:].sum() == 0
    assert bank.rank[0].tolist() == [9.0, 5.0, 8.0, 3.0, 0.0, 0.0]
    assert {leaf.dtype for leaf in (bank.load, bank.data, bank.demand, bank.rank)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "dags, message",
    [
        ([], "dags: got none"),
        ([diamond(preds=[[3], [0], [0], [1, 2]])], r"dags\[0\].preds: got the cycle"),
        ([diamond(), diamond(preds=[[], [9], [0], [1]])], r"dags\[1\].preds\[1\]: got 9; must be in 0..3"),
        ([diamond(load=np.ones(3))], r"dags\[0\].load: got shape \(3,\); must be \(4,\)"),
        ([diamond(demand=np.ones((4, 1)))], r"dags\[0\].demand: got shape \(4, 1\); must be \(4, 2\)"),
        ([diamond(preds=[])], r"dags\[0\]: got 0 microservices; must be 1..4"),
    ],
)
def test_pack_errors(dags, message):
    with pytest.raises(ValueError, match=message):
        pack_dags(dags, 4, 2)


def test_other_errors():
    with pytest.raises(ValueError, match="max_microservices: got 0"):
        synthetic_dag(np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match=r"demand: got \(0.5, 1.5\)"):
        synthetic_dag(np.random.default_rng(0), 5, demand=(0.5, 1.5))
    with pytest.raises(ValueError, match="cycle"):
        topological_order([[0]])
