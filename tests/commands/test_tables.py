"""The tables of an evaluation, from results with known numbers."""

import numpy as np

from jaxcec.commands.tables import act_table
from jaxcec.evaluation.rollout import MEASURES, Episodes, Result


def result(*acts):
    columns = {name: np.zeros(len(acts)) for name in MEASURES} | {
        "act": np.array(acts),
        "decisions": np.ones(len(acts)),
    }
    return Result(
        Episodes(**columns, host=np.zeros((len(acts), 1, 1)), decided_at=np.zeros((len(acts), 1, 1))), seconds=1.0
    )


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
