"""Policy files that were read wrongly, or refused by an error that names no file."""

import json

import jax
import numpy as np
import pytest
from flax import serialization
from helpers.instances import smallest_observation

from jaxcec.agents.checkpoint import PRETRAINED, load_policy

CONTENT = serialization.msgpack_restore((PRETRAINED / "ddpg.msgpack").read_bytes())
HEADER = json.loads(CONTENT["header"])


@pytest.fixture(scope="module")
def observation():
    return smallest_observation()


def settings(**changes):
    return CONTENT | {"header": json.dumps(HEADER | {"config": HEADER["config"] | changes})}


def networks(change):
    return CONTENT | {"params": jax.tree.map(change, CONTENT["params"])}


BAD = {
    "no sizes": (
        CONTENT | {"header": json.dumps({k: v for k, v in HEADER.items() if k != "num_resources"})},
        "trained for num_resources = None, but the scenario has 2",
    ),
    "half a unit": (settings(hidden=[0.5]), "hidden"),
    "units that are text": (settings(hidden=["64"]), "written by another version"),
    "units without end": (settings(hidden=[10**12]), "hidden must be at most 65536"),
    "a rate that is text": (settings(discount="0.9"), "written by another version"),
    "an integer beyond float32": (settings(entropy=10**40), "entropy: got 1.*; must be from -9007199254740992"),
    "a number beyond float32": (settings(reward_scale=1e308), "reward_scale: got 1e.308; must be finite and at most"),
    "a switch that is a number": (settings(learn_flow=1), "learn_flow: got 1; must be of type bool"),
    "not finite": (networks(lambda leaf: leaf * np.float32(np.nan)), "hold numbers that are not finite"),
    "doubles": (networks(lambda leaf: leaf.astype(np.float64)), "do not fit this scenario"),
    "numbers for arrays": (networks(lambda leaf: 1.0), "do not fit its settings"),
    "networks that are text": (CONTENT | {"params": "x"}, "do not fit its settings"),
}


@pytest.mark.parametrize("what", BAD)
def test_the_file_is_named(what, observation, tmp_path):
    content, message = BAD[what]
    (tmp_path / "policy.msgpack").write_bytes(serialization.msgpack_serialize(content))
    with pytest.raises(ValueError, match=rf"policy\.msgpack: .*{message}"):
        load_policy(tmp_path / "policy.msgpack", observation)
