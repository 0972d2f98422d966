"""Whole tiny runs: compiled once, repeatable, stopped, resumed, vmapped, and trained from lists in a few lines."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.instances import INSTANCE
from helpers.transitions import KEY, TINY

from jaxcec.agents import (
    AgentConfig,
    EvolutionConfig,
    NotFiniteError,
    RunFolder,
    TrainedPolicy,
    load_policy,
    train,
    train_jittable,
    training,
)
from jaxcec.agents.run_folder import read_metrics
from jaxcec.env import build_instance
from jaxcec.evaluation.rollout import Contender, episode_keys, rollout
from jaxcec.policies import BASELINES
from jaxcec.scenarios import make_env

EVOLUTION = EvolutionConfig(generations=2, pairs=2)
CONFIG = AgentConfig(hidden=(16, 16), replay_size=64, batch_size=16, warmup_steps=2, evolution=EVOLUTION)
ENVS = 4
CHUNK = 1  # decisions per chunk in every test, so that one compiled program serves them all
SPEED = "decisions_per_s"

pytestmark = pytest.mark.usefixtures("lax_promotion")


@pytest.fixture(scope="module")
def short_run():
    """Two runs of one seed and one of another, three chunks each.

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
            runner = training.init_runner(env, params, CONFIG, jax.random.key(seed), num_envs=ENVS)
            runner, _ = training.warm_up(env, params, CONFIG, runner, steps=2)
            chunks = []
            for _ in range(3):
                handed_in.append(runner)
                # another learning rate is another number, and no other program
                config = CONFIG.replace(critic_learning_rate=CONFIG.critic_learning_rate * (1 + len(chunks)))
                runner, chunk = training.train_chunk(env, params, config, runner, steps=CHUNK)
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
            assert a[name].shape[0] == CHUNK
            assert np.isfinite(a[name]).all()
            np.testing.assert_array_equal(a[name], b[name])
        assert (a["critic_loss"] != c["critic_loss"]).all()


def two_iterations(config: AgentConfig, step: int = 0):
    """A tiny runner before and after two iterations, starting at a step, and their metrics."""
    env, params = make_env(TINY, "train")
    runner = training.init_runner(env, params, config, KEY, num_envs=ENVS)
    runner, _ = training.warm_up(env, params, config, runner.replace(step=jnp.uint32(step)), steps=2)
    before = jax.tree.map(jnp.copy, runner)  # the runner that is handed in is donated
    chunks = []
    for _ in range(2):
        runner, metrics = training.train_chunk(env, params, config, runner, steps=CHUNK)
        chunks.append(metrics)
    return before, runner, jax.tree.map(lambda *x: np.concatenate(x), *chunks)


def test_the_counter_of_decisions_exceeds_31_bits():
    _, after, metrics = two_iterations(CONFIG, step=2**31 - 3)
    assert int(after.step) == 2**31 + 1
    assert np.isfinite(metrics["critic_loss"]).all()


def test_numbers_that_are_not_finite_are_reported_and_not_learned():
    before, after, metrics = two_iterations(CONFIG.replace(reward_scale=1e30))
    np.testing.assert_array_equal(metrics["finite"], [0.0, 0.0])
    chex.assert_trees_all_equal(after.agent, before.agent)
    assert int(after.step) == int(before.step) + 2, "the loop goes on deciding; the host stops it"


def run(callback=None, config=CONFIG, decisions=48, resume=None, **settings):
    env, params = make_env(TINY, "train")
    arguments = {"num_envs": ENVS, "total_decisions": decisions, "key": KEY, "validation_episodes": 4} | settings
    return train(env, params, config, callback=callback, resume=resume, **arguments)


def test_the_callback_sees_every_stage_and_the_best_policy_is_returned():
    reports, bests = [], []

    def callback(report):
        reports.append(report)
        bests.append(jax.tree.map(np.asarray, report.state.best))

    trained = run(callback)
    assert [r.stage for r in reports] == ["evolution"] * 2 + ["training"] * 11
    assert [r.done for r in reports] == [1, 2, *range(2, 13)]
    acts = [r.metrics["validation_act"] for r in reports if "validation_act" in r.metrics]
    assert len(acts) == 3, "the untrained agent, every eighth chunk, and the end"
    assert float(reports[-1].state.best_act) == pytest.approx(min(acts))
    chex.assert_trees_all_equal(trained.params, bests[-1])
    env, params = make_env(TINY, "train")
    keys = training.validation_keys(KEY, 4)
    act = rollout(env, params, apply=trained.apply(env), params=trained.params, keys=keys).act.mean()
    assert float(act) == pytest.approx(min(acts))


def test_a_run_that_was_stopped_continues_to_the_same_metrics():
    whole, first, rest = [], [], []
    run(lambda report: whole.append(report.metrics) and None)
    kept = []

    def stop_after_six(report):
        first.append(report.metrics)
        kept[:] = [report.state]
        return len(first) == 6

    run(stop_after_six)
    run(lambda report: rest.append(report.metrics) and None, resume=kept[0])

    def without_speed(rows):
        return [{name: x for name, x in row.items() if name != SPEED} for row in rows]

    assert without_speed(first + rest) == without_speed(whole)


def test_a_run_folder_continues_and_is_not_overwritten(tmp_path):
    env, params = make_env(TINY, "train")
    arguments = {"num_envs": ENVS, "total_decisions": 48, "key": KEY, "validation_episodes": 4}
    whole = RunFolder(tmp_path / "whole", CONFIG, env.config)
    train(env, params, CONFIG, callback=whole, **arguments)
    first = RunFolder(tmp_path / "run", CONFIG, env.config)
    train(env, params, CONFIG, callback=lambda report: first(report) or report.done == 7, **arguments)
    first.save()
    with pytest.raises(ValueError, match="which holds a run"):
        RunFolder(tmp_path / "run", CONFIG, env.config)
    rest = RunFolder(tmp_path / "run", CONFIG, env.config, exist_ok=True)
    state = rest.load(env, params, num_envs=ENVS)
    assert rest.step == 7
    train(env, params, CONFIG, callback=rest, resume=state, **arguments)

    def columns(rows):
        return [{name: x for name, x in row.items() if name != SPEED and x is not None} for row in rows]

    assert columns(rest.rows) == columns(whole.rows)


def test_a_run_stopped_in_the_evolution_continues_from_its_newest_generation(tmp_path):
    env, params = make_env(TINY, "train")
    folder = RunFolder(tmp_path / "run", CONFIG, env.config, save_every=0.0)
    run(lambda report: folder(report) or report.done == 2)
    folder.save()
    state = RunFolder(tmp_path / "run", CONFIG, env.config, exist_ok=True).load(env, params, num_envs=ENVS)
    assert int(state.runner.evolution.generation) == 2


def test_a_new_run_replaces_the_checkpoints_and_without_validation_keeps_its_last_policy(tmp_path):
    env, params = make_env(TINY, "train")
    run(RunFolder(tmp_path / "run", CONFIG, env.config, save_every=0.0))
    shorter = RunFolder(tmp_path / "run", CONFIG, env.config, exist_ok=True)
    trained = run(shorter, decisions=16, validation_episodes=0)
    shorter.save()
    again = RunFolder(tmp_path / "run", CONFIG, env.config, exist_ok=True)
    assert int(again.load(env, params, num_envs=ENVS).runner.step) == 4
    read = load_policy(tmp_path / "run" / "policy.msgpack", env.reset(KEY, params)[0])
    chex.assert_trees_all_equal(read.params, trained.params)


def test_without_validation_the_last_policy_is_returned():
    last = []

    def callback(report):
        last[:] = [jax.tree.map(np.asarray, report.state.runner.agent.target.actor)]
        assert "validation_act" not in report.metrics

    trained = run(callback, validation_episodes=0)
    chex.assert_trees_all_equal(trained.params.actor, last[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "num_envs: got 0; must be at least 1"),
        ({"decisions": 0}, "total_decisions: got 0; must be at least 1"),
        ({"config": CONFIG.replace(algorithm="sac")}, "agent.algorithm: got 'sac'"),
        ({"config": CONFIG.replace(discount=jnp.float32(0.9))}, "agent.discount: got 0.89.*; must be a plain number"),
    ],
)
def test_impossible_runs_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        run(**settings)


def test_a_diverging_run_stops():
    with pytest.raises(NotFiniteError, match="step 3: a loss, a reward or a parameter is not a finite number"):
        run(config=CONFIG.replace(reward_scale=1e30, evolution=EvolutionConfig(generations=0)))


def test_seeds_and_learning_rates_share_one_compiled_program():
    """4 seeds x 3 learning rates: traced once, and each as `train` trains it alone."""
    env, params = make_env(TINY, "train")

    @jax.jit
    @chex.assert_max_traces(n=1)
    def grid(rates, keys):
        def one(rate, key):
            config = CONFIG.replace(critic_learning_rate=rate, actor_learning_rate=rate)
            return train_jittable(env, params, config, num_envs=ENVS, total_decisions=24, key=key)

        return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(rates, keys)

    keys = jax.random.split(KEY, 4)
    for rates in (jnp.array([1e-4, 1e-3, 1e-2]), jnp.array([2e-4, 2e-3, 2e-2])):
        policies, metrics = grid(rates, keys)
    assert metrics["critic_loss"].shape[:2] == (3, 4)
    losses = np.asarray(metrics["critic_loss"])[..., -1].reshape(3, 4)
    assert np.isfinite(losses).all() and len(np.unique(losses)) == 12
    config = CONFIG.replace(critic_learning_rate=2e-3, actor_learning_rate=2e-3)
    alone = run(config=config, decisions=24, key=keys[2], validation_episodes=0)
    one = jax.tree.map(lambda x: x[1, 2], policies)
    chex.assert_trees_all_close(one, alone.params, rtol=1e-3, atol=1e-5)


def test_a_run_from_lists_with_validation_checkpoint_and_curves(tmp_path):
    """What the notebook shows: an instance from lists, a run folder, and the policy next to EFT."""
    pytest.importorskip("matplotlib")
    env, params = build_instance(**INSTANCE)
    config = AgentConfig(algorithm="ddpg", hidden=(16,), replay_size=256, batch_size=32, evolution=EVOLUTION)
    folder = RunFolder(tmp_path / "run", config, env.config, origin="three nodes in a row")
    trained = train(env, params, config, num_envs=8, total_decisions=1600, key=KEY, callback=folder)
    folder.save()
    keys = episode_keys(seed=1, count=4)
    acts = {
        contender.name: float(
            rollout(env, params, apply=contender.apply, params=contender.params, keys=keys).act.mean()
        )
        for contender in (Contender.of_rule("eft", BASELINES["eft"]), trained.contender(env))
    }
    assert set(acts) == {"eft", "ddpg"} and all(act > 0 for act in acts.values())
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"metrics.csv", "curves.png", "policy.msgpack", "checkpoints"} <= made
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert rows[-1]["step"] == 200 and rows[-1]["validation_act"] > 0
    read = load_policy(tmp_path / "run" / "policy.msgpack", env.reset(KEY)[0])
    chex.assert_trees_all_equal(read.params, trained.params)
    assert isinstance(read, TrainedPolicy) and read.origin.startswith("three nodes in a row, ")
