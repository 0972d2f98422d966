"""The environment's contract: rewards, determinism, compilation, the end of an episode, spaces."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from episodes import SMALL, STEPS, identical, random_actions, rollout

from jaxcec.env import Action, CECEnv, flatten, observation_size
from jaxcec.scenarios.scenario import make_env

ENVS = 8  # environments side by side
KEY = jax.random.key(1)
KEYS = jax.random.split(KEY, ENVS)


@pytest.fixture(scope="module")
def small():
    return make_env(SMALL, "train")


@pytest.fixture(scope="module")
def episodes(small):
    """Observations and records of random episodes, (ENVS, STEPS + 3): some steps beyond the longest."""
    env, params = small
    _, states = jax.vmap(env.reset_env, in_axes=(0, None))(KEYS, params)
    return jax.vmap(rollout, in_axes=(None, None, 0, 0))(env, params, states, random_actions(env, KEY, ENVS, STEPS + 3))


@partial(jax.jit, static_argnums=0)
def run(env, params, keys, actions):
    """Steps with auto-reset from `reset(keys[0])`: each step's (observation, reward, terminated, truncated, info)."""

    def step(state, inputs):
        key, action = inputs
        observation, state, *outcome = env.step(key, state, action, params)
        return state, (observation, *outcome)

    _, state = env.reset(keys[0], params)
    return jax.lax.scan(step, state, (keys, actions))[1]


def each_step(env, params, steps: int):
    """`run` in ENVS environments, under random actions."""
    keys = jax.vmap(lambda key: jax.random.split(key, steps))(KEYS)
    return jax.vmap(run, in_axes=(None, None, 0, 0))(env, params, keys, random_actions(env, KEY, ENVS, steps))


def first_step(env, params, action=None):
    """Result of the first step of the episode drawn with KEY."""
    _, state = env.reset(KEY, params)
    return env.step(KEY, state, random_actions(env, KEY) if action is None else action, params)


def test_act_rewards_sum_to_minus_services_times_act(episodes):
    _, records = episodes
    last = np.asarray(records["decided"].sum(axis=1)) - 1
    act = np.asarray(records["act"])[np.arange(ENVS), last]
    assert (act > 0).all()
    np.testing.assert_allclose(records["reward"].sum(axis=1), -SMALL.num_services * act, rtol=1e-5)
    assert np.count_nonzero(records["act"]) == ENVS, "ACT is reported once, at the end"


def test_ready_to_finish_reward_is_minus_the_time_from_decision_to_finish():
    env, params = make_env(dataclasses.replace(SMALL, reward="ready-to-finish"), "train")
    _, _, reward, _, _, info = first_step(env, params)
    assert reward < 0
    assert reward == info["time"] - info["finish"]


def test_same_key_and_actions_give_the_same_trajectory_bit_by_bit(small):
    chex.assert_trees_all_equal(each_step(*small, 2 * STEPS), each_step(*small, 2 * STEPS))


def test_another_key_draws_another_episode(small):
    env, params = small
    assert not identical(env.reset(KEYS[0], params), env.reset(KEYS[1], params))


def test_step_is_traced_once_for_equal_envs_and_any_numbers(small, monkeypatch):
    traces = []
    decide = CECEnv._decide
    monkeypatch.setattr(CECEnv, "_decide", lambda *args: traces.append(1) or decide(*args))
    _, params = small
    config = dataclasses.replace(SMALL.env_config(), host_breakpoints=47)  # no other test compiles this one
    for factor in (1.0, 2.0):
        changed = params.replace(
            arrival_rate=params.arrival_rate * jnp.float32(factor),
            max_steps_in_episode=jnp.int32(100 * factor),
            network=params.network.replace(bandwidth=params.network.bandwidth * jnp.float32(factor)),
        )
        first_step(CECEnv(config, changed), changed)
        first_step(CECEnv(config, changed), None)
    assert len(traces) == 1
    first_step(CECEnv(dataclasses.replace(config, host_breakpoints=46)), params)
    assert len(traces) == 2, "another config is another environment"


def test_equal_envs_use_each_their_own_default_params(small):
    env, params = small
    faster = params.replace(network=params.network.replace(speed=params.network.speed * 2.0))
    other = CECEnv(env.config, faster)
    assert other == env and hash(other) == hash(env)
    action = Action(host=jnp.int32(0), bandwidth=jnp.float32(1.0), hold=jnp.float32(0.0))
    info, other_info = (first_step(e, None, action)[-1] for e in (env, other))
    assert info["start"] == other_info["start"]
    duration, halved = (i["finish"] - i["start"] for i in (info, other_info))
    np.testing.assert_allclose(duration, 2.0 * halved, rtol=1e-5)
    chex.assert_trees_all_equal(first_step(env, None, action), first_step(env, params, action))
    chex.assert_trees_all_equal(first_step(other, None, action), first_step(env, faster, action))


def test_missing_default_params_are_reported():
    with pytest.raises(ValueError, match="default_params"):
        CECEnv(SMALL.env_config()).reset(KEY)


def test_after_the_end_nothing_is_decided_and_nothing_changes(small):
    env, params = small
    _, state = env.reset(KEY, params)
    actions = random_actions(env, KEY, STEPS + 3)
    after = []
    for index in range(STEPS + 3):
        action = jax.tree.map(lambda x: x[index], actions)  # noqa: B023 (used at once)
        seen, state, reward, terminated, info = env.step_env(KEY, state, action, params)
        if terminated:
            after.append((seen, state.episode, info["time"], info["decided"], reward, info["act"]))
    ends, rest = after[0], after[1:]
    assert ends[3] and ends[4] < 0 and len(rest) >= 3
    for seen, episode, time, decided, reward, act in rest:
        chex.assert_trees_all_equal((seen, episode), ends[:2])
        assert time == ends[1].makespan
        assert not decided and reward == 0 and act == 0


def test_after_the_end_the_next_observation_is_a_reset_with_the_key_of_step(small):
    env, params = small
    keys = jax.vmap(lambda key: jax.random.split(key, STEPS + 1))(KEYS)
    seen, _, terminated, _, _ = jax.vmap(run, in_axes=(None, None, 0, 0))(
        env, params, keys, random_actions(env, KEY, ENVS, STEPS + 1)
    )
    fresh, _ = jax.vmap(jax.vmap(env.reset_env, in_axes=(0, None)), in_axes=(0, None))(keys, params)
    same = jax.vmap(jax.vmap(identical))(seen, fresh)
    assert terminated.any(axis=1).all()
    np.testing.assert_array_equal(same, terminated)


@pytest.mark.parametrize("most_steps", [7, 10**6], ids=["truncated", "terminated"])
def test_nothing_of_the_old_episode_is_left_after_auto_reset(small, most_steps):
    """Each episode in a used state equals, bit by bit, the same episode in a state made anew."""
    env, params = small
    params = params.replace(max_steps_in_episode=jnp.int32(most_steps))

    @jax.jit
    def both(key, actions):
        def step(states, inputs):
            key, action = inputs
            seen, states, reward, terminated, truncated, info = jax.vmap(env.step, in_axes=(None, 0, None, None))(
                key, states, action, params
            )
            ended = terminated[0] | truncated[0]
            _, new = env.reset_env(key, params)
            states = jax.tree.map(lambda both, new: both.at[1].set(jnp.where(ended, new, both[1])), states, new)
            return states, ((seen, reward, terminated, truncated, info), ended)

        _, state = env.reset_env(key, params)
        pair = jax.tree.map(lambda x: jnp.stack([x, x]), state)
        return jax.lax.scan(step, pair, (jax.random.split(key, 6 * STEPS), actions))[1]

    outcome, ended = jax.vmap(both)(KEYS, random_actions(env, KEY, ENVS, 6 * STEPS))
    assert ended.sum() > 4 * ENVS
    used, fresh = (jax.tree.map(lambda x: x[:, :, i], outcome) for i in (0, 1))  # noqa: B023
    chex.assert_trees_all_equal(used, fresh)


def test_time_limit_truncates_and_keeps_the_final_observation(small):
    env, params = small
    params = params.replace(max_steps_in_episode=jnp.int32(3))
    seen, _, terminated, truncated, info = each_step(env, params, 9)
    assert not (terminated & truncated).any()
    assert truncated.any() and (~terminated).any()
    chex.assert_trees_all_equal(info["terminated"], terminated)
    chex.assert_trees_all_equal(info["truncated"], truncated)
    same = jax.vmap(jax.vmap(identical))(seen, info["final_observation"])
    np.testing.assert_array_equal(same, ~(terminated | truncated))


def test_final_observation_is_that_of_the_state_before_the_reset(small):
    env, params = small
    params = params.replace(max_steps_in_episode=jnp.int32(1))
    _, state = env.reset(KEY, params)
    action = random_actions(env, KEY)
    _, _, _, terminated, truncated, info = env.step(KEY, state, action, params)
    expected, *_ = env.step_env(KEY, state, action, params)
    assert truncated and not terminated
    chex.assert_trees_all_equal(info["final_observation"], expected)


def test_an_episode_that_ends_at_the_limit_is_terminated_not_truncated(small):
    env, params = small
    _, _, terminated, _, _ = each_step(env, params, STEPS)
    lengths = np.asarray(jnp.argmax(terminated, axis=1)) + 1
    limited = params.replace(max_steps_in_episode=jnp.int32(lengths[0]))
    _, _, terminated, truncated, _ = each_step(env, limited, STEPS)
    assert terminated[0, lengths[0] - 1] and not truncated[0, : lengths[0]].any()


def test_info_has_one_structure_and_explicit_dtypes_from_the_first_step(small):
    env, params = small
    _, state = env.reset(KEY, params)
    actions = random_actions(env, KEY, STEPS + 1)
    shapes = []
    for index in range(STEPS + 1):
        action = jax.tree.map(lambda x: x[index], actions)  # noqa: B023 (used at once)
        *_, info = env.step_env(KEY, state, action, params)
        _, state, reward, terminated, truncated, full = env.step(KEY, state, action, params)
        chex.assert_type((reward, terminated, truncated), (jnp.float32, bool, bool))
        shapes.append(jax.tree.map(lambda x: (x.shape, str(x.dtype), x.aval.weak_type), (info, full)))
    assert all(shape == shapes[0] for shape in shapes)
    assert not any(leaf is True for leaf in jax.tree.leaves(shapes[0])), "a weak type changes with its neighbours"
    kinds = {name: shape[1] for name, shape in shapes[0][0].items()}
    assert kinds["decided"] == "bool"
    assert {kinds[name] for name in ("service", "microservice", "host", "merges")} == {"int32"}
    assert {kinds[name] for name in ("time", "flow_start", "data_ready", "start", "finish", "act")} == {"float32"}


def test_observations_are_finite_float32_within_the_space(small, episodes):
    env, params = small
    seen, records = episodes
    chex.assert_tree_all_finite(seen)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(seen))
    assert jax.vmap(jax.vmap(env.observation_space(params).contains))(seen).all()
    assert not records["decided"].all(), "observations after the end are covered too"


def test_observation_space_refuses_a_wrong_shape_and_a_negative_value(small):
    env, params = small
    seen, _ = env.reset(KEY, params)
    space = env.observation_space(params)
    assert space.contains(seen)
    assert not space.contains(seen.replace(links=seen.links.replace(load=seen.links.load - 1.0)))
    assert not space.contains(seen.replace(links=seen.links.replace(load=seen.links.load[1:])))


def test_step_takes_sampled_actions_under_vmap(small):
    env, params = small
    actions = random_actions(env, KEY, 512)
    assert jax.vmap(env.action_space(params).contains)(actions).all()
    assert set(np.asarray(actions.host).tolist()) == set(range(env.num_actions))
    _, state = env.reset(KEY, params)
    *_, info = jax.vmap(env.step, in_axes=(None, None, 0, None))(KEY, state, actions, params)
    np.testing.assert_array_equal(info["host"], actions.host)


def test_actions_out_of_range_are_clipped(small):
    env, params = small
    hosts, last = env.num_actions, env.num_actions - 1
    wild = [(-3, 7.0, -5.0), (hosts + 9, 0.0, 4.0)]
    tame = [(0, 1.0, 0.0), (last, 1e-3, 4.0)]
    for a, b in zip(wild, tame, strict=True):
        actions = [Action(jnp.int32(h), jnp.float32(eta), jnp.float32(eps)) for h, eta, eps in (a, b)]
        chex.assert_trees_all_equal(*(first_step(env, params, action) for action in actions))


def test_numbers_of_params_may_be_vmapped(small):
    env, params = small
    rates = jnp.array([0.01, 0.05, 2.0], jnp.float32)
    axes = jax.tree.map(lambda _: None, params).replace(arrival_rate=0)
    batch = params.replace(arrival_rate=rates)
    _, states = jax.vmap(env.reset, in_axes=(None, axes))(KEY, batch)
    actions = random_actions(env, KEY, STEPS)
    _, records = jax.vmap(rollout, in_axes=(None, axes, 0, None))(env, batch, states, actions)
    for index, rate in enumerate(rates):
        one = params.replace(arrival_rate=rate)
        _, alone = rollout(env, one, env.reset(KEY, one)[1], actions)
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[index], records), alone, rtol=1e-5)  # noqa: B023
    assert records["time"][0, -1] > records["time"][2, -1], "services that come slower end later"


def test_flattened_observation_has_the_announced_length_and_every_value(small):
    env, params = small
    seen, _ = env.reset(KEY, params)
    flat = flatten(seen)
    c = env.config
    assert flat.shape == (observation_size(c.num_nodes, c.max_links, c.num_resources),)
    assert flat.dtype == jnp.float32
    everything = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(seen)])
    np.testing.assert_array_equal(np.sort(flat), np.sort(everything))
