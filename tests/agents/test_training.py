"""Whole tiny runs: compiled once, repeatable, stopped, resumed, vmapped, and trained from lists in a few lines."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import CONFIG, ENVS, SCENARIO
from helpers.transitions import KEY

from jaxcec.agents import (
    AgentConfig,
    EvolutionConfig,
    NotFiniteError,
    RunFolder,
    load_policy,
    loop,
    train,
    train_jittable,
    training,
)
from jaxcec.agents.sharding import env_mesh, replicated
from jaxcec.evaluation.rollout import rollout
from jaxcec.scenarios import make_env

CHUNK = 1  # decisions per chunk in every test, so that one compiled program serves them all
DECISIONS = 12 * ENVS
SPEED = "decisions_per_s"

pytestmark = pytest.mark.usefixtures("lax_promotion")


@pytest.fixture(scope="module")
def short_run():
    """Two runs of one seed and one of another, three chunks each.

    Returns:
        Metrics of each run's chunks, the runners that were handed in, and how often the loop was traced in each chunk.
    """
    env, params = make_env(SCENARIO, "train")
    traces, original = [], loop.update_step

    def counted(*args):
        traces.append(1)
        return original(*args)

    metrics, handed_in, counts = [], [], []
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):  # as in lax_promotion
        patch.setattr(loop, "update_step", counted)
        for seed in (0, 0, 1):
            runner = loop.init_runner(env, params, CONFIG, jax.random.key(seed), num_envs=ENVS)
            runner, _ = loop.warm_up(env, params, CONFIG, runner, steps=2)
            chunks = []
            for _ in range(3):
                handed_in.append(runner)
                # another learning rate is another number, and no other program
                config = CONFIG.replace(critic_learning_rate=CONFIG.critic_learning_rate * (1 + len(chunks)))
                runner, chunk = loop.train_chunk(env, params, config, runner, steps=CHUNK)
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
    env, params = make_env(SCENARIO, "train")
    runner = loop.init_runner(env, params, config, KEY, num_envs=ENVS)
    runner, _ = loop.warm_up(env, params, config, runner.replace(step=jnp.uint32(step)), steps=2)
    before = jax.tree.map(jnp.copy, runner)  # the runner that is handed in is donated
    chunks = []
    for _ in range(2):
        runner, metrics = loop.train_chunk(env, params, config, runner, steps=CHUNK)
        chunks.append(metrics)
    return before, runner, jax.tree.map(lambda *x: np.concatenate(x), *chunks)


def test_the_counter_of_decisions_exceeds_31_bits():
    _, after, metrics = two_iterations(CONFIG, step=2**31 - 3)
    assert int(after.step) == 2**31 + 1
    assert np.isfinite(metrics["critic_loss"]).all()


def test_numbers_that_are_not_finite_are_reported():
    before, after, metrics = two_iterations(CONFIG.replace(reward_scale=1e30))
    np.testing.assert_array_equal(metrics["finite"], [0.0, 0.0])
    assert int(after.step) == int(before.step) + 2, "the loop goes on deciding; the host stops it"


def run(callback=None, config=CONFIG, decisions=DECISIONS, resume=None, **settings):
    env, params = make_env(SCENARIO, "train")
    arguments = {"num_envs": ENVS, "total_decisions": decisions, "key": KEY} | settings
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
    env, params = make_env(SCENARIO, "train")
    keys = training.validation_keys(KEY)
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
    env, params = make_env(SCENARIO, "train")
    arguments = {"num_envs": ENVS, "total_decisions": DECISIONS, "key": KEY}
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
    env, params = make_env(SCENARIO, "train")
    folder = RunFolder(tmp_path / "run", CONFIG, env.config, save_every=0.0)
    run(lambda report: folder(report) or report.done == 2)
    folder.save()
    state = RunFolder(tmp_path / "run", CONFIG, env.config, exist_ok=True).load(env, params, num_envs=ENVS)
    assert int(state.runner.evolution.generation) == 2


def test_a_new_run_replaces_the_checkpoints_and_without_validation_keeps_its_last_policy(tmp_path):
    env, params = make_env(SCENARIO, "train")
    run(RunFolder(tmp_path / "run", CONFIG, env.config, save_every=0.0), decisions=6 * ENVS)
    shorter = RunFolder(tmp_path / "run", CONFIG, env.config, exist_ok=True)
    trained = run(shorter, decisions=4 * ENVS, validation_episodes=0)
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
        run(config=CONFIG.replace(reward_scale=1e30))


WITHOUT_EVOLUTION = CONFIG.replace(evolution=EvolutionConfig(generations=0))  # which compiles as long as the rest


def metrics_of(rate, key, mesh=None):
    """The metrics of each iteration of a short run without evolution, at a learning rate, on the devices of a mesh."""
    env, params = make_env(SCENARIO, "train")
    if mesh is not None:
        params, key = replicated(mesh, (params, key))
    config, rows = WITHOUT_EVOLUTION.replace(critic_learning_rate=rate, actor_learning_rate=rate), []
    arguments = {"num_envs": ENVS, "total_decisions": 6 * ENVS, "validation_episodes": 0}
    train(env, params, config, key=key, mesh=mesh, callback=lambda r: rows.append(r.metrics), **arguments)
    return [row for row in rows if "critic_loss" in row]


def test_seeds_and_learning_rates_share_one_compiled_program():
    """4 seeds x 3 learning rates: traced once, and each as `train` trains it alone."""
    env, params = make_env(SCENARIO, "train")

    @jax.jit
    @chex.assert_max_traces(n=1)
    def grid(rates, keys):
        def one(rate, key):
            config = WITHOUT_EVOLUTION.replace(critic_learning_rate=rate, actor_learning_rate=rate)
            return train_jittable(env, params, config, num_envs=ENVS, total_decisions=6 * ENVS, key=key)

        return jax.vmap(one)(jnp.repeat(rates, keys.size), jnp.tile(keys, rates.size))

    keys = jax.random.split(KEY, 4)
    for rates in (jnp.array([1e-4, 1e-3, 1e-2]), jnp.array([2e-4, 2e-3, 2e-2])):
        losses = np.asarray(grid(rates, keys)[1]["critic_loss"]).reshape(3, 4, -1)
    assert np.isfinite(losses).all() and len(np.unique(losses.mean(axis=-1))) == 12
    alone = [row["critic_loss"] for row in metrics_of(2e-3, keys[2])]
    # Within 1 %: the two programs round differently, and training amplifies it from update to update.
    np.testing.assert_allclose(losses[1, 2], alone, rtol=1e-2)


def test_two_devices_learn_what_one_does():
    mesh = env_mesh(jax.devices()[:2])
    one, two = metrics_of(1e-3, KEY), metrics_of(1e-3, KEY, mesh=mesh)
    assert mesh.size == 2 and len(one) > 2
    for name in ("reward", "critic_loss", "actor_loss", "twin_error"):
        values = [[row[name] for row in rows] for rows in (two, one)]
        np.testing.assert_allclose(*values, rtol=2e-3, atol=1e-5, err_msg=name)
