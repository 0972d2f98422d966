"""The tables of an evaluation, from results with known numbers."""

import numpy as np

from jaxcec.commands.tables import act_table, means_of, measure_table
from jaxcec.evaluation.rollout import MEASURES, Episodes, Result


def result(*acts):
    columns = {name: np.zeros((len(acts), 1)) for name in Episodes._fields}
    columns |= {name: np.zeros(len(acts)) for name in MEASURES} | {
        "act": np.array(acts),
        "decisions": np.ones(len(acts)),
    }
    return Result(Episodes(**columns), seconds=1.0)


def column(table, name):
    return {row[0]: row[table.head.index(name)] for row in table.rows}


def test_the_table_names_what_a_policy_sees_and_how_far_it_goes_towards_the_clairvoyant():
    results = {"eft": result(8.0, 12.0), "mine": result(7.0, 9.0), "clairvoyant": result(4.0, 8.0)}
    table = act_table(results, "a title", {"eft": "lookahead", "clairvoyant": "future"})
    assert column(table, "sees") == {"eft": "lookahead", "mine": "", "clairvoyant": "future"}
    assert column(table, "EFT to clairvoyant") == {"eft": "0 %", "mine": "50 %", "clairvoyant": "100 %"}


def test_without_a_search_or_where_it_finds_nothing_there_is_no_way_to_go():
    for results in ({"eft": result(8.0)}, {"eft": result(8.0), "clairvoyant": result(8.0)}):
        assert "EFT to clairvoyant" not in act_table(results, "a title", {}).head


def test_the_table_has_the_measures_that_are_asked_for():
    means = means_of({"eft": result(8.0, 12.0), "mine": result(7000.0, 9000.0)})
    table = measure_table(means, ["act", "link_utilisation"], title="a title", information={"eft": "lookahead"})
    assert table.head == ["policy", "sees", "ACT (s)", "link utilisation"]
    assert [row[:2] for row in table.rows] == [["eft", "lookahead"], ["mine", ""]]
    assert table.rows[0][2].startswith("10 [") and table.rows[1][2] == "8,000 [7,000, 9,000]"
