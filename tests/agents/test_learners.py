"""What holds for every algorithm of the table, and a learner of one's own."""

import csv

import jax
import numpy as np
import pytest
import yaml
from helpers.runs import SCENARIO
from helpers.transitions import KEY, new_agent

from jaxcec.agents import (
    LEARNERS,
    AgentConfig,
    EvolutionConfig,
    PPOConfig,
    TrainedPolicy,
    TwinConfig,
    encode,
    learner_for,
    load_policy,
    save_policy,
)
from jaxcec.agents.checkpoint import policy_algorithm
from jaxcec.agents.evolution import init_evolution, with_found_prices
from jaxcec.agents.networks import PRICES
from jaxcec.commands import train as command
from jaxcec.policies import PlanConfig
from jaxcec.scenarios import Scenario, make_env


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_found_prices_enter_every_network_that_has_prices(algorithm):
    agent = new_agent(AgentConfig(algorithm=algorithm, hidden=(8,)))
    evolution = init_evolution(agent)
    found = with_found_prices(agent, evolution.replace(average=evolution.average + 1.0))
    for before, after in ((agent.params, found.params), (agent.target, found.target)):
        assert jax.tree.structure(before) == jax.tree.structure(after)
        for path, new in jax.tree_util.tree_leaves_with_path(after):
            old = dict(jax.tree_util.tree_leaves_with_path(before))[path]
            np.testing.assert_array_equal(new, old + 1.0 if f"'{PRICES}'" in jax.tree_util.keystr(path) else old)


def test_networks_without_prices_have_none_to_find():
    assert init_evolution(new_agent(AgentConfig(network="flat", hidden=(8,)))) is None


@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_a_policy_read_back_acts_the_same(algorithm, tmp_path):
    env, env_params = make_env(SCENARIO, "train")
    observation, _ = env.reset(KEY, env_params)
    config = AgentConfig(algorithm=algorithm, hidden=(8,), entropy=1.0)
    learner = learner_for(config)
    policy = TrainedPolicy(config, learner.init_params(KEY, encode(observation)), "a test")
    save_policy(f"{tmp_path}/policy.msgpack", policy, env.config)
    read = load_policy(f"{tmp_path}/policy.msgpack", observation)
    assert (read.config, read.origin) == (config, "a test")
    choices = [learner.act(p.params, observation, KEY, explore=False) for p in (policy, read)]
    action, again = (choice.action for choice in choices)
    jax.tree.map(np.testing.assert_array_equal, again, action)
    assert action.bandwidth == 1.0 and action.hold == 0.0
    keys = jax.random.split(KEY, 30)
    explored = [int(learner.act(policy.params, observation, key, explore=True).node) for key in keys]
    assert len(set(explored)) > 1


@pytest.mark.usefixtures("lax_promotion")
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_a_run_from_the_command_line(algorithm, tmp_path):
    """Shared by two devices; with prices from one generation."""
    agent = {"algorithm": algorithm, "hidden": [8, 8], "replay_size": 64, "batch_size": 16, "warmup_steps": 2}
    agent |= {"evolution": {"generations": 1, "pairs": 2}, "ppo": {"rollout_steps": 4, "epochs": 2}}
    scenario = {name: x for name, x in vars(SCENARIO).items() if x != getattr(Scenario(), name)}
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
    ("make", "message"),
    [
        (lambda: learner_for(AgentConfig(algorithm="sac")), "agent.algorithm: got 'sac'; must be one of dtdrlmo-plan"),
        (lambda: learner_for(AgentConfig(algorithm="ppo", exploration=0.5)), "agent.exploration: got 0.5; must be 1"),
        (lambda: learner_for(AgentConfig(algorithm="dqn", network="flat", entropy=0.0)), "agent.entropy: got 0.0"),
        (lambda: learner_for(AgentConfig(algorithm="dqn", network="flat", entropy=0)), "agent.entropy: got 0"),
        (lambda: learner_for(AgentConfig(algorithm="dqn", learn_flow=True)), "agent.learn_flow: got True; must be F"),
        (
            lambda: AgentConfig(information="all"),
            "agent.information: got 'all'; must be one of state, mirror, lookahead",
        ),
        (lambda: learner_for(AgentConfig(algorithm="ddpg", postpone=True)), "agent.postpone: got True; must be False"),
        (lambda: EvolutionConfig(slowest=2.0, fastest=1.0), "agent.evolution.slowest: got 2.0; must be at most"),
        (lambda: TwinConfig(hidden=()), "agent.twin.hidden: got .*; must be at least one positive integer"),
        (lambda: AgentConfig(network="deep"), "agent.network: got 'deep'; must be one of per-node, flat"),
        (lambda: AgentConfig(entropy=0.0), "agent.entropy: got 0.0; must be positive with network per-node"),
        (lambda: AgentConfig(discount=1.5), "agent.discount: got 1.5; must be from 0 to 1"),
        (lambda: AgentConfig(reward_scale=float("nan")), "agent.reward_scale: got nan; must be finite"),
        (lambda: PPOConfig(clip=0.0), "agent.ppo.clip: got 0.0; must be positive"),
        (lambda: PPOConfig(gae_lambda=1.5), "agent.ppo.gae_lambda: got 1.5; must be from 0 to 1"),
        (lambda: PPOConfig(rollout_steps=0), "agent.ppo.rollout_steps: got 0; must be at least 1"),
        (lambda: PPOConfig(epochs=0), "agent.ppo.epochs: got 0; must be at least 1"),
        (lambda: TwinConfig(learning_rate=0.0), "agent.twin.learning_rate: got 0.0; must be positive"),
        (lambda: EvolutionConfig(pairs=0), "agent.evolution.pairs: got 0; must be at least 1"),
        (lambda: PlanConfig(toll=float("inf")), "plan.toll: got inf; must be finite and at most 1e30 in size"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
