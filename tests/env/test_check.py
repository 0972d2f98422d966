"""Params with numbers that cannot be are refused by name, wherever they come from outside."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL
from helpers.runs import CONFIG

from jaxcec.adapters import DiscreteView
from jaxcec.agents import train
from jaxcec.env import CECEnv, check_params
from jaxcec.evaluation import Contender, clairvoyant, episode_keys, rollout, timed_rollout
from jaxcec.policies import SearchConfig, earliest_finish
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
NAN, INF = np.nan, np.inf


@pytest.fixture(scope="module")
def small():
    return make_env(SMALL, "train")


def with_leaf(params, path, value):
    """The params with one number of a leaf replaced."""
    bank, _, name = path.partition(".")
    tree = getattr(params, bank)
    leaf = np.array(getattr(tree, name) if name else tree)
    leaf.flat[0] = value
    return params.replace(**{bank: tree.replace(**{name: leaf}) if name else leaf})


@pytest.mark.parametrize(
    "path, value, allowed",
    [
        ("background.load", 35.0, "from 0 to 0.9"),  # per cent
        ("background.load", -0.1, "from 0 to 0.9"),
        ("background.load", NAN, "finite"),
        ("background.frame", 0.0, "from 1e-09 to inf"),
        ("network.bandwidth", INF, "finite"),
        ("network.bandwidth", -1.0, "from 0 to inf"),
        ("network.speed", NAN, "finite"),
        ("network.latency", -1.0, "from 0 to inf"),
        ("network.bottleneck", 0.0, "positive"),
        ("dags.load", NAN, "finite"),
        ("dags.data", -5.0, "from 0 to inf"),
        ("dags.size", 0, "from 1 to 6"),
        ("arrivals.dag", 16, "from 0 to 15"),
        ("arrivals.source", -1, "from 0 to 3"),
        ("arrivals.release", INF, "finite"),
        ("arrival_rate", 0.0, "from 1e-09 to inf"),
        ("max_steps_in_episode", 0, "from 1 to inf"),
    ],
)
def test_a_number_that_cannot_be_is_refused(small, path, value, allowed):
    env, params = small
    wrong = with_leaf(params, path, value)
    with pytest.raises(ValueError, match=rf"{path}.*: got .*{value}.*; must be {allowed}"):
        check_params(env.config, wrong)


def test_valid_params_are_returned_as_they_are(small):
    env, params = small
    assert check_params(env.config, params) is params


def test_wrong_shapes_are_refused(small):
    env, params = small
    with pytest.raises(ValueError, match=r"network.bandwidth: got shape \(3, 6\); must be \(rows, 5\)"):
        check_params(dataclasses.replace(env.config, max_links=5), params)


def test_a_topology_of_routers_alone_is_refused(small):
    env, params = small
    speed = params.network.speed.at[1, : env.config.num_nodes].set(0.0)
    with pytest.raises(ValueError, match=r"network.speed: got a topology without an edge node whose speed is positive"):
        check_params(env.config, params.replace(network=params.network.replace(speed=speed)))


def test_a_service_that_cannot_run_anywhere_is_refused(small):
    env, params = small
    v = env.config.num_nodes
    network = params.network.replace(
        speed=params.network.speed.at[0, v:].set(0.0), capacity=params.network.capacity.at[0, :v].set(0.01)
    )
    with pytest.raises(ValueError, match=r"dags.demand\[\d+\]\[\d+\]: got .*; must fit an edge node of topology 0"):
        check_params(env.config, params.replace(network=network))


CALLS = {
    "CECEnv": lambda env, params: CECEnv(env.config, params),
    "reset": lambda env, params: env.reset(KEY, params),
    "step": lambda env, params: env.step(KEY, env.reset(KEY)[1], env.action_space().sample(KEY), params),
    "Contender.play": lambda env, params: RULE.play(env, params, episode_keys(0, 1)),
    "rollout": lambda env, params: rollout(env, params, apply=RULE.apply, params=RULE.params, keys=episode_keys(0, 1)),
    "timed_rollout": lambda env, params: timed_rollout(env, params, RULE, episode_keys(0, 1)),
    "clairvoyant": lambda env, params: clairvoyant(
        env, params, episode_keys(0, 1), played=[], config=SearchConfig(), search_key=KEY
    ),
    "train": lambda env, params: train(env, params, CONFIG, num_envs=1, total_decisions=1, key=KEY),
    "view": lambda env, params: DiscreteView(env).reset(KEY, params),
}
RULE = Contender.of_rule("eft", earliest_finish)


@pytest.mark.parametrize("name", CALLS)
def test_whatever_takes_params_checks_them_first(small, name):
    env, params = small
    wrong = with_leaf(params, "background.load", 35.0)
    with pytest.raises(ValueError, match=r"background.load\[0\]\[0\]: got 35.0; must be from 0 to 0.9"):
        CALLS[name](env, wrong)


def test_traced_params_pass(small):
    env, params = small
    wrong = with_leaf(params, "background.load", 35.0)
    _, state = jax.eval_shape(jax.vmap(env.reset, in_axes=(0, None)), jax.random.split(KEY, 2), wrong)
    assert jax.eval_shape(env.reset, KEY, wrong)[1].ready.shape == state.ready.shape[1:]
    assert jnp.isfinite(params.arrival_rate)
