"""What an agent of each level of information sees, and that nothing else reaches its decisions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, random_actions, rollout
from helpers.parameters import perturbed

from jaxcec.agents import LEARNERS, AgentConfig, encode, learner_for
from jaxcec.agents.features import COSTS, LEAST_SCORE, TIME
from jaxcec.agents.information import restricted
from jaxcec.env import INFEASIBLE
from jaxcec.scenarios import make_env

KEY = jax.random.key(0)
SEEN = {  # of nodes and links at `state`, and what `mirror` adds; all else is hidden below `lookahead`
    "state": {
        "nodes": "free share speed load inputs transfer execution traffic at_offered at_free path_links path_load ahead"
        " feasible",
        "links": "free load bandwidth",
        "service": "remaining_load remaining age others source shorter",
    },
    "mirror": {
        "nodes": "backlog committed path_busy path_committed path_committed_total path_contended",
        "links": "backlog busy",
        "service": "slack expected",
    },
}
LEVELS = ("lookahead", "mirror", "state")
CHOICES = [
    *[(name, level) for name in ("ddpg", "ppo", "dqn") for level in LEVELS],
    ("dtdrlmo", "mirror"),
    ("dtdrlmo", "state"),
]


@pytest.fixture(scope="module")
def seen():
    """Observations of the decisions of one random episode, in which services wait for each other."""
    env, params = make_env(dataclasses.replace(SMALL, arrival_rate=0.1), "train")
    _, state = env.reset_env(KEY, params)
    observations, info, _ = rollout(env, params, state, random_actions(env, KEY, (10,)))
    assert info["decided"].all()
    return observations


def scrambled(observation, level):
    """The observation with other numbers in every leaf that is hidden from a level."""

    def other(x):
        return x + 1.0 + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape) % 7

    shown = [SEEN["state"]] + [SEEN["mirror"]] * (level == "mirror")
    for part in ("nodes", "links", "service"):
        leaves = getattr(observation, part)
        visible = {name for seen in shown for name in seen[part].split()}
        hidden = set(vars(leaves)) - visible if level != "lookahead" else set()
        observation = observation.replace(
            **{part: leaves.replace(**{name: other(getattr(leaves, name)) for name in hidden})}
        )
    return observation


@pytest.mark.parametrize(("algorithm", "level"), CHOICES)
def test_hidden_leaves_do_not_reach_a_decision(seen, algorithm, level):
    """To the last bit, and the scores of all nodes with them: a decision alone might be the same by chance."""
    learner = learner_for(AgentConfig(algorithm=algorithm, information=level, hidden=(8,)))
    first = jax.tree.map(lambda x: x[0], seen)
    params = perturbed(learner.init_params(KEY, encode(first)))

    @jax.jit
    def decisions(observations):
        def decide(observation):
            choice = learner.act(params, observation, KEY, explore=True)
            return choice, learner.features(params, observation)

        return jax.vmap(decide)(observations)

    expected = decisions(seen)
    if level != "lookahead":
        same = decisions(jax.vmap(lambda x: scrambled(x, level))(seen))
        jax.tree.map(np.testing.assert_array_equal, same, expected)
    if level != "state":  # and what it sees does reach it
        changed = decisions(jax.vmap(lambda x: scrambled(x, "state"))(seen))
        assert np.any(changed[1].nodes != expected[1].nodes)


def test_without_lookahead_nothing_waits(seen):
    blind = jax.vmap(lambda x: restricted(x, "mirror"))(seen).nodes
    np.testing.assert_array_equal(blind.data_ready, seen.nodes.transfer)
    np.testing.assert_allclose(blind.finish, seen.nodes.transfer + seen.nodes.execution, rtol=1e-6)
    assert np.all(blind.wait == 0.0)
    assert np.any(seen.nodes.finish > blind.finish * 1.1), "though some do"


def test_every_algorithm_has_a_level_and_refuses_others():
    levels = {name: learner_for(AgentConfig(algorithm=name)).level for name in LEARNERS if name != "reinforce"}
    assert levels == {"dtdrlmo-plan": "lookahead", "dtdrlmo": "mirror", "ddpg": "state", "ppo": "state", "dqn": "state"}
    with pytest.raises(ValueError, match=r"agent\.information: got 'lookahead'; must be one of mirror, state for dtdr"):
        learner_for(AgentConfig(algorithm="dtdrlmo", information="lookahead"))
    with pytest.raises(ValueError, match=r"agent\.information: got 'all'; must be one of state, mirror, lookahead"):
        learner_for(AgentConfig(algorithm="ddpg", information="all"))


def test_a_node_that_runs_nothing_does_not_change_the_scores_of_the_others(seen):
    """Means over the nodes are over those that can run the microservice."""
    learner = learner_for(AgentConfig(algorithm="ddpg", information="lookahead", hidden=(8,)))
    features = jax.vmap(encode)(seen)
    params = perturbed(learner.init_params(KEY, jax.tree.map(lambda x: x[0], features)))
    row = features.nodes[:, :1]
    never = row.at[..., [-len(COSTS), -len(COSTS) + 1]].set(jnp.log1p(INFEASIBLE / TIME))  # execution and wait
    wider = features.replace(nodes=jnp.concatenate([features.nodes, never], axis=1))
    scores, with_router = (jax.jit(learner.networks.actor)(params.actor, x).nodes for x in (features, wider))
    np.testing.assert_allclose(with_router[:, :-1], scores, rtol=1e-4, atol=1e-4)
    assert np.all(with_router[:, -1] <= LEAST_SCORE)
