"""The package's front door."""

import jax
import pytest

import jaxcec
from jaxcec.scenarios import PAPER_SETTINGS, Scenario

SMALL = {"num_topologies": 2, "num_dags": 20, "num_patterns": 2, "num_traces": 2, "num_frames": 8}


@pytest.mark.parametrize("env_id", jaxcec.registered_envs)
def test_every_registered_environment_resets(env_id):
    env, params = jaxcec.make(env_id, split="test", **SMALL)
    observation, _ = env.reset(jax.random.key(0), params)
    assert observation.nodes.finish.shape == (8,)
    assert (float(params.dags.load.mean()) < 5.0) == ("paper" in env_id)


def test_an_unknown_id_is_refused():
    with pytest.raises(ValueError, match="env_id: got 'calibrated'; must be one of calibrated-v0"):
        jaxcec.make("calibrated")


def test_the_paper_s_file_and_the_registered_scenario_agree():
    from jaxcec.commands.settings import load_config

    assert load_config("paper").scenario == Scenario(**PAPER_SETTINGS)
    assert jaxcec._SETTINGS["paper-v0"] == PAPER_SETTINGS
