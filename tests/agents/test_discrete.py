"""DQN and PPO: their losses by hand, probes of known value, and whole tiny runs from the command line."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from test_learning import (
    AGENT,
    BATCH,
    KEY,
    TINY,
    V,
    critic_that_reads_a_feature,
    experience_of,
    features_of,
    fresh_agent,
    numbered,
)

from jaxcec.agents import dqn, ppo, replay
from jaxcec.agents.act import choose
from jaxcec.agents.checkpoint import load_policy, policy_algorithm, save_policy
from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import init_params
from jaxcec.agents.evolution import begin, end
from jaxcec.agents.features import encode
from jaxcec.agents.networks import PRICES, Actor, Critic, Value, full_flow, node_logits, node_values
from jaxcec.agents.replay import Decided
from jaxcec.commands import train as command
from jaxcec.scenarios import Scenario, make_env

DQN = dataclasses.replace(AGENT, algorithm="dqn", learn_flow=False)
PPO = dataclasses.replace(AGENT, algorithm="ppo", learn_flow=False, rollout_steps=8)
STEPS, ENVS = 8, 32
update_dqn = jax.jit(dqn.update, static_argnums=0)
update_ppo = jax.jit(ppo.update, static_argnums=0)
logits_of = jax.jit(node_logits, static_argnums=0)


def decided_of(features, node, reward, discount, weight) -> Decided:
    batch = vars(experience_of(features, node, reward, features, discount, weight))
    return Decided(**{name: value for name, value in batch.items() if name != "following"})


def regret(features, node) -> float:
    """How much the first number of the best row is above that of the chosen one; 0.3 for a random choice."""
    values = features.nodes[..., 0]
    return float((values.max(axis=-1) - np.take_along_axis(values, node[..., None], -1)[..., 0]).mean())


@pytest.mark.parametrize("network", ["per-node", "flat"])
def test_node_values_are_the_critics_of_each_choice(network):
    config = dataclasses.replace(DQN, network=network)
    features, critic = features_of(np.random.default_rng(5), 3), fresh_agent(config).params.critic
    values = jax.jit(node_values, static_argnums=0)(config, critic, features)
    for node in range(V):
        choice = full_flow(jax.nn.one_hot(np.full(3, node), V))
        np.testing.assert_allclose(values[:, node], Critic(config).apply(critic, features, choice), rtol=1e-5)


@pytest.mark.parametrize("config", [DQN, PPO], ids=["dqn", "ppo"])
def test_the_mask_excludes_nodes(config):
    features, network = features_of(np.random.default_rng(6), 50), fresh_agent(config).params.chooser
    mask = np.random.default_rng(7).random((50, V)) < 0.5
    mask[:, 2] = True
    free, masked = logits_of(config, network, features), logits_of(config, network, features, mask)
    np.testing.assert_array_equal(np.asarray(masked)[mask], np.asarray(free)[mask])
    log_probs = jax.nn.log_softmax(masked)
    assert (np.asarray(jnp.exp(log_probs))[~mask] == 0).all()
    assert np.isfinite(jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)).all(), "entropy"


def test_the_online_critic_chooses_and_the_target_judges():
    """Online, a node is worth -2 x its first number: the least comes next, and is worth 3 x it to the target."""
    critic, rng = fresh_agent(DQN).params.critic, np.random.default_rng(1)
    online, target = critic_that_reads_a_feature(critic, -2.0), critic_that_reads_a_feature(critic, 3.0)
    features, following = features_of(rng, 3), features_of(rng, 3)
    batch = experience_of(features, [3, 1, 0], [1.0, 2.0, 50.0], following, [0.9, 0.0, 0.9], [1.0, 1.0, 0.0])
    now, later = features.nodes[..., 0], following.nodes[..., 0]
    errors = [1.0 + 0.9 * 3.0 * later[0].min() + 2.0 * now[0, 3], 2.0 + 2.0 * now[1, 1]]
    loss = jax.jit(dqn.q_loss, static_argnums=0)(DQN, online, target, batch)
    np.testing.assert_allclose(loss, np.mean(np.square(errors)), rtol=1e-5)


@pytest.mark.usefixtures("lax_promotion")
def test_dqn_learns_the_values_of_a_world_it_knows():
    """The reward is a feature of the chosen node, and the same state follows: the best node is worth twice its own."""
    agent, rng = fresh_agent(DQN), np.random.default_rng(3)
    assert agent.params.actor is None and agent.actor_optimiser is None
    for _ in range(800):
        features, node = features_of(rng, BATCH), rng.integers(0, V, BATCH)
        reward = features.nodes[np.arange(BATCH), node, 0]
        agent, _ = update_dqn(DQN, agent, experience_of(features, node, reward, features, 0.5, 1.0))
    features = features_of(rng, 500)
    logits = np.asarray(logits_of(DQN, agent.params.chooser, features))
    assert regret(features, logits.argmax(axis=-1)) < 0.03
    expected = features.nodes[..., 0] + features.nodes[..., 0].max(axis=-1, keepdims=True)
    assert np.abs(DQN.entropy * logits - expected).mean() < 0.12


def test_the_newest_decisions_are_read_in_order_around_the_end_of_the_ring():
    buffer = replay.create(jax.tree.map(lambda x: x[0], numbered(0)), num_envs=2, size=6)
    for t in range(6):
        buffer = jax.jit(replay.add)(buffer, numbered(2 * t, 2 * t + 1))
    np.testing.assert_array_equal(replay.newest(buffer, 3).reward, [[6, 7], [8, 9], [10, 11]])


def test_advantages_are_those_computed_by_hand():
    """Lambda 0.5, discount 0.8; at the second decision one environment terminates, the other is truncated."""
    config = dataclasses.replace(PPO, gae_lambda=0.5)
    reward = np.float32([[1, 1], [2, 2], [3, 3]])
    discount, weight = np.float32([[0.8, 0.8], [0, 0.8], [0.8, 0.8]]), np.float32([[1, 1], [1, 0], [1, 1]])
    decided = decided_of(features_of(np.random.default_rng(0), 3, 2), np.zeros((3, 2)), reward, discount, weight)
    values = np.float32([[10, 10], [20, 20], [30, 30], [40, 40]])
    last = 3 + 0.8 * 40 - 30
    ended = 2 - 20  # nothing follows
    expected = [[1 + 0.8 * 20 - 10 + 0.4 * ended, 1 + 0.8 * 20 - 10], [ended, 0], [last, last]]
    np.testing.assert_allclose(ppo.advantages(config, decided, values), expected, rtol=1e-6)


def test_ratios_count_no_further_than_the_clip():
    """What was decided is now four times as likely: a gain counts 1.2 times, a loss four times."""
    config = dataclasses.replace(PPO, entropy=0.0, network="flat")
    actor = jax.tree.map(np.zeros_like, fresh_agent(config).params.actor)
    features, one = features_of(np.random.default_rng(8), 3), np.ones(3, np.float32)
    before = np.full(3, np.log(1 / V / 4), np.float32)
    batch = ppo.Sample(features, np.int32([0, 1, 2]), np.float32([1, 1, 0]), before, np.float32([1, -1, 9]), one)
    loss, slope = jax.value_and_grad(lambda p: ppo.policy_loss(config, p, batch))(actor)
    np.testing.assert_allclose(loss, -(1.2 - 4.0) / 2, rtol=1e-5)
    np.testing.assert_allclose(slope["params"]["MLP_0"]["Dense_1"]["bias"].reshape(V, 3)[:, 0], [-0.5, 1.5, -0.5, -0.5])


@pytest.mark.usefixtures("lax_promotion")
def test_ppo_learns_the_best_node_of_a_bandit():
    """Nodes are drawn from the policy, the reward is a feature of the chosen one, and nothing follows."""
    agent, rng = fresh_agent(PPO), np.random.default_rng(3)
    assert jax.tree.leaves(agent.target) == [] and agent.policy is agent.params
    for key in jax.random.split(KEY, 100):
        features = features_of(rng, STEPS, ENVS)
        node = np.asarray(jax.random.categorical(key, logits_of(PPO, agent.params.actor, features)))
        reward = np.take_along_axis(features.nodes[..., 0], node[..., None], -1)[..., 0]
        last = jax.tree.map(lambda x: x[0], features)
        agent, _ = update_ppo(PPO, agent, decided_of(features, node, reward, 0.0, 1.0), last, key)
    features = features_of(rng, 500)
    assert regret(features, np.asarray(Actor(PPO).apply(agent.params.actor, features).nodes.argmax(axis=-1))) < 0.03
    values = Value(PPO).apply(agent.params.critic, features)
    assert np.abs(values - features.nodes[..., 0].max(axis=-1)).mean() < 0.15


@pytest.mark.parametrize("algorithm", ["dtdrlmo", "ddpg", "ppo", "dqn"])
def test_found_prices_enter_every_network_that_has_some(algorithm):
    agent = fresh_agent(AgentConfig(algorithm=algorithm, hidden=(8,)))
    evolution = begin(agent)
    found = end(agent, evolution.replace(average=evolution.average + 1.0))
    for before, after in ((agent.params, found.params), (agent.target, found.target)):
        assert jax.tree.structure(before) == jax.tree.structure(after)
        for path, new in jax.tree_util.tree_leaves_with_path(after):
            old = dict(jax.tree_util.tree_leaves_with_path(before))[path]
            np.testing.assert_array_equal(new, old + 1.0 if f"'{PRICES}'" in jax.tree_util.keystr(path) else old)


@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_a_policy_read_back_acts_the_same(algorithm, tmp_path):
    env, env_params = make_env(TINY, "train")
    observation, _ = env.reset(KEY, env_params)
    config = AgentConfig(algorithm=algorithm, hidden=(8,), entropy=1.0)
    params = init_params(config, KEY, encode(observation))
    save_policy(tmp_path / "policy.msgpack", config, params, env.config, "a test")
    read, like, _ = load_policy(tmp_path / "policy.msgpack", observation)
    assert read == config
    action, again = (choose(config, p, observation, KEY, explore=False).action for p in (params, like))
    jax.tree.map(np.testing.assert_array_equal, again, action)
    assert action.bandwidth == 1.0 and action.hold == 0.0
    explored = [int(choose(config, params, observation, key, explore=True).node) for key in jax.random.split(KEY, 30)]
    assert len(set(explored)) > 1


@pytest.mark.usefixtures("lax_promotion")
@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_a_run_from_the_command_line(algorithm, tmp_path):
    """Shared by two devices; with prices from one generation."""
    agent = {"algorithm": algorithm, "hidden": [8, 8], "replay_size": 64, "batch_size": 16, "warmup_steps": 2}
    agent |= {"evolution": 1, "evolution_pairs": 2, "rollout_steps": 4, "ppo_epochs": 2}
    scenario = {name: x for name, x in vars(TINY).items() if x != getattr(Scenario(), name)}
    settings = {"scenario": scenario, "agent": agent, "num_envs": 4, "total_decisions": 40}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    command.main(["--config", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run"), "--devices", "2"])
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == ([2, 6, 10] if algorithm == "ppo" else list(range(2, 11)))
    losses = {"critic_loss", "actor_loss"} if algorithm == "ppo" else {"critic_loss"}
    assert {name for name in rows[0] if name.endswith("loss")} == losses
    assert all(float(row[name]) > 0 for row in rows[1:] for name in ("critic_loss", "decisions_per_s"))
    assert policy_algorithm(tmp_path / "run" / "policy.msgpack") == algorithm


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "ppo", "exploration": 0.5}, "agent.exploration: got 0.5; must be 1"),
        ({"algorithm": "dqn", "entropy": 0.0}, "agent.entropy: got 0.0; must be positive"),
        ({"algorithm": "dqn", "learn_flow": True}, "agent.learn_flow: got True; must be False"),
        ({"ppo_clip": 0.0}, "agent.ppo_clip: got 0.0; must be positive"),
        ({"gae_lambda": 1.5}, "agent.gae_lambda: got 1.5; must be from 0 to 1"),
        ({"rollout_steps": 0}, "agent.rollout_steps: got 0; must be at least 1"),
        ({"ppo_epochs": 0}, "agent.ppo_epochs: got 0; must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AgentConfig(**change)
