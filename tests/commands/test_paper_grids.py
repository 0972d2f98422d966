"""`eval.py --sweep` as a user calls it: played, stopped, continued, redrawn, refused."""

import json

import pytest
import yaml
from helpers.runs import EPISODES, TINY

from jaxcec.commands import evaluate, paper_grids

FILES = {"settings.json", "sweep.csv", "results.json", "margins.md"}
FIGURES = {"sweep-synthetic-tiny.png", "sweep-synthetic-tiny.svg"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A function that runs the command with a folder and more options."""
    config = tmp_path_factory.mktemp("config") / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))

    def run(folder, *more):
        asked = ["--sweep", "bandwidth", "--episodes", EPISODES, "--policies", "greedy", "eft", "--clairvoyant", "1"]
        evaluate.main(["--config", str(config), *asked, "--out", str(folder), *more])

    return run


@pytest.fixture(scope="module")
def swept(sweep, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "one"
    sweep(folder)
    return folder


def interrupt(monkeypatch, after):
    """Simulate Ctrl-C once so many points have been played."""
    left, play_point = [after], paper_grids.play_point

    def play(*arguments, **options):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return play_point(*arguments, **options)

    monkeypatch.setattr(paper_grids, "play_point", play)


def test_a_sweep_leaves_table_figures_and_margins(swept):
    assert {path.name for path in swept.iterdir()} == FILES | FIGURES
    lines = (swept / "sweep.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 3 * int(EPISODES)  # bandwidths x (policies and the clairvoyant) x episodes
    acts = json.loads((swept / "results.json").read_text())["acts"]
    best = {row["bandwidth"]: row["act"] for row in acts if row["policy"] == "clairvoyant"}
    assert all(best[row["bandwidth"]] <= row["act"] * (1 + 1e-6) for row in acts)


@pytest.mark.slow
def test_a_stopped_sweep_continues_and_gives_the_same_results(swept, sweep, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "sweep"
    with monkeypatch.context() as patch:
        interrupt(patch, after=2)
        with pytest.raises(SystemExit):
            sweep(folder)
    assert "with --out" in capsys.readouterr().out
    assert len((folder / "sweep.csv").read_text().splitlines()) == 1 + 2 * 3 * int(EPISODES)
    with monkeypatch.context() as patch:
        interrupt(patch, after=2)
        sweep(folder)
    for name in sorted(FILES | {"sweep-synthetic-tiny.svg"}):
        assert (folder / name).read_bytes() == (swept / name).read_bytes(), name


def test_figures_are_redrawn_from_the_table_alone(swept, sweep, monkeypatch):
    before = (swept / "sweep-synthetic-tiny.svg").read_bytes()
    (swept / "sweep-synthetic-tiny.svg").unlink()
    interrupt(monkeypatch, after=0)
    sweep(swept)
    assert (swept / "sweep-synthetic-tiny.svg").read_bytes() == before


def test_other_settings_and_other_folders_are_refused(swept, sweep, tmp_path, capsys):
    others = {
        ("--seed", "1"): "has seed 0, not 1",
        ("--policies", "eft"): "has policies",
        ("--plan-steps", "1"): "has plan_steps None, not 1",
    }
    for more, message in others.items():
        with pytest.raises(SystemExit):
            sweep(swept, *more)
        assert message in capsys.readouterr().err
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(SystemExit):
        sweep(tmp_path)
    assert "must be a new or empty folder, or the folder of a sweep" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"letter.txt"}
