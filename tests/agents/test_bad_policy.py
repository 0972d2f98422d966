"""Policy files that were once accepted, or refused with an error that did not name the file."""

import jax
import numpy as np
import pytest
from flax import serialization
from helpers.policy_file import CONTENT, HEADER, observation, with_header

from jaxcec.agents.checkpoint import load_policy


def settings(**changes):
    return with_header(HEADER | {"config": HEADER["config"] | changes})


def networks(change):
    return CONTENT | {"params": jax.tree.map(change, CONTENT["params"])}


BAD = {
    "no sizes": (
        with_header({k: v for k, v in HEADER.items() if k != "num_resources"}),
        "trained for num_resources = None, but the scenario has 2",
    ),
    "an older format": (
        with_header(HEADER | {"format": "jaxcec-policy-1"}),
        "written by another version of jaxcec .format 'jaxcec-policy-1'.; train again",
    ),
    "an older setting": (settings(plan_steps=10), "plan_steps: unknown key; did you mean plan.steps"),
    "half a unit": (settings(hidden=[0.5]), "hidden"),
    "units that are text": (settings(hidden=["64"]), "written by another version"),
    "units without end": (settings(hidden=[10**12]), "hidden must be at most 65536"),
    "a twin without end": (settings(twin={"hidden": [10**12]}), "hidden must be at most 65536"),
    "a rate that is text": (settings(discount="0.9"), "written by another version"),
    "an integer beyond float32": (settings(entropy=10**40), "entropy: got 1.*; must be from -9007199254740992"),
    "a number beyond float32": (settings(reward_scale=1e308), "reward_scale: got 1e.308; must be finite and at most"),
    "a switch that is a number": (settings(learn_flow=1), "learn_flow: got 1; must be of type bool"),
    "not finite": (networks(lambda leaf: leaf * np.float32(np.nan)), "hold numbers that are not finite"),
    "doubles": (networks(lambda leaf: leaf.astype(np.float64)), "do not fit this scenario"),
    "numbers for arrays": (networks(lambda leaf: 1.0), "do not fit its settings"),
    "networks that are text": (CONTENT | {"params": "x"}, "do not fit its settings"),
}


@pytest.mark.parametrize("fault", BAD)
def test_the_error_names_the_file_and_the_fault(fault, tmp_path):
    content, message = BAD[fault]
    (tmp_path / "policy.msgpack").write_bytes(serialization.msgpack_serialize(content))
    with pytest.raises(ValueError, match=rf"policy\.msgpack: .*{message}"):
        load_policy(tmp_path / "policy.msgpack", observation())
