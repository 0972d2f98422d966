"""Decisions in time."""

import asyncio
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pydantic")

from helpers.controlled import RULE, SITE, random_service

from jaxcec.evaluation import Contender
from jaxcec.live import events
from jaxcec.live.decider import Decider
from jaxcec.live.lateness import no_lateness
from jaxcec.live.ledger import Ledger
from jaxcec.policies import at_full_rate, earliest_finish

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
        verdicts = [await decider.decide(facts), await decider.decide(facts)]
        decider._deadline = 100 * SLOW
        while verdicts[-1].late:
            await asyncio.sleep(SLOW)
            verdicts.append(await decider.decide(facts))
        return verdicts

    verdicts = asyncio.run(scenario())
    decider.close()
    *late, done = [(verdict.policy, verdict.late) for verdict in verdicts]
    assert len(late) > 1 and set(late) == {("eft", True)} and done == ("slow", False)


def test_new_parameters_and_a_new_lateness_are_used_from_the_next_decision_on():
    decider = Decider(SITE, Contender("fixed", lambda host, *_: at_full_rate(host), np.int32(0)), deadline=1.0)
    ledger = Ledger(SITE)
    for host in range(3):
        ledger.apply(events.WorkerUp(time=0.0, host=host))
    ledger.apply(events.Submitted(time=0.0, service="s", spec=random_service(random.Random(0))))
    facts = ledger.facts(0.0, (0, 0))

    async def verdicts():
        first = await decider.decide(facts)
        decider.use(np.int32(1), no_lateness(3).replace(pause=np.float32([1.0, 2.0, 3.0])))
        return first, await decider.decide(facts)

    decided = [(int(verdict.info["host"]), float(verdict.info["late"])) for verdict in asyncio.run(verdicts())]
    decider.close()
    assert decided == [(0, 0.0), (1, 2.0)]
