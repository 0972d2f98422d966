"""Networks and services of the user on the command line, environments of the user, and the suite."""

import json

import networkx as nx
import numpy as np
import pytest
import yaml
from helpers.runs import EPISODES, SCENARIO, TINY

from jaxcec.commands import evaluate, train
from jaxcec.commands.contenders import PolicyChoice
from jaxcec.commands.play_suite import run_suite
from jaxcec.scenarios import make_env, suite
from jaxcec.scenarios.suite import Member, content_hash

OWN = """
from jaxcec.env import Names
from jaxcec.scenarios import Scenario, make_env
from helpers.runs import SCENARIO

def tiny(split):
    return make_env(SCENARIO, split)

def named(split):
    return *tiny(split), Names(workflows=[("detect", [f"step {i}" for i in range(8)])])

def too_few_names(split):
    return *tiny(split), Names(workflows=[("detect", ["filter"])])

def a_number(split):
    return 3
"""

ROWS = ("le", "eft", "clairvoyant", "lower bound")  # of a scoreboard of the rule `le`


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The current folder of the user: a configuration, a network, a workflow, and a module with environments.

    Network and workflow have the sizes of the configuration, so that its compiled programs serve.
    """
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    graph = nx.gnm_random_graph(8, 18, seed=1)
    nx.set_edge_attributes(graph, 20.0, "bandwidth")
    nx.write_graphml(graph, tmp_path / "mine.graphml")
    chain = nx.path_graph(4, create_using=nx.DiGraph)
    nx.set_node_attributes(chain, 3.0, "run_time")
    nx.set_edge_attributes(chain, 8.0, "data")
    (tmp_path / "chain.json").write_text(json.dumps(nx.node_link_data(chain, edges="edges")))
    (tmp_path / "own_worlds.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_files_become_a_policy_a_table_and_a_schedule(home, capsys):
    train.main(
        [
            "--config",
            "tiny.yaml",
            "--scenario.network",
            "mine.graphml",
            "--scenario.dataset",
            "*.json",
            "--out",
            "runs/mine",
        ]
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "training and test have the same workflows: there are fewer than five" in printed
    assert "speeds of nodes: 8 of 8 are drawn" in printed and "bandwidths" not in printed
    asked = ["--config", "runs/mine/config.yaml", "--policies", "eft", "dtdrlmo"]
    evaluate.main([*asked, "--episodes", EPISODES, "--out", "table"])
    results = json.loads((home / "table" / "results.json").read_text())
    assert results["dataset"] == "*.json" and "chain: tasks: 4" in results["sources"]
    assert "runs/mine/policy.msgpack" in results["checkpoint"]["dtdrlmo"], "the newest run is played"
    services = (home / "table" / "services.csv").read_text().splitlines()
    assert len(services) == 1 + int(EPISODES) * 2 * 2 and all(",chain," in row for row in services[1:])
    evaluate.main([*asked, "--schedule", "schedule.json"])
    decisions = json.loads((home / "schedule.json").read_text())["policies"]["eft"]["decisions"]
    assert len(decisions) == 2 * 4 and {row["data"] for row in decisions} == {0.0, 8.0}
    assert {row["workflow"] for row in decisions} == {"chain"}


def test_bandwidths_of_a_file_are_swept(home):
    asked = ["--config", "tiny.yaml", "--scenario.network", "mine.graphml", "--dataset", "chain.json"]
    asked += ["--policies", "random", "--episodes", EPISODES, "--clairvoyant", "0"]
    evaluate.main([*asked, "--scenario.rescale", "--sweep", "bandwidth", "--out", "sweep"])
    files = {"settings.json", "sweep.csv", "results.json"}
    figures = {f"sweep-chain.json-tiny.{kind}" for kind in ("png", "svg")}
    assert {path.name for path in (home / "sweep").iterdir()} == files | figures, "without the margins of the paper"
    points = json.loads((home / "sweep" / "results.json").read_text())["acts"]
    acts = [point["act"] for point in sorted(points, key=lambda point: point["bandwidth"])]
    assert len(acts) == 4 and acts == sorted(acts, reverse=True) and acts[0] > acts[-1], "scaled to each bandwidth"
    settings = json.loads((home / "sweep" / "settings.json").read_text())
    assert set(settings["networks"]) == {"mine"} and set(settings["workflows"]) == {"chain"}


def test_an_environment_of_the_user_is_played(home):
    asked = ["--config", "tiny.yaml", "--policies", "eft", "--episodes", EPISODES]
    evaluate.main([*asked, "--world", "own_worlds:named", "--out", "own"])
    evaluate.main([*asked, "--out", "scenario"])
    acts = [json.loads((home / name / "results.json").read_text())["policies"]["eft"] for name in ("own", "scenario")]
    assert acts[0]["act"] == acts[1]["act"]
    services = (home / "own" / "services.csv").read_text().splitlines()
    assert all(",detect," in row for row in services[1:])
    assert "--world own_worlds:named" in json.loads((home / "own" / "results.json").read_text())["repeat"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--world", "own_worlds:missing"], "--world: got 'own_worlds:missing'; must be MODULE:FUNCTION, but"),
        (["--world", "own_worlds:a_number"], "--world: got own_worlds:a_number, which returns int; must return"),
        (["--world", "own_worlds:too_few_names"], "names.workflows: got 1 tasks of 'detect'; must be "),
        (["--world", "own_worlds:tiny", "--sweep", "all"], "--sweep, --world: got both"),
        (["--suite", "all", "--episodes", EPISODES], "--suite, --episodes: got both"),
        (["--scenario.network", "none.graphml"], "none.graphml: no network; expected a .graphml or"),
        (["--dataset", "none/*.json"], "none/*.json: no such file; expected a JSON file, a folder of some, or a glob"),
        (["--dataset", "chain.json", "--sweep", "all"], "--sweep: got all; must be services or bandwidth, for"),
        (["--scenario.network", "mine.graphml", "--sweep", "all"], "must be services or microservices, or with --scen"),
        (["--suite", "cec-v2"], "--suite: got 'cec-v2'; must be all or among cec-synthetic-v1, cec-alibaba-v1"),
    ],
)
def test_impossible_worlds_are_refused_before_anything_is_written(arguments, message, home, capsys):
    with pytest.raises(SystemExit) as left:
        evaluate.main(["--config", "tiny.yaml", *arguments, "--out", "out"])
    assert left.value.code == 2 and message in " ".join(capsys.readouterr().err.split())
    assert not (home / "out").exists()


def test_the_suite_writes_a_scoreboard(home, monkeypatch):
    def worlds(split):
        env, params = make_env(SCENARIO, split)
        return env, [params, params.replace(arrival_rate=4.0 * params.arrival_rate)]

    def without_package(split):
        raise ImportError("pip install something")

    published = content_hash(worlds("test"))
    members = {"tiny": Member("tests", worlds, published), "absent": Member("tests", without_package, "")}
    monkeypatch.setattr(suite, "SUITE", members)
    monkeypatch.setattr("jaxcec.commands.play_suite.SUITE", members)
    monkeypatch.setattr("jaxcec.commands.play_suite.EPISODES", 2 * int(EPISODES))
    run_suite(["all"], home / "out", choice=PolicyChoice(names=("le",)), generations=1)
    results = json.loads((home / "out" / "results.json").read_text())
    assert list(results["members"]) == ["tiny"] and set(results["members"]["tiny"]) == {*ROWS}
    lines = (home / "out" / "scoreboard.md").read_text().splitlines()
    assert "| policy | sees | tiny |" in lines and any(line.startswith("* `tiny`: tests; episodes") for line in lines)
    assert [line.split(" | ")[0] for line in lines[-4:]] == [f"| {name}" for name in ROWS]
    acts = np.loadtxt(home / "out" / "episodes.csv", delimiter=",", skiprows=1, usecols=3).reshape(len(ROWS), -1)
    act = dict(zip(ROWS, acts, strict=True))
    assert np.all(act["lower bound"] <= act["clairvoyant"] * (1 + 1e-5)) and act["lower bound"].min() > 0.0
    assert np.all(act["clairvoyant"] <= np.minimum(act["eft"], act["le"]) * (1 + 1e-5))
