"""train.py and eval.py as a user calls them: run folders, resuming, refusals."""

import csv
import json

import numpy as np
import pytest
import yaml
from helpers.runs import EPISODES, SCENARIO, TINY

from jaxcec.agents import run_folder
from jaxcec.commands import evaluate, train
from jaxcec.commands.contenders import PolicyChoice, contenders_for
from jaxcec.commands.settings import TrainConfig, load_config, save_config
from jaxcec.evaluation import MEASURES
from jaxcec.scenarios import make_env


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train.main(["--config", str(tiny), "--out", str(folder)])
    return folder


def rows(folder):
    lines = (folder / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]


def without_clock(row):
    return {name: value for name, value in row.items() if name != "decisions_per_s"}


def test_a_run_leaves_everything_behind(run):
    assert {p.name for p in run.iterdir() if p.name != ".lock"} == {
        "config.yaml",
        "metrics.csv",
        "curves.png",
        "policy.msgpack",
        "checkpoints",
    }
    assert load_config(str(run / "config.yaml")).scenario.name == "tiny"
    assert int(rows(run)[-1]["decisions"]) == 192
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_resumed_run_equals_an_uninterrupted_one(run, tiny, tmp_path):
    folder = tmp_path / "half"
    train.main(["--config", str(tiny), "--out", str(folder), "--total-decisions", "96"])
    train.main(["--resume", str(folder), "--total-decisions", "192"])
    assert [int(row["step"]) for row in rows(folder)] == list(range(2, 25)), "the first after two steps of warm-up"
    last, whole = rows(folder)[-1], rows(run)[-1]
    assert without_clock(last) == without_clock(whole), "bit for bit, whatever the number of chunks"


def test_curves_are_drawn_while_training_goes_on(tiny, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(run_folder, "training_curves", lambda rows, path, references: drawn.append(rows[-1]["step"]))
    train.main(["--config", str(tiny), "--out", str(tmp_path / "run")])
    assert len(drawn) > 2 and drawn == sorted(drawn) and drawn[0] < drawn[-1] == 24


def test_eval_plays_policies_on_the_same_episodes(run, tiny, tmp_path, capsys):
    arguments = ["--config", str(tiny), "--dataset", "alibaba", "--episodes", EPISODES, "--checkpoint", str(run)]
    arguments += ["--policies", "le", "eft", "dtdrlmo", "twin-eft", "dtdrlmo-exact"]
    evaluate.main([*arguments, "--clairvoyant", "1", "--out", str(tmp_path / "eval")])
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert results["dataset"] == "alibaba" and results["scenario"] == "tiny" and results["episodes"] == int(EPISODES)
    assert {name: policy["information"] for name, policy in results["policies"].items()} == {
        "le": "state",
        "eft": "lookahead",
        "dtdrlmo": "mirror and twin",
        "twin-eft": "mirror and twin",
        "dtdrlmo-exact": "lookahead",
        "clairvoyant": "future",
    }
    assert results["checkpoint"]["dtdrlmo"].startswith(str(run))
    for policy in results["policies"].values():
        assert policy["act_ci95"][0] <= policy["act"] <= policy["act_ci95"][1] and policy["decisions_per_s"] > 0
    lines = (tmp_path / "eval" / "episodes.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines[1:] if line.split(",")[1] == "eft"]
    assert np.mean([float(c[2]) for c in cells]) == pytest.approx(results["policies"]["eft"]["act"], rel=1e-6)
    le, eft = ([line.split(",")[3] for line in lines[1:] if line.split(",")[1] == n] for n in ("le", "eft"))
    assert le == eft, "equal episodes have equal numbers of decisions"
    act = {
        name: [float(line.split(",")[2]) for line in lines if line.split(",")[1] == name]
        for name in results["policies"]
    }
    for name in act:
        np.testing.assert_array_less(act["clairvoyant"], np.array(act[name]) * (1 + 1e-5))
    assert "12,000 DAG jobs" in capsys.readouterr().out
    assert lines[0].startswith("episode,policy,act,decisions,moved,merges,postponed,redirected,invalid,p50,")
    check_measures(results, tmp_path / "eval")


def check_measures(results, folder):
    """The means in results.json are those of episodes.csv, and what services.csv has of each service agrees."""
    with (folder / "episodes.csv").open() as file:
        episodes = list(csv.DictReader(file))
    with (folder / "services.csv").open() as file:
        services = list(csv.DictReader(file))
    columns = ["episode", "policy", "service", "workflow", "source", "completion", "slowdown", "missed"]
    assert list(services[0]) == columns and services[0]["source"].startswith("node ")
    assert len(services) == len(episodes) * SCENARIO.num_services
    for name, policy in results["policies"].items():
        assert set(policy["measures"]) == set(MEASURES)
        rows = [row for row in episodes if row["policy"] == name]
        for measure, of in policy["measures"].items():
            assert of["mean"] == pytest.approx(np.mean([float(row[measure]) for row in rows]), rel=1e-5)
            assert of["ci95"][0] <= of["mean"] <= of["ci95"][1]
        of_policy = [row for row in services if row["policy"] == name]
        missed = [float(row["slowdown"]) > results["deadline"] for row in of_policy]
        assert missed == [row["missed"] == "1" for row in of_policy]
        assert policy["measures"]["missed"]["mean"] == pytest.approx(np.mean(missed))
        completion = np.mean([float(row["completion"]) for row in of_policy])
        assert policy["act"] == pytest.approx(completion, rel=1e-5)


def test_the_table_has_the_metrics_that_are_asked_for(tiny, tmp_path, capsys):
    asked = ["--config", str(tiny), "--episodes", EPISODES, "--policies", "eft", "--out", str(tmp_path / "eval")]
    evaluate.main([*asked, "--metrics", "p95", "energy", "--deadline", "2.5"])
    printed = capsys.readouterr().out
    assert "p95 (s)" in printed and "energy (J)" in printed and "merges" not in printed
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert results["deadline"] == 2.5 and results["power"]["node_idle"] == 86.0
    assert "--deadline 2.5" in results["repeat"] and "--metrics p95 energy" in results["repeat"]


def test_settings_survive_writing_and_reading(tmp_path):
    config = TrainConfig(num_envs=3, seed=5)
    save_config(config, tmp_path / "c.yaml")
    assert load_config(str(tmp_path / "c.yaml")) == config


def test_training_draws_varied_networks_where_the_scenario_has_generated_ones():
    assert TrainConfig().trained_on.network == "varied"
    assert TrainConfig(varied_networks=False).trained_on.network == "generated"
    assert load_config("paper").trained_on.network == "generated"


def test_the_default_file_says_what_the_dataclasses_say():
    assert load_config("default") == TrainConfig()


def write(path, text):
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_env": 4}, "num_env: unknown key; did you mean num_envs"),
        ({"scenario": {"bandwith": 4.0}}, "scenario.bandwith: unknown key; did you mean bandwidth"),
        ({"scenario": {"bandwidth": -4.0}}, "scenario.bandwidth: got -4.0; must be positive"),
        ({"scenario": {"bandwidth": "fast"}}, "scenario.bandwidth: got 'fast'; must be of type float"),
        ({"scenario": {"neighbours": [1, 1], "num_nodes": 40}}, "none of 1000 draws of 40 nodes was connected"),
        (
            {"agent": {"algorithm": "a3c"}},
            "agent.algorithm: got 'a3c'; must be one of dtdrlmo-plan, dtdrlmo, ddpg, ppo, dqn",
        ),
        ({"num_envs": 0}, "num_envs: got 0; must be at least 1"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(change, message, tmp_path, capsys):
    config = write(tmp_path / "bad.yaml", yaml.safe_dump(change))
    with pytest.raises(SystemExit) as exit_info:
        train.main(["--config", config, "--out", str(tmp_path / "run")])
    assert exit_info.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_settings(run, tmp_path, capsys):
    for arguments, message in (
        (["--resume", str(tmp_path)], "config.yaml"),
        (["--resume", str(run), "--num-envs", "8"], "only --total-decisions may be given"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            train.main(arguments)
        assert exit_info.value.code == 2 and message in capsys.readouterr().err


def test_bad_flags_are_refused(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    for arguments, message in (
        (["--scenario.bandwidth", "-1"], "bandwidth: got -1"),
        (["--no-such-flag", "1"], "no-such-flag"),
        (["--config", "nowhere"], "must be a YAML file or one of default, paper, smoke"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            train.main([*arguments, *out])
        assert exit_info.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "empty"),
        ("M1,1,j_1,1,Terminated,10,20,100.00,0.5\nM2_1,1,j_1,1,Termi", "2"),
        ("M1_2,1,j_1,1,Terminated,10,20,100.00,0.5\nM2_1,1,j_1,1,Terminated,10,20,100.00,0.5\n", "cyclic"),
    ],
)
def test_bad_traces_are_refused(content, message, tiny, tmp_path, capsys):
    trace = write(tmp_path / "batch_task.csv", content)
    with pytest.raises(SystemExit) as exit_info:
        evaluate.main(
            ["--config", str(tiny), "--dataset", "alibaba", "--trace", trace, "--out", str(tmp_path / "eval")]
        )
    error = capsys.readouterr().err
    assert exit_info.value.code == 2 and message in error and "batch_task.csv" in error
    assert not (tmp_path / "eval").exists()


def test_wrong_checkpoints_are_refused(run, tiny, tmp_path, capsys):
    garbage = tmp_path / "policy.msgpack"
    garbage.write_bytes(b"no policy at all")
    for checkpoint in (garbage, tmp_path / "absent", run / "config.yaml"):
        with pytest.raises(SystemExit) as exit_info:
            evaluate.main(
                [
                    "--config",
                    str(tiny),
                    "--episodes",
                    "2",
                    "--checkpoint",
                    str(checkpoint),
                    "--out",
                    str(tmp_path / "e"),
                ]
            )
        assert exit_info.value.code == 2 and str(checkpoint) in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_runs_whose_policy_cannot_be_read_are_reported_and_not_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "policy.msgpack").write_bytes(b"no policy at all")
    reports = []
    _, sources = contenders_for(PolicyChoice(), *make_env(SCENARIO, "test"), report=reports.append)
    assert reports[0].startswith("not used: runs/old/policy.msgpack: not a policy written by train.py")
    assert all(source.startswith("the policy shipped") for source in sources.values())


def test_an_existing_run_is_not_overwritten(run, tiny, capsys):
    before = (run / "metrics.csv").read_bytes()
    with pytest.raises(SystemExit) as exit_info:
        train.main(["--config", str(tiny), "--out", str(run)])
    assert exit_info.value.code == 2 and "--resume" in capsys.readouterr().err
    assert (run / "metrics.csv").read_bytes() == before
