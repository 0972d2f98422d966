"""`eval.py --policy`, and the command line that repeats an evaluation."""

import csv
import json
import shlex

import numpy as np
import pytest
import yaml
from helpers.runs import EPISODES, TINY

from jaxcec.commands import evaluate
from jaxcec.commands.contenders import PolicyChoice, contenders_for
from jaxcec.commands.settings import load_config
from jaxcec.evaluation import Contender, episode_keys
from jaxcec.policies import earliest_finish
from jaxcec.scenarios import Scenario, make_env

OWN = """
import jax.numpy as jnp
from jaxcec.env import Action

def stay(observation, key):
    node = jnp.argmax(observation.service.source).astype(jnp.int32)
    return Action(host=node, bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))

def without_a_number(observation, key):
    return stay(observation, key).replace(hold=jnp.float32(jnp.nan))

def a_number(observation, key):
    return jnp.argmax(observation.service.source)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The current folder of the user, with a configuration and a module of policies."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "own_policies.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def acts(folder):
    policies = json.loads((folder / "results.json").read_text())["policies"]
    return {name: policy["act"] for name, policy in policies.items()}


def test_an_own_policy_is_evaluated_like_any_other(home):
    own = ["own_policies:stay", "examples.own_policy:least_backlog", "examples.own_policy:patient"]
    asked = ["--policies", "local", "eft", "--policy", *own, "--episodes", EPISODES, "--out", "out"]
    evaluate.main(["--config", "tiny.yaml", *asked])
    act = acts(home / "out")
    assert list(act) == ["local", "eft", *own]
    assert act["own_policies:stay"] == act["local"], "both are the same rule"
    assert act["eft"] < act["examples.own_policy:least_backlog"], "the location of the input matters too"


def test_the_saved_command_line_repeats_an_evaluation(home):
    policies = ["--policies", "le", "eft", "eft-rollout", "--policy", "own_policies:stay"]
    asked = [*policies, "--plan-steps", "1", "--episodes", EPISODES, "--seed", "4"]
    evaluate.main(["--config", "tiny.yaml", "--scenario.bandwidth", "3", *asked, "--out", "one"])
    words = shlex.split(json.loads((home / "one" / "results.json").read_text())["repeat"])
    assert words[:2] == ["python", "eval.py"]
    evaluate.main([*words[2:], "--out", "two"])
    assert acts(home / "one") == acts(home / "two")
    assert (home / "one" / "episodes.csv").read_bytes() == (home / "two" / "episodes.csv").read_bytes()
    assert np.ptp(list(acts(home / "one").values())) > 0
    assert "--plan-steps 1" in " ".join(words)


def test_results_do_not_depend_on_the_groups_that_episodes_are_played_in(home, monkeypatch):
    asked = ["--config", "tiny.yaml", "--policies", "random", "eft", "--episodes", "12"]
    for folder, least in {"whole": 12, "groups": 3}.items():
        monkeypatch.setattr(evaluate, "LEAST", least)
        evaluate.main([*asked, "--out", folder])
    for table in ("episodes.csv", "services.csv"):
        assert (home / "whole" / table).read_bytes() == (home / "groups" / table).read_bytes()
    rows = csv.DictReader((home / "groups" / "episodes.csv").read_text().splitlines())
    found = np.array([float(row["act"]) for row in rows if row["policy"] == "eft"], np.float32)
    env, params = make_env(load_config("tiny.yaml").scenario, "test")
    played = Contender.of_rule("eft", earliest_finish).play(env, params, episode_keys(0, 12)).act
    np.testing.assert_allclose(found, played, rtol=1e-5)
    assert len(np.unique(played)) > 6


def test_every_planner_simulates_as_many_decisions_as_asked(home):
    env, params = make_env(Scenario(), "test")
    planners = ("eft-rollout", "peft-rollout", "best-of-random", "twin-plan", "dtdrlmo-plan")

    def steps(**choice):
        contenders, _ = contenders_for(PolicyChoice(names=planners, **choice), env, params, report=lambda _: None)
        settings = {contender.name: contender.apply.config for contender in contenders}
        return {name: getattr(config, "plan", config).steps for name, config in settings.items()}

    with pytest.raises(ValueError, match="--plan-steps: got -1; must be at least 0"):
        evaluate.EvalCommand(Scenario(), plan_steps=-1)
    assert steps(plan_steps=3) == dict.fromkeys(planners, 3)
    assert steps() == {"eft-rollout": 16, "best-of-random": 8} | dict.fromkeys(
        ("peft-rollout", "twin-plan", "dtdrlmo-plan"), 10
    )


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("nowhere:stay", "--policy: got 'nowhere:stay'; must be MODULE:FUNCTION, but No module named 'nowhere'"),
        ("own_policies:go", "has no attribute 'go'"),
        ("own_policies", "--policy: got 'own_policies'; must be MODULE:FUNCTION"),
        (":stay", "--policy: got ':stay'; must be MODULE:FUNCTION"),
        ("own_policies:a_number", "must return an Action of scalars"),
    ],
)
def test_invalid_policies_are_refused(home, policy, message, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--config", "tiny.yaml", "--policies", "eft", "--policy", policy, "--out", "out"])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (home / "out").exists()


def test_a_policy_whose_numbers_are_not_finite_is_refused_and_nothing_is_written(home, capsys):
    asked = ["--policies", "local", "--policy", "own_policies:without_a_number", "--episodes", EPISODES, "--out", "out"]
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--config", "tiny.yaml", *asked])
    message = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code == 2
    assert "policy own_policies:without_a_number:" in message and "a number that is not finite" in message
    assert not (home / "out").exists()
