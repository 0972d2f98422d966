"""Whole episodes under a policy: they end whatever the policy does, and a policy may be any callable."""

import dataclasses
import pickle
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from helpers.instances import ROUTED
from helpers.runs import CONFIG, SCENARIO

from jaxcec.agents import LEARNERS, TrainedPolicy
from jaxcec.agents.features import encode
from jaxcec.agents.learners import learner_for
from jaxcec.env import Action, build_instance, known_world, observation_size
from jaxcec.evaluation import Contender, baseline_contenders, episode_keys, timed_rollout
from jaxcec.policies import BASELINES, at_full_rate
from jaxcec.scenarios import make_env

KEYS = episode_keys(0, 2)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def tiny():
    return make_env(SCENARIO, "test")


def always_later(observation, key) -> Action:
    return at_full_rate(jnp.argmin(observation.nodes.finish)).replace(postpone=jnp.float32(1.0))


def without_a_number(observation, key) -> Action:
    return at_full_rate(jnp.argmin(observation.nodes.finish)).replace(bandwidth=jnp.float32(jnp.nan))


def test_a_policy_that_postpones_for_ever_comes_to_an_end(tiny):
    env, params = tiny
    episodes = Contender.of_rule("later", always_later).play(env, params, KEYS)
    most = SCENARIO.num_services * SCENARIO.max_microservices
    sizes = np.asarray(params.dags.size)[np.asarray(params.arrivals.dag)].sum(axis=1)
    assert (np.asarray(episodes.postponed) == 20 * most).all()
    assert set(np.asarray(episodes.decisions).tolist()) <= set(sizes.tolist())
    assert (np.asarray(episodes.act) > 20 * most / 2).all()


@pytest.mark.parametrize(
    "play", [lambda c, *args: c.play(*args), lambda c, env, params, keys: timed_rollout(env, params, c, keys)]
)
def test_a_policy_whose_numbers_are_not_finite_is_refused_by_name_and_count(tiny, play):
    contender = Contender.of_rule("broken", without_a_number)
    with pytest.raises(ValueError, match=r"policy broken: (\d+) of its \1 actions have a number that is not finite"):
        play(contender, *tiny, KEYS)


class Cheapest(struct.PyTreeNode):
    """A policy with parameters, as a pytree."""

    price: Any
    name: str = struct.field(pytree_node=False, default="cheapest")

    def __call__(self, observation, key):
        return at_full_rate(jnp.argmin(observation.nodes.finish + self.price * observation.nodes.traffic))


@dataclasses.dataclass
class Unhashable:
    """The same policy as a plain dataclass with an array, which has no hash."""

    price: Any
    __call__ = Cheapest.__call__


@dataclasses.dataclass(frozen=True)
class Frozen:
    """The same as a frozen dataclass, which has a hash until it is asked for."""

    price: Any
    __call__ = Cheapest.__call__


def test_a_policy_may_be_a_pytree_or_a_dataclass_with_arrays(tiny):
    env, params = tiny
    observations, _ = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(KEY, 64), params)

    @partial(jax.jit, static_argnums=0)  # as a rollout calls it
    def hosts(apply, params):
        return jax.vmap(lambda seen: apply(params, seen, None, KEY).host)(observations)

    expected, other = (hosts(Contender.of_rule(name, BASELINES[name]).apply, None) for name in ("eft-priced", "eft"))
    assert (expected != other).any(), "the price matters"
    for kind in (Cheapest, Unhashable, Frozen):
        contender = Contender.of_rule("own", kind(jnp.float32(1.0)))
        assert (hosts(contender.apply, contender.params) == expected).all()
    one, other = (Contender.of_rule("own", Cheapest(jnp.float32(price))) for price in (1.0, 2.0))
    assert one.apply == other.apply and hash(one.apply) == hash(other.apply), "they share one compilation"
    assert (one.params.price, other.params.price) == (1.0, 2.0)


def test_a_policy_may_be_an_equinox_module(tiny):
    eqx = pytest.importorskip("equinox")
    env, params = tiny
    c = env.config
    net = eqx.nn.MLP(observation_size(c.num_nodes, c.max_links, c.num_resources), c.num_nodes, 8, 1, key=KEY)

    class Policy(eqx.Module):
        net: eqx.nn.MLP

        def __call__(self, observation, key):
            leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(observation)]
            return at_full_rate(jnp.argmax(self.net(jnp.log1p(jnp.concatenate(leaves)))))

    acts = Contender.of_rule("equinox", Policy(net)).play(env, params, KEYS).act
    assert np.isfinite(acts).all()


def test_contenders_can_be_pickled(tiny):
    env, params = tiny
    config = dataclasses.replace(CONFIG, algorithm="ddpg")
    learner = learner_for(config)
    features = encode(env.reset(KEY, params)[0])
    learned = TrainedPolicy(config, learner.acting_params(learner.init(learner.init_params(KEY, features)))).contender(
        env
    )
    rules = [Contender.of_rule("eft", BASELINES["eft"]), Contender.of_rule("own", Cheapest(jnp.float32(1.0)))]
    for contender in (*baseline_contenders(env), *rules, learned):
        copy = pickle.loads(pickle.dumps(contender))
        assert copy.name == contender.name
        assert copy.apply == contender.apply and hash(copy.apply) == hash(contender.apply)
    assert (copy.play(env, params, KEYS).act == learned.play(env, params, KEYS).act).all()


def test_a_policy_can_be_exported(tiny):
    pytest.importorskip("flatbuffers")
    env, params = tiny
    observation, _ = env.reset(KEY, params)
    policy = jax.jit(BASELINES["eft"])
    stored = jax.export.export(policy)(observation, KEY).serialize()
    action = jax.export.deserialize(stored).call(observation, KEY)
    assert action.host == policy(observation, KEY).host


def routed():
    """An environment with a router and a node without a gpu, and a state in which two of three nodes are infeasible."""
    env, params = build_instance(**ROUTED)
    observation, state = env.reset(KEY, params)
    observation, state, *_ = env.step_env(KEY, state, at_full_rate(jnp.int32(1)), params)
    observation, state, *_ = env.step_env(KEY, state, at_full_rate(jnp.int32(1)), params)
    assert observation.nodes.feasible.tolist() == [0, 0, 1]
    return env, params, state, observation


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "le"])
def test_rules_choose_a_node_that_can_run_the_microservice(name):
    *_, observation = routed()
    assert int(BASELINES[name](observation, KEY).host) == 2


@pytest.mark.parametrize("name", ["eft-rollout", "best-of-random"])
def test_planners_choose_a_node_that_can_run_the_microservice(name):
    env, params, state, observation = routed()
    [contender] = [each for each in baseline_contenders(env) if each.name == name]
    choose = jax.jit(jax.vmap(lambda key: contender.apply(None, observation, known_world(state, params), key).host))
    assert (choose(jax.random.split(KEY, 16)) == 2).all()


@pytest.mark.parametrize(
    "algorithm", [pytest.param(name, marks=[pytest.mark.slow] if name in ("ppo", "dqn") else []) for name in LEARNERS]
)
def test_learners_choose_a_node_that_can_run_the_microservice(algorithm):
    *_, observation = routed()
    learner = learner_for(dataclasses.replace(CONFIG, algorithm=algorithm))
    features = encode(observation)
    params = learner.acting_params(learner.init(learner.init_params(KEY, features)))

    @partial(jax.jit, static_argnums=1)
    def choose(keys, explore):
        return jax.vmap(lambda key: learner.act(params, observation, key, explore=explore))(keys)

    for explore in (False, True):
        choices = choose(jax.random.split(KEY, 64), explore)
        assert (np.asarray(choices.action.host) == 2).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(choices))
