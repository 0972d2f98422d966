"""The learned twin: what it is fitted to, that it learns waits, and what it foresees."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, random_actions, rollout

from jaxcec.agents import AgentConfig, TrainedPolicy, TwinConfig, encode, learner_for
from jaxcec.agents.features import pace_of
from jaxcec.agents.information import restricted
from jaxcec.agents.learner import completion_reward
from jaxcec.agents.twin import Outcome, candidates, foreseen, input_size, outcome_of, timing_loss
from jaxcec.env import Action, build_instance, known_world
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
LEARNER = learner_for(AgentConfig(hidden=(8,), twin=TwinConfig(hidden=(32,), learning_rate=1e-2)))


def two_services():
    """Two services of one microservice at node 0 of two: 80 Mcycles, 50 Mbit over 5 Mbit/s, all of a node."""
    service = {"release": 0, "source": 0, "preds": [[]], "load": [80], "data": [50], "demand": [[1]]}
    return build_instance(
        links=[(0, 1, 5)],
        node_speed=[10, 20],
        device_speed=[1, 1],
        capacity=[[1], [1]],
        services=[service, service | {"release": 1}],
    )


def at(node, *, bandwidth=1.0, hold=0.0):
    return Action(host=jnp.int32(node), bandwidth=jnp.float32(bandwidth), hold=jnp.float32(hold))


def agent_for(observation):
    return LEARNER.init(LEARNER.init_params(KEY, encode(observation)))


def test_an_untrained_twin_foresees_the_rates_offered_and_no_wait():
    env, params = two_services()
    seen, state = env.reset_env(KEY, params)
    seen, *_ = env.step_env(KEY, state, at(1), params)
    agent = agent_for(seen)
    zero = jax.tree.map(jnp.zeros_like, agent.params.twin)
    nodes = LEARNER.foresee(agent.params.replace(twin=zero), seen)[0].nodes
    np.testing.assert_allclose(nodes.data_ready, [0.0, 10.0])
    np.testing.assert_allclose(nodes.finish, [8.0, 14.0])
    np.testing.assert_allclose(seen.nodes.finish, [8.0, 23.0], err_msg="in truth the first flow and run come before")


def test_the_waits_of_an_executed_decision_are_those_measured():
    """The second input waits 9 s for the link and is there at 20 s, when the node has been free for 6 s."""
    env, params = two_services()
    seen, state = env.reset_env(KEY, params)
    seen, state, *_ = env.step_env(KEY, state, at(1), params)
    candidate = candidates(seen)[1]
    assert candidate.shape == (input_size(1),)
    info = env.step_env(KEY, state, at(1), params)[4]
    outcome = outcome_of(candidate, at(1), info, pace_of(seen))
    np.testing.assert_allclose(outcome.waits, [9.0, 0.0], atol=1e-4)
    assert outcome.weight == 1.0
    held = at(1, bandwidth=0.5, hold=30.0)
    info = env.step_env(KEY, state, held, params)[4]
    np.testing.assert_allclose(
        outcome_of(candidate, held, info, pace_of(seen)).waits, 0.0, atol=1e-4, err_msg="its own choice"
    )
    elsewhere = outcome_of(candidate, at(0), info, pace_of(seen))
    assert elsewhere.weight == 0.0


def test_the_loss_is_that_computed_by_hand():
    """Of two outcomes the second has no weight; the first is in a world with a quarter of the usual unit of time."""

    def model(inputs):
        return inputs[:, :2], inputs[:, 2:]

    class Fixed:
        apply = staticmethod(lambda _, inputs: model(inputs))

    waits = 0.25 * jnp.expm1(jnp.array([[1.0, 2.0], [9.0, 9.0]], jnp.float32))
    inputs = jnp.array([[1.0, 1.0, 2.0, 0.5], [0.0, 0.0, 1.0, 1.0]], jnp.float32)
    pace, weight = jnp.array([0.25, 0.0], jnp.float32), jnp.array([1.0, 0.0], jnp.float32)
    outcomes = Outcome(inputs=inputs, waits=waits, pace=pace, weight=weight)
    loss, metrics = timing_loss(Fixed(), None, outcomes)
    np.testing.assert_allclose(loss, np.mean([np.log(2.0), np.log(0.5) + 0.5 * 2.0**2]), rtol=1e-5)
    np.testing.assert_allclose(metrics["twin_error"], 0.25 * np.mean([0.0, np.expm1(2.0) - np.expm1(1.0)]), rtol=1e-5)
    np.testing.assert_allclose(metrics["twin_within"], 0.5)


@pytest.fixture(scope="module")
def played():
    """Decisions of random episodes with contention: observations, actions and records, (episodes, steps, ...)."""
    env, params = make_env(dataclasses.replace(SMALL, num_services=6, arrival_rate=0.2), "train")
    keys = jax.random.split(KEY, 64)
    _, states = jax.vmap(env.reset_env, in_axes=(0, None))(keys, params)
    actions = random_actions(env, KEY, (len(keys), 30))
    actions = actions.replace(
        host=actions.host % SMALL.num_nodes,
        bandwidth=jnp.ones_like(actions.bandwidth),
        hold=jnp.zeros_like(actions.hold),
    )
    seen, info, _ = jax.vmap(rollout, in_axes=(None, None, 0, 0))(env, params, states, actions)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (seen, actions, info))


@pytest.mark.usefixtures("lax_promotion")
def test_the_twin_learns_waits_from_executed_decisions(played):
    """On decisions that it was not trained on, and for nodes that were not chosen in them."""
    seen, actions, info = played
    rows = jax.vmap(lambda x, node: candidates(x)[node])(seen, actions.host)
    outcomes = jax.vmap(outcome_of)(rows, actions, info, jax.vmap(pace_of)(seen))
    train, test = (jax.tree.map(lambda x, s=s: x[s], outcomes) for s in (slice(0, 1600), slice(1600, None)))
    agent = agent_for(jax.tree.map(lambda x: x[0], seen))
    learn = jax.jit(LEARNER.learn_outcomes)
    before = timing_loss(LEARNER.model, agent.params.twin, test)[1]
    for key in jax.random.split(KEY, 500):
        drawn = jax.random.randint(key, (256,), 0, 1600)
        agent, _ = learn(agent, jax.tree.map(lambda x, i=drawn: x[i], train))
    after = timing_loss(LEARNER.model, agent.params.twin, test)[1]
    assert after["twin_error"] < 0.5 * before["twin_error"]
    assert 0.5 < after["twin_within"] < 0.95, "the predicted deviations are of the size of the errors"

    def error(params):
        """Mean absolute error of the predicted finish of every node, s; in each decision one of them was chosen."""
        predicted = jax.vmap(lambda x: LEARNER.foresee(params, x)[0].nodes.finish)(seen)
        return float(jnp.mean(jnp.abs(predicted - seen.nodes.finish)[info["decided"]]))

    assert error(agent.params) < 0.6 * error(agent_for(jax.tree.map(lambda x: x[0], seen)).params)


def test_with_a_key_the_twin_samples_what_it_deems_possible(played):
    seen = jax.tree.map(lambda x: x[5], played[0])
    agent = agent_for(seen)
    draws = jax.vmap(lambda key: LEARNER.foresee(agent.params, seen, key)[0].nodes.wait)(jax.random.split(KEY, 400))
    likely = LEARNER.foresee(agent.params, seen)[0].nodes.wait
    seen = restricted(seen, "mirror")
    prediction = LEARNER.model.apply(agent.params.twin, candidates(seen))
    np.testing.assert_array_equal(foreseen(seen, prediction, jnp.zeros((SMALL.num_nodes, 2))).nodes.wait, likely)
    assert np.all(draws.std(axis=0) > 0.1)
    np.testing.assert_allclose(np.median(draws, axis=0), likely, atol=0.3)


@pytest.mark.parametrize(
    ("action", "until"),
    [
        ({}, 9 + 10 + 3 + 4),
        ({"bandwidth": 0.5}, 9 + 20 + 3 + 4),
        ({"hold": 8.0}, 9 + 10 + 3 + 4),  # shorter than the wait for the link
        ({"hold": 12.0}, 12 + 10 + 3 + 4),
        ({"postpone": 2.5}, 2.5),
        ({"postpone": 0.0}, 9 + 10 + 3 + 4),
    ],
)
def test_the_completion_reward_is_equation_17(action, until):
    """Foreseen at node 1: 9 s for the link, a transfer of 10 s, 3 s for the node, and 4 s to run."""
    env, params = two_services()
    seen, _ = env.reset_env(KEY, params)
    prediction = jnp.log1p(jnp.array([[0.0, 5.0], [9.0, 3.0]]) / pace_of(seen)), jnp.ones((2, 2))
    observation = foreseen(seen, prediction, jnp.zeros((2, 2)))
    action = {name: jnp.float32(value) for name, value in action.items()}
    reward = completion_reward(observation, jnp.int32(1), at(1).replace(**action))
    np.testing.assert_allclose(reward, -until, rtol=1e-5)
    at_home = completion_reward(observation, jnp.int32(0), at(0))
    np.testing.assert_allclose(at_home, -(5 + 8), rtol=1e-5, err_msg="nothing moves")


def test_the_plan_in_the_twin_does_not_see_the_mechanism_s_answers():
    """No step of the mechanism is simulated, and the decision is a node that the actor prefers."""
    env, params = make_env(SMALL, "train")
    _, state = env.reset_env(KEY, params)
    agent = agent_for(env.observe(KEY, state, None, params))
    asked = []

    class Watching(type(env)):
        def step_env(self, *arguments):
            asked.append(arguments)
            return super().step_env(*arguments)

    watched = Watching(env.config)
    decide = jax.jit(lambda state: LEARNER.plan_in_twin(watched)(agent.params, None, known_world(state, params), KEY))
    action = decide(state)
    assert not asked
    preferred = LEARNER.preference(agent.params, env.observe(KEY, state, None, params)).scores
    assert int(action.host) in np.argsort(-np.asarray(preferred))[: LEARNER.config.plan.candidates]


def test_the_actor_on_exact_times_sees_the_mechanism_s_answers(monkeypatch):
    """While links are busy it decides as if the twin had foreseen exactly what the mechanism does."""
    env, params = two_services()
    seen, state = env.reset_env(KEY, params)
    seen, *_ = env.step_env(KEY, state, at(1), params)
    agent = agent_for(seen)
    twin = jax.tree.map(lambda x: x + 1.0, agent.params.twin)  # one that foresees long waits
    policy = TrainedPolicy(LEARNER.config, agent.params.replace(twin=twin))
    exact = policy.on_exact_times(env, "exact")
    assert exact.information == "lookahead"
    features = LEARNER.features(policy.params, seen)
    monkeypatch.setattr(LEARNER, "foresee", lambda _, observation, key=None: (observation, None))
    ideal = LEARNER.features(policy.params, seen)
    assert not np.allclose(features.nodes, ideal.nodes), "the twin is far off"
    chosen = exact.apply(exact.params, seen, None, KEY)
    assert int(chosen.host) == int(LEARNER.act(policy.params, seen, KEY, explore=False).node)
    jax.tree.map(np.testing.assert_array_equal, learner_for(exact.apply.config).features(exact.params, seen), ideal)
