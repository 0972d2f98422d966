"""`eval.py --sweep` as a user calls it: repeated, stopped, gone on with, refused."""

import json

import pytest
import yaml
from helpers.runs import TINY

from jaxcec.commands import evaluate, paper_grids

FILES = {"settings.json", "sweep.csv", "results.json", "margins.md"}
FIGURES = {"sweep-synthetic-tiny.png", "sweep-synthetic-tiny.svg"}


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))

    def call(folder, *more):
        asked = ["--sweep", "bandwidth", "--episodes", "2", "--policies", "greedy", "eft", "--clairvoyant", "1"]
        evaluate.main(["--config", str(config), *asked, "--out", str(folder), *more])

    return call


@pytest.fixture(scope="module")
def swept(call, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "one"
    call(folder)
    return folder


def without(monkeypatch, after):
    """Points can be played so often, and then no more."""
    left, play_point = [after], paper_grids.play_point

    def played(*arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return play_point(*arguments)

    monkeypatch.setattr(paper_grids, "play_point", played)


def test_a_sweep_leaves_table_figures_and_margins(swept):
    assert {path.name for path in swept.iterdir()} == FILES | FIGURES
    lines = (swept / "sweep.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 3 * 2  # bandwidths, policies and the clairvoyant, episodes
    acts = json.loads((swept / "results.json").read_text())["acts"]
    best = {row["bandwidth"]: row["act"] for row in acts if row["policy"] == "clairvoyant"}
    assert all(best[row["bandwidth"]] <= row["act"] * (1 + 1e-6) for row in acts)


def test_a_sweep_that_was_stopped_goes_on_and_ends_the_same(swept, call, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "sweep"
    with monkeypatch.context() as patch:
        without(patch, after=2)
        with pytest.raises(SystemExit):
            call(folder)
    assert "with --out" in capsys.readouterr().out
    assert len((folder / "sweep.csv").read_text().splitlines()) == 1 + 2 * 3 * 2
    with monkeypatch.context() as patch:
        without(patch, after=2)
        call(folder)
    for name in sorted(FILES | {"sweep-synthetic-tiny.svg"}):
        assert (folder / name).read_bytes() == (swept / name).read_bytes(), name


def test_figures_are_drawn_again_from_the_table_alone(swept, call, monkeypatch):
    before = (swept / "sweep-synthetic-tiny.svg").read_bytes()
    (swept / "sweep-synthetic-tiny.svg").unlink()
    without(monkeypatch, after=0)
    call(swept)
    assert (swept / "sweep-synthetic-tiny.svg").read_bytes() == before


def test_other_settings_or_another_folder_are_refused(swept, call, tmp_path, capsys):
    for more, message in {("--seed", "1"): "has seed 0, not 1", ("--policies", "eft"): "has policies"}.items():
        with pytest.raises(SystemExit):
            call(swept, *more)
        assert message in capsys.readouterr().err
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(SystemExit):
        call(tmp_path)
    assert "something else than a sweep" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"letter.txt"}
