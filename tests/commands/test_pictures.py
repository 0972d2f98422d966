"""`eval.py --schedule` and `eval.py --report` as a user calls them."""

import csv
import json

import pytest
import yaml
from helpers.runs import EPISODES, TINY

from jaxcec.commands import evaluate


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return str(path)


def test_a_schedule_is_drawn_and_summarised(config, tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("out.html", "out.png", "out.csv", "out.json")]
    evaluate.main(["--config", config, "--policies", "le", "eft", "--schedule", *files])
    printed = capsys.readouterr().out
    for words in ("ACT (s)", "completion times (s)", "makespan (s)", "edge nodes busy", "le", "eft"):
        assert words in printed
    page = (tmp_path / "out.html").read_text()
    assert "eft: ACT" in page and "the first test episode of seed 0" in page
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert {path.name for path in tmp_path.iterdir()} == {"out.html", "out.png", "out.csv", "out.json"}
    content = json.loads((tmp_path / "out.json").read_text())
    assert list(content["policies"]) == ["le", "eft"] and "first test episode" in content["title"]
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, policy in content["policies"].items():
        of_policy = [row for row in rows if row["policy"] == name]
        assert len(of_policy) == len(policy["decisions"]) > 0
        for row, decision in zip(of_policy, policy["decisions"], strict=True):
            assert set(row) == {"policy", *decision}
            assert float(row["finish"]) == decision["finish"] and row["host"] == decision["host"]
            links = [content["links"][link]["name"] for link in decision["links"]]
            assert row["links"] == "; ".join(links) and row["task"] == str(decision["microservice"])


def test_a_report_contains_all_results(config, tmp_path, capsys):
    folder = tmp_path / "report"
    asked = ["--config", config, "--policies", "le", "eft", "ddpg", "--episodes", EPISODES, "--report", str(folder)]
    evaluate.main(asked)
    page = (folder / "report.html").read_text()
    for words in (
        "To repeat this evaluation",
        "jax",
        "seed of the episodes",
        "num_services: 2",
        "policy ddpg",
        "against each baseline",
        "all measures",
        "traffic (Mbit x links)",
    ):
        assert words in page
    assert page.count("data:image/png;base64,") == 1 + 3
    assert 'src="http' not in page
    act = next(line for line in page.splitlines() if "<td>eft</td>" in line)
    assert act.count("<td>") == 7
    names = {"config.yaml", "act.png", "episodes.csv", "services.csv", "results.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == names | {f"schedule-{p}.png" for p in ("le", "eft", "ddpg")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schedule", "out.pdf"], "must end in one of .html, .png, .csv, .json"),
        (["--schedule", "nowhere/out.png"], "there is no folder nowhere"),
        (["--schedule", "out.png", "--sweep", "all"], "--sweep, --schedule: got both"),
        (["--report", "one", "--out", "other"], "--out: got other"),
        (["--episodes", "0"], "--episodes: got 0"),
        (["--metrics", "act", "speed"], "--metrics: got 'speed'; must be of act, decisions, moved"),
        (["--metrics", "act", "--schedule", "out.png"], "--metrics: got act; must be left out with --sweep,"),
        (["--deadline", "0"], "--deadline: got 0.0; must be positive"),
        (["--episodes", "3", "--devices", "1", "--policies", "nobody"], "--policies: got 'nobody'"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_written(
    arguments, message, config, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        evaluate.main(["--config", config, *arguments])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
