"""Decisions in time."""

import asyncio
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pydantic")

from helpers.controlled import RULE, SITE

from jaxcec.evaluation import Contender
from jaxcec.live.decider import Decider
from jaxcec.live.ledger import Ledger
from jaxcec.policies import earliest_finish

SLOW = 0.3  # s


def slow(observation, key):
    """A rule that takes its time."""

    def wait(value):
        time.sleep(SLOW)
        return np.asarray(value)

    action = earliest_finish(observation, key)
    host = jax.pure_callback(wait, jax.ShapeDtypeStruct((), jnp.int32), action.host)
    return action.replace(host=host)


def test_a_policy_that_is_late_is_replaced_until_it_is_done():
    decider = Decider(SITE, Contender.of_rule("slow", slow), fallback=RULE, deadline=0.05)
    facts = Ledger(SITE).facts(0.0)

    async def scenario():
        first, second = await decider.decide(facts), await decider.decide(facts)
        await asyncio.sleep(2 * SLOW)
        decider._deadline = 10 * SLOW
        return first, second, await decider.decide(facts)

    verdicts = asyncio.run(scenario())
    decider.close()
    assert [(verdict.policy, verdict.late) for verdict in verdicts] == [("eft", True), ("eft", True), ("slow", False)]
