"""The instances found by search: played anew they are as bad as is said, and nothing in them is out of the ordinary."""

import functools

import jax
import numpy as np
import pytest

from jaxcec.agents.act import act
from jaxcec.agents.checkpoint import PRETRAINED, load_policy
from jaxcec.evaluation import Contender, rollout
from jaxcec.policies import BASELINES
from jaxcec.scenarios import Scenario, adversarial, adversarial_record
from jaxcec.scenarios.adversarial import PAIRS

KEY = jax.random.key(0)


@functools.cache
def contender(name: str) -> Contender:
    if name in BASELINES:
        return Contender.of_rule(name, BASELINES[name])
    env, params = adversarial(PAIRS[0])
    observation, _ = env.reset(KEY, jax.tree.map(lambda x: x[0], params))
    config, weights, _ = load_policy(PRETRAINED / f"{name}.msgpack", observation)
    return Contender(name, act(config, env), weights)


@pytest.mark.parametrize("pair", PAIRS)
def test_instances_are_as_bad_as_is_said(pair):
    env, params = adversarial(pair)
    said = np.array([found["acts"] for found in adversarial_record(pair)])
    assert said.shape == (10, 2)
    for column, name in enumerate(pair.split("-")):
        policy = contender(name)
        play = jax.vmap(
            lambda p, policy=policy: rollout(env, p, apply=policy.apply, params=policy.params, keys=KEY[None])
        )
        episodes = play(params)
        np.testing.assert_allclose(episodes.act[:, 0], said[:, column], rtol=1e-4)
        assert not episodes.merges.any()
    ratios = said[:, 0] / said[:, 1]
    assert ratios[-1] > 1.0 and np.all(np.diff(ratios) <= 0.0), "the worst first, and all of them bad"


@pytest.mark.parametrize("pair", PAIRS)
def test_every_number_is_one_that_the_scenario_may_draw(pair):
    usual = Scenario()

    def within(values, mean):
        np.testing.assert_array_less(0.0999 * mean, values)
        np.testing.assert_array_less(values, 1.9001 * mean)

    for instance in (found["instance"] for found in adversarial_record(pair)):
        within([rate for _, _, rate in instance["links"]], usual.bandwidth)
        within(instance["node_speed"], usual.node_speed)
        within(instance["device_speed"], usual.device_speed)
        gaps = np.diff([service["release"] for service in instance["services"]], prepend=0.0)
        assert gaps.min() >= 0.0 and gaps.max() <= 200.0
        for service in instance["services"]:
            within(service["load"], usual.load)
            within(service["data"], usual.data)
            demand = np.array(service["demand"])
            assert demand.min() >= usual.demand[0] and demand.max() <= usual.demand[1]
            assert all(k < j for j, before in enumerate(service["preds"]) for k in before)


def test_a_pair_that_nobody_searched_for_is_refused():
    with pytest.raises(ValueError, match="pair: got 'eft-greedy'; must be one of dtdrlmo-eft"):
        adversarial("eft-greedy")
