"""A shipped policy file, taken apart, for tests that damage it."""

import functools
import json

from flax import serialization

from helpers.instances import smallest_observation
from jaxcec.agents.checkpoint import PRETRAINED

GOOD = (PRETRAINED / "ddpg.msgpack").read_bytes()
CONTENT = serialization.msgpack_restore(GOOD)
HEADER = json.loads(CONTENT["header"])


def with_header(header):
    """The content of the file with another header."""
    return CONTENT | {"header": json.dumps(header)}


@functools.cache
def observation():
    """An observation for which the file's networks are rebuilt."""
    return smallest_observation()
