"""The parts of learning one by one, on transitions made by hand or by formula; then a whole tiny training run."""

import dataclasses
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcec.agents import ddpg, replay, training
from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import COSTS, NODE_COLUMNS, RATE, Features, encode
from jaxcec.agents.networks import Actor, Critic, RelaxedAction
from jaxcec.agents.replay import Decided, Experience
from jaxcec.agents.twin import completion_reward, predict, twin_loss
from jaxcec.env import build_instance
from jaxcec.scenarios.scenario import Scenario, make_env

KEY = jax.random.key(0)
V = 4
BATCH = 64
COLUMNS = 1 + len(NODE_COLUMNS)
AGENT = AgentConfig(
    hidden=(64,),
    actor_learning_rate=3e-3,
    critic_learning_rate=5e-3,
    twin_learning_rate=5e-3,
    target_rate=0.25,
    entropy=1e-3,
    reward_scale=1.0,
    learn_flow=True,
)
one_step = jax.jit(ddpg.update, static_argnums=0)


def update(config, agent, batch):
    """One update of every network on the same transitions."""
    return one_step(config, agent, batch, batch)


def features_of(rng, *batch: int) -> Features:
    """Uniform features of V nodes with one resource, two links and a context; no costs, so that prices do nothing."""
    features = Features(*(rng.random((*batch, *shape), np.float32) for shape in ((V, COLUMNS), (2, 4), (12,))))
    features.nodes[..., -len(COSTS) :] = 0.0
    return features


def experience_of(features, node, reward, following, discount, weight) -> Experience:
    """A batch of transitions with full bandwidth and no hold."""
    numbers = {"reward": reward, "discount": discount, "weight": weight, "bandwidth": 1.0, "hold": 0.0}
    node = np.asarray(node, np.int32)
    numbers = {name: np.broadcast_to(np.asarray(x, np.float32), node.shape) for name, x in numbers.items()}
    return Experience(features=features, node=node, following=following, **numbers)


def fresh_agent(config: AgentConfig = AGENT) -> ddpg.AgentState:
    return jax.jit(ddpg.init_agent, static_argnums=0)(config, KEY, features_of(np.random.default_rng(0)))


def numbered(*numbers: int) -> Decided:
    """Decisions of as many environments, told apart by their reward, their node and their features."""
    features = features_of(np.random.default_rng(0), len(numbers))
    features = features.replace(context=np.broadcast_to(np.float32(numbers)[:, None], features.context.shape))
    batch = vars(experience_of(features, numbers, numbers, features, 0.9, 1.0))
    return Decided(**{name: value for name, value in batch.items() if name != "following"})


def stored(buffer) -> list[list[int]]:
    return np.asarray(buffer.blocks.reward).astype(int).tolist()


def test_replay_is_a_ring_of_blocks():
    one = jax.tree.map(lambda x: x[0], numbered(0))
    buffer = replay.create(one, num_envs=2, size=3)
    assert stored(buffer) == [[0, 0]] * 3, "rounded up to whole blocks, and one more"
    assert buffer.filled == 0
    for count, block in enumerate([(1, 2), (3, 4), (5, 6)], start=1):
        buffer = jax.jit(replay.add)(buffer, numbered(*block))
        assert buffer.filled == count
    assert stored(buffer) == [[1, 2], [3, 4], [5, 6]]
    buffer = jax.jit(replay.add)(buffer, numbered(7, 8))
    assert stored(buffer) == [[7, 8], [3, 4], [5, 6]]
    assert (buffer.filled, buffer.next) == (3, 1)


@pytest.mark.parametrize(("steps", "first"), [(3, 0), (4, 0), (6, 2)], ids=["filling", "full", "overwritten"])
@pytest.mark.parametrize("size", [800, 801, 2])
def test_replay_samples_every_transition_whose_next_state_is_known(steps, first, size):
    """Four blocks of two environments: decision t of environment e is numbered 2 t + e + 1."""
    one = jax.tree.map(lambda x: x[0], numbered(0))
    buffer = replay.create(one, num_envs=2, size=6)
    for t in range(steps):
        buffer = jax.jit(replay.add)(buffer, numbered(2 * t + 1, 2 * t + 2))
    draw = jax.jit(replay.sample, static_argnums=(2, 3))
    batches = [draw(buffer, key, size, 1) for key in jax.random.split(KEY, max(1, 400 // size))]
    batch = jax.tree.map(lambda *x: np.concatenate(x), *batches)
    assert batch.features.nodes.shape == (len(batch.node), V, COLUMNS)
    np.testing.assert_array_equal(batch.reward, batch.node), "one transition stays together"
    np.testing.assert_array_equal(batch.following.context[:, 0], batch.features.context[:, 0] + 2)
    counts = np.bincount(batch.node, minlength=2 * steps + 1)
    known = slice(2 * first + 1, 2 * steps - 1)
    assert counts[known].sum() == len(batch.node), "the newest block's next states are not known"
    expected = len(batch.node) / len(counts[known])
    assert np.abs(counts[known] - expected).max() < 5 * np.sqrt(expected)


def test_returns_stop_where_an_episode_ends_is_truncated_or_the_ring_does():
    """One environment, rewards 1 to 6; the third decision ends an episode, the fifth is truncated."""
    features = features_of(np.random.default_rng(0), 6)
    features = features.replace(context=np.broadcast_to(np.arange(6, dtype=np.float32)[:, None], (6, 12)))
    discounts, weights = [0.5, 0.5, 0.0, 0.5, 0.5, 0.5], [1, 1, 1, 1, 0, 1]
    buffer = None
    for t in range(6):
        one = experience_of(
            jax.tree.map(operator.itemgetter(t), features), t, t + 1.0, features, discounts[t], weights[t]
        )
        one = Decided(**{name: value for name, value in vars(one).items() if name != "following"})
        buffer = replay.create(one, num_envs=1, size=6) if buffer is None else buffer
        buffer = replay.add(buffer, jax.tree.map(lambda x: np.asarray(x)[None], one))
    batch = jax.tree.map(np.asarray, jax.jit(replay.sample, static_argnums=(2, 3))(buffer, KEY, 200, 3))
    expected = {  # first decision: return, discount of what follows, state after it
        0: (1 + 0.5 * 2 + 0.25 * 3, 0.0, None),
        1: (2 + 0.5 * 3, 0.0, None),
        2: (3, 0.0, None),
        3: (4, 0.5, 4),  # the fifth decision's successor is unknown: its own state is the last known
        4: None,
    }
    assert set(batch.node) == set(expected), "the newest decision's next state is not known"
    for i, first in enumerate(batch.node):
        if expected[first] is None:
            assert batch.weight[i] == 0
            continue
        total, discount, after = expected[first]
        assert (batch.weight[i], batch.discount[i]) == (1, discount)
        np.testing.assert_allclose(batch.reward[i], total, rtol=1e-6)
        assert after is None or batch.following.context[i, 0] == after


def critic_that_reads_a_feature(critic, scale: float):
    """Parameters of a per-node critic whose value of a node is `scale` x the first number of its row."""
    zero = jax.tree.map(np.zeros_like, critic)
    rows = zero["params"]["RowMLP_0"]
    rows["Dense_1"]["kernel"][0, 0] = 1.0
    rows["MLP_0"]["Dense_0"]["kernel"][0, 0] = scale
    return zero


def test_critic_loss_is_that_computed_by_hand():
    """The target actor is indifferent: its value of the next state is the mean over nodes. Weight 0 counts nothing."""
    params, rng = fresh_agent().params, np.random.default_rng(1)
    actor = jax.tree.map(np.zeros_like, params.actor)
    target = ddpg.AgentParams(
        actor=actor, critic=critic_that_reads_a_feature(params.critic, 3.0), twin=None, forecast=None
    )
    online = critic_that_reads_a_feature(params.critic, 2.0)
    features, following = features_of(rng, 3), features_of(rng, 3)
    batch = experience_of(features, [3, 1, 0], [1.0, 2.0, 50.0], following, [0.9, 0.0, 0.9], [1.0, 1.0, 0.0])
    now, later = features.nodes[..., 0], following.nodes[..., 0]
    errors = [1.0 + 0.9 * 3.0 * later[0].mean() - 2.0 * now[0, 3], 2.0 - 2.0 * now[1, 1]]
    loss = jax.jit(ddpg.critic_loss, static_argnums=0)(AGENT, online, target, batch)
    np.testing.assert_allclose(loss, np.mean(np.square(errors)), rtol=1e-5)
    ignored = jax.jit(ddpg.critic_loss, static_argnums=0)(AGENT, online, target, batch.replace(weight=np.zeros(3, "f")))
    assert ignored == 0


@pytest.mark.usefixtures("lax_promotion")
def test_update_moves_the_targets_by_the_target_rate():
    before, batch = fresh_agent(), linear_world(np.random.default_rng(1))
    after, _ = update(AGENT, before, batch)
    assert after.target.twin is None
    for name in ("actor", "critic"):
        old, new, target = (getattr(x, name) for x in (before.target, after.params, after.target))
        expected = jax.tree.map(lambda x, y: 0.75 * np.asarray(x) + 0.25 * np.asarray(y), old, new)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), target, expected)
        assert any(np.any(x != y) for x, y in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))


def test_completion_reward_is_equation_17():
    """-(C / P(s') + W + D / s_link), with 80 Mcycles, and a transfer of 10 s at full bandwidth to node 1."""
    service = {"release": 0, "source": 0, "preds": [[]], "load": [80], "data": [50], "demand": [[1]]}
    env, _ = build_instance(
        links=[(0, 1, 5)], node_speed=[10, 20], device_speed=[1, 1], capacity=[[1], [1]], services=[service]
    )
    seen, _ = env.reset(KEY)
    waiting = seen.replace(nodes=seen.nodes.replace(finish=seen.nodes.finish + 6.0))  # W = 6 s at both nodes
    features = encode(seen)
    foreseen = features.replace(nodes=features.nodes.at[:, 1].set(jnp.log1p(40.0 / RATE)))  # P(s') = 40, both

    def reward(observation, node, following):
        return completion_reward(observation, jnp.int32(node), jnp.float32(0.5), jnp.float32(3.0), following)

    np.testing.assert_allclose(reward(seen, 1, features), -(80 / 20 + 0 + 10 / 0.5 + 3), rtol=1e-5)
    np.testing.assert_allclose(reward(seen, 1, foreseen), -(80 / 40 + 0 + 10 / 0.5 + 3), rtol=1e-5)
    np.testing.assert_allclose(reward(waiting, 1, foreseen), -(80 / 40 + 6 + 10 / 0.5 + 3), rtol=1e-5)
    np.testing.assert_allclose(reward(waiting, 0, foreseen), -(80 / 40 + 6), rtol=1e-5), "no byte to move, no hold"


def linear_world(rng) -> Experience:
    """Every feature decays, the chosen node's grow by what the context says; the reward is linear in what follows."""
    features, node = features_of(rng, BATCH), rng.integers(0, V, BATCH)
    following = jax.tree.map(lambda x: np.float32(0.7) * x, features)
    following.nodes[np.arange(BATCH), node] += 0.5 * features.context[:, :1]
    reward = following.context[:, 0] - following.context[:, 1]
    return experience_of(features, node, reward, following, 0.9, 1.0)


@pytest.mark.usefixtures("lax_promotion")
def test_twin_learns_a_known_linear_transition():
    """On transitions that it was not trained on."""
    agent, rng = fresh_agent(), np.random.default_rng(2)
    unseen = linear_world(rng)
    action = ddpg.executed_action(unseen, V)

    @jax.jit
    def outcome(twin):
        loss, _ = twin_loss(AGENT, twin, unseen.features, action, unseen.reward, unseen.following, unseen.weight)
        return loss, predict(AGENT, twin, unseen.features, action)

    before, _ = outcome(agent.params.twin)
    for _ in range(400):
        agent, _ = update(AGENT, agent, linear_world(rng))
    after, (following, reward) = outcome(agent.params.twin)
    assert after < before / 10
    assert np.abs(reward - unseen.reward).mean() < 0.1
    assert np.abs(following.nodes - unseen.following.nodes).mean() < 0.05


@pytest.mark.usefixtures("lax_promotion")
def test_actor_learns_the_best_node_of_a_bandit():
    """The reward is a feature of the chosen node, nodes are tried at random, and nothing follows."""
    agent, rng = fresh_agent(), np.random.default_rng(3)
    for _ in range(600):
        features, node = features_of(rng, BATCH), rng.integers(0, V, BATCH)
        reward = features.nodes[np.arange(BATCH), node, 0]
        agent, _ = update(AGENT, agent, experience_of(features, node, reward, features, 0.0, 1.0))
    features = features_of(rng, 500)
    values = features.nodes[..., 0]
    chosen = np.asarray(jax.jit(Actor(AGENT).apply)(agent.params.actor, features).nodes.argmax(axis=-1))
    regret = values.max(axis=-1) - values[np.arange(500), chosen]
    assert regret.mean() < 0.03, "a random choice has 0.3"


def test_per_node_networks_do_not_care_how_nodes_are_numbered():
    rng, order, params = np.random.default_rng(4), np.array([2, 0, 3, 1]), fresh_agent().params
    features = features_of(rng, 5)
    renumbered = features.replace(nodes=features.nodes[:, order])
    actor, critic = jax.jit(Actor(AGENT).apply), jax.jit(Critic(AGENT).apply)
    for here, there in zip(actor(params.actor, features), actor(params.actor, renumbered), strict=True):
        assert np.ptp(here, axis=-1).min() > 1e-6, "nodes are told apart"
        np.testing.assert_allclose(there, here[:, order], rtol=1e-5, atol=1e-7)
    action = RelaxedAction(*rng.random((3, 5, V), np.float32))
    value = critic(params.critic, features, action)
    same = critic(params.critic, renumbered, jax.tree.map(lambda x: x[:, order], action))
    other = critic(params.critic, renumbered, action)
    np.testing.assert_allclose(same, value, rtol=1e-4, atol=1e-5)
    assert np.abs(other - value).max() > 1e-4, "but an action belongs to its node"


TINY = Scenario(
    name="tiny",
    num_services=2,
    max_microservices=4,
    num_topologies=2,
    num_dags=8,
    num_patterns=4,
    num_traces=2,
    num_frames=16,
    link_breakpoints=32,
    host_breakpoints=16,
)
TRAINING = AgentConfig(hidden=(16, 16), replay_size=64, batch_size=16, evolution=2, evolution_pairs=2)
ENVS = 4
CHUNK = 2


@pytest.fixture(scope="module")
def short_run():
    """Two runs of one seed and one of another, two chunks each.

    Returns:
        Metrics of each run's chunks, the runners that were handed in, and how often the loop was traced in each chunk.
    """
    env, params = make_env(TINY, "train")
    traces, original = [], training.update_step

    def counted(*args):
        traces.append(1)
        return original(*args)

    metrics, handed_in, counts = [], [], []
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):  # as in lax_promotion
        patch.setattr(training, "update_step", counted)
        for seed in (0, 0, 1):
            runner = training.init_runner(env, params, TRAINING, ENVS, jax.random.key(seed))
            runner, _ = training.warm_up(env, params, TRAINING, runner, 2)
            chunks = []
            for _ in range(2):
                handed_in.append(runner)
                runner, chunk = training.train_chunk(env, params, TRAINING, runner, CHUNK)
                chunks.append(jax.tree.map(np.asarray, chunk))
                counts.append(len(traces))
            metrics.append(chunks)
    return metrics, handed_in, counts


def test_training_is_traced_once(short_run):
    _, _, counts = short_run
    assert counts == [1] * len(counts)


def test_training_uses_up_the_runner(short_run):
    _, handed_in, _ = short_run
    for runner in handed_in:
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(runner))


def test_training_with_one_seed_gives_identical_metrics(short_run):
    (first, again, other), _, _ = short_run
    for a, b, c in zip(first, again, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].shape == (CHUNK,)
            assert np.isfinite(a[name]).all()
            np.testing.assert_array_equal(a[name], b[name])
        assert (a["critic_loss"] != c["critic_loss"]).all()


def run(config: AgentConfig, step: int = 0):
    """A tiny runner before and after two iterations, which begin at a step, and their metrics."""
    env, params = make_env(TINY, "train")
    with jax.numpy_dtype_promotion("standard"):
        runner = training.init_runner(env, params, config, ENVS, KEY)
        runner, _ = training.warm_up(env, params, config, runner.replace(step=jnp.uint32(step)), 2)
        before = jax.tree.map(jnp.copy, runner)  # what is handed in is donated
        return before, *training.train_chunk(env, params, config, runner, 2)


def test_the_counter_of_decisions_goes_past_31_bits():
    _, after, metrics = run(TRAINING, step=2**31 - 3)
    assert int(after.step) == 2**31 + 1
    assert np.isfinite(metrics["critic_loss"]).all()


def test_what_is_not_finite_is_told_and_not_learned():
    before, after, metrics = run(dataclasses.replace(TRAINING, reward_scale=1e30))
    np.testing.assert_array_equal(metrics["finite"], [0.0, 0.0])
    chex.assert_trees_all_equal(after.agent, before.agent)
    assert int(after.step) == int(before.step) + 2, "it goes on deciding; whoever runs it stops it"
