"""The grids of the paper's figures: their points, the table of results, the margins and the figure."""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxcec.evaluation import paired_reduction
from jaxcec.experiments import (
    MARGINS,
    Point,
    acts_along,
    draw_grid,
    grid,
    load_acts,
    margin_table,
    measured_margin,
    save_acts,
    with_paper_setting,
)
from jaxcec.scenarios import Scenario

BASE = Point.of(Scenario())
HEADER = "dataset,setting,num_services,max_microservices,bandwidth,policy,episode,act\n"


def played(factors, points, episodes=20):
    """ACT of policies that all take a fixed multiple of the same episodes' times."""
    episode = np.random.default_rng(0).uniform(50.0, 500.0, episodes).astype(np.float32)
    return {point: {name: factor * episode for name, factor in factors.items()} for point in points}


def test_the_grid_contains_each_point_of_the_figures_once():
    scenarios = grid(with_paper_setting(Scenario()), "all")
    points = [Point.of(scenario) for scenario in scenarios]
    assert len(points) == len(set(points)) == 2 * 11  # two axes share the point 20 x 50
    assert {p.num_services for p in points} == {10, 20, 30, 40}
    assert {p.bandwidth for p in points} == {2.0, 3.0, 4.0, 5.0, 10.0}
    assert {(p.setting, s.load) for p, s in zip(points, scenarios, strict=True)} == {
        ("calibrated", 500.0),
        ("paper", 0.5),
    }


def test_points_of_equal_array_sizes_are_consecutive_and_share_one_config():
    """Each size is compiled once: all bandwidths, both settings and both datasets share the programs for 20 x 50."""
    configs = [scenario.env_config() for scenario in grid(with_paper_setting(Scenario()), "all")]
    changes = sum(a != b for a, b in itertools.pairwise(configs))
    assert changes + 1 == len(set(configs)) == 7
    assert dataclasses.replace(Scenario(), dataset="alibaba").env_config() in configs


def test_acts_are_loaded_bit_by_bit_as_they_were_saved(tmp_path):
    acts = played({"eft": 1.0, "dtdrlmo": 0.7}, [BASE, BASE._replace(bandwidth=2.0)])
    path = tmp_path / "sweep.csv"
    save_acts(acts, path)
    again = load_acts(path)
    assert again.keys() == acts.keys()
    for point, by in acts.items():
        assert list(again[point]) == list(by)
        for name in by:
            np.testing.assert_array_equal(again[point][name], by[name])
    save_acts(dict(reversed(again.items())), tmp_path / "reversed.csv")
    assert (tmp_path / "reversed.csv").read_text() == path.read_text(), "the order of play does not matter"


@pytest.mark.parametrize(
    ("text", "message"), [("a,b\n1,2\n", "must be"), (HEADER + "synthetic,calibrated,20,50,x,eft,0,1.0\n", "line 2")]
)
def test_malformed_files_are_refused(tmp_path, text, message):
    (tmp_path / "sweep.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_acts(tmp_path / "sweep.csv")


def test_a_reduction_is_a_mean_over_pairs_with_an_interval_over_episodes():
    one, other = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    assert paired_reduction([(one, other)]) == pytest.approx((0.5, 0.5, 0.5))
    assert paired_reduction([(one, other), (one, one)]) == pytest.approx((0.25, 0.25, 0.25))
    noisy = np.random.default_rng(0).normal(100.0, 10.0, (2, 400))
    mean, low, high = paired_reduction([(0.8 * noisy[0], noisy[1])])
    error = np.std(0.8 * noisy[0] / noisy[1].mean() - 0.8 * noisy[1] / noisy[1].mean()) / 20.0  # delta method
    assert mean == pytest.approx(0.2, abs=0.02)
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.3 * error)


def test_margins_are_measured_at_the_points_that_the_paper_names():
    """Section V states 18; that of greedy from 10 to 40 services is a mean over four points."""
    assert len(MARGINS) == 18
    services = [BASE._replace(num_services=m) for m in (10, 20, 30, 40)]
    acts = played({"dtdrlmo": 1.0, "greedy": 2.0, "ddpg": 1.25, "le": 4.0}, services)
    found = {(m.figure, m.baselines, m.values): measured_margin(acts, BASE, m, policy="dtdrlmo") for m in MARGINS}
    assert found["5a", ("greedy",), (10, 20, 30, 40)].mean == pytest.approx(0.5)
    assert found["5a", ("ddpg",), (20,)].mean == pytest.approx(0.2)
    assert found["5c", ("le",), (5.0,)] is None, "no bandwidth was swept"
    assert found["4a", ("le",), (10,)] is None, "the dataset is another"
    table = margin_table(acts, [BASE], ("dtdrlmo",)).splitlines()
    assert len(table) == 2 + 9
    row = next(line for line in table if "10 to 40" in line)
    assert "33.0 %" in row and "50.0 % [50.0, 50.0] reached |" in row
    short = margin_table(played({"dtdrlmo": 1.0, "greedy": 1.1}, services), [BASE], ("dtdrlmo",))
    assert "9.1 % [9.1, 9.1] not reached |" in short
    assert all(line.count("|") == table[0].count("|") for line in [*table, *short.splitlines()])


def test_a_figure_has_a_panel_for_each_axis_with_several_points(tmp_path):
    acts = played({"le": 3.0, "eft": 1.0, "dtdrlmo-plan": 0.8}, [BASE._replace(bandwidth=b) for b in (2.0, 3.0, 5.0)])
    assert len(acts_along(acts, BASE, "bandwidth")) == 3 and not acts_along(acts, BASE, "max_microservices")
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        draw_grid(acts, BASE, tmp_path / folder / "figure")
    svg = (tmp_path / "one" / "figure.svg").read_text()
    assert "ACT (s), 95 % interval" in svg
    assert svg == (tmp_path / "other" / "figure.svg").read_text(), "equal figures are equal files"
    draw_grid({BASE: acts[BASE._replace(bandwidth=2.0)]}, BASE, tmp_path / "none")
    assert not (tmp_path / "none.png").exists(), "one point gives no curve"


def test_a_single_episode_is_enough(tmp_path):
    acts = played({"le": 3.0, "dtdrlmo": 1.0}, [BASE._replace(bandwidth=b) for b in (2.0, 5.0)], episodes=1)
    draw_grid(acts, BASE, tmp_path / "figure")
    assert "66.7 % [66.7, 66.7]" in margin_table(acts, [BASE], ("dtdrlmo",))


def test_without_any_point_there_is_no_figure_and_no_margin(tmp_path):
    save_acts({}, tmp_path / "sweep.csv")
    assert (tmp_path / "sweep.csv").read_text() == HEADER
    acts = load_acts(tmp_path / "sweep.csv")
    assert not acts
    draw_grid(acts, BASE, tmp_path / "figure")
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.csv"}
    assert margin_table(acts, [BASE], ("dtdrlmo",)).count("not played") == 9
