"""The environment's contract: rewards, determinism, compilation, the end of an episode, spaces."""

import dataclasses
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL, STEPS, equal, random_actions, rollout

from jaxcec.env import Action, CECEnv, Observation, any_undecided, flatten, observation_size
from jaxcec.scenarios import make_env

ENVS = 6  # environments in a batch
BEYOND = 3  # steps after the end of the longest episode
LIMIT = 12  # steps; some episodes are longer, some shorter
RATES = 0.05 * 2.0 ** jnp.arange(-3, 3, dtype=jnp.float32)  # services/s, one per environment
KEY = jax.random.key(1)
KEYS = jax.random.split(KEY, ENVS)


@pytest.fixture(scope="module")
def small():
    return make_env(SMALL, "train")


@pytest.fixture(scope="module")
def episodes(small):
    """Actions, observations, records and `Episode` of random episodes without auto-reset, (ENVS, steps) each."""
    env, params = small
    actions = random_actions(env, KEY, (ENVS, STEPS + BEYOND))
    axes = jax.tree.map(lambda _: None, params).replace(arrival_rate=0)
    params = params.replace(arrival_rate=RATES)
    _, states = jax.vmap(env.reset_env, in_axes=(0, axes))(KEYS, params)
    return actions, *jax.vmap(rollout, in_axes=(None, axes, 0, 0))(env, params, states, actions)


class Step(NamedTuple):
    """The values that `step` returns, without the state."""

    seen: Observation
    reward: Any
    terminated: Any
    truncated: Any
    info: dict

    @property
    def ended(self):
        """True if an episode ended with this step."""
        return self.terminated | self.truncated


@partial(jax.jit, static_argnums=0)
@partial(jax.vmap, in_axes=(None, None, 0, 0))
def run_with_auto_reset(env, params, keys, actions):
    """Step two copies of an environment; after an episode, the second copy gets a freshly created state.

    Returns:
        The steps of the first and of the second copy, and the observation after a reset with the key of each step.
    """

    def step(copies, inputs):
        key, action = inputs
        seen, copies, *outcome = jax.vmap(env.step, in_axes=(None, 0, None, None))(key, copies, action, params)
        outcome = Step(seen, *outcome)
        first_seen, new = env.reset_env(key, params)
        copies = jax.tree.map(lambda x, y: x.at[1].set(jnp.where(outcome.ended[0], y, x[1])), copies, new)
        return copies, (*(jax.tree.map(itemgetter(copy), outcome) for copy in (0, 1)), first_seen)

    _, state = env.reset(keys[0], params)
    copies = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    return jax.lax.scan(step, copies, (keys, actions))[1]


def many_steps(small, most_steps: int):
    """`run_with_auto_reset` over several random episodes per environment."""
    env, params = small
    keys = jax.random.split(KEY, (ENVS, 3 * STEPS))
    params = params.replace(max_steps_in_episode=jnp.int32(most_steps))
    return run_with_auto_reset(env, params, keys, random_actions(env, KEY, keys.shape))


@pytest.fixture(scope="module")
def unlimited(small):
    return many_steps(small, 10**6)


@pytest.fixture(scope="module")
def limited(small):
    return many_steps(small, LIMIT)


def first_step(env, params, action):
    """First step of the episode drawn with KEY."""
    _, state = env.reset(KEY, params)
    seen, _, *outcome = env.step(KEY, state, action, params)
    return Step(seen, *outcome)


def action_of(host, bandwidth, hold):
    return Action(jnp.int32(host), jnp.float32(bandwidth), jnp.float32(hold))


def test_act_rewards_sum_to_minus_services_times_act(episodes):
    _, _, records, _ = episodes
    last = np.asarray(records["decided"].sum(axis=1)) - 1
    act = np.asarray(records["act"])[np.arange(ENVS), last]
    assert (act > 0).all()
    np.testing.assert_allclose(records["reward"].sum(axis=1), -SMALL.num_services * act, rtol=1e-5)
    assert np.count_nonzero(records["act"]) == ENVS, "the ACT is reported once, at termination"


def test_the_paper_s_reward_is_minus_the_time_from_ready_to_finish():
    env, params = make_env(dataclasses.replace(SMALL, reward="ready-to-finish"), "train")
    _, state = env.reset(KEY, params)
    _, info, _ = rollout(env, params, state, random_actions(env, KEY, (STEPS,)))
    decided = np.asarray(info["decided"])
    took = np.asarray(info["finish"] - info["time"])[decided]
    np.testing.assert_allclose(-info["reward"][decided], took, rtol=1e-6)
    assert took.size > SMALL.num_services and (took > 0.0).all()


def test_resets_draw_every_row_of_the_banks_and_no_other():
    env, params = make_env(dataclasses.replace(SMALL, num_patterns=7, num_topologies=5), "train")
    _, states = jax.vmap(env.reset_env, in_axes=(0, None))(jax.random.split(KEY, 256), params)
    assert set(np.asarray(states.episode.arrivals)) == set(range(7))
    assert set(np.asarray(states.episode.topology)) == set(range(5))
    frames = SMALL.num_traces * SMALL.num_frames
    assert set(np.asarray(states.episode.offset).ravel()) == set(range(frames))


def test_after_termination_nothing_is_decided_and_nothing_changes(episodes):
    for index in range(ENVS):
        _, seen, records, after = jax.tree.map(lambda x: np.asarray(x[index]), episodes)  # noqa: B023 (called at once)
        last = int(records["terminated"].argmax())
        assert records["decided"][: last + 1].all() and records["terminated"][last:].all()
        for name in ("decided", "reward", "act"):
            assert not records[name][last + 1 :].any()
        assert (records["time"][last + 1 :] == after.makespan[last]).all()
        for steps, first in ((after, last), (seen, last + 1)):
            for leaf in jax.tree.leaves(steps):
                np.testing.assert_array_equal(leaf[first:], np.broadcast_to(leaf[first], leaf[first:].shape))


def test_any_undecided_is_true_until_the_last_environment_terminates(small, episodes):
    env, params = small
    _, _, records, after = episodes
    _, state = env.reset(KEY, params)
    for step in range(STEPS + BEYOND):
        now = state.replace(episode=jax.tree.map(lambda x: x[:, step], after))  # noqa: B023 (called at once)
        assert any_undecided(now) == ~records["terminated"][:, step].all()
    assert records["terminated"].any() and any_undecided(state)


def test_observations_are_finite_float32_and_in_the_space(small, episodes):
    env, _ = small
    _, seen, records, _ = episodes
    chex.assert_tree_all_finite(seen)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(seen))
    assert jax.jit(jax.vmap(jax.vmap(env.observation_space().contains)))(seen).all()
    assert (~records["decided"]).any(axis=1).all(), "observations after termination are covered too"


def test_sampled_actions_are_in_the_space_and_not_clipped(small, episodes):
    env, _ = small
    actions, _, records, _ = episodes
    assert jax.jit(jax.vmap(jax.vmap(env.action_space().contains)))(actions).all()
    assert set(np.ravel(actions.host).tolist()) == set(range(env.num_actions))
    np.testing.assert_array_equal(records["host"], actions.host)
    hold = jnp.where(records["data_ready"] > records["flow_start"], records["flow_start"] - records["time"], jnp.inf)
    assert (hold >= actions.hold * (1 - 1e-3)).all()


def test_the_action_space_can_be_sampled_under_jit(small):
    env, _ = small
    chex.assert_trees_all_equal(jax.jit(env.action_space().sample)(KEY), env.action_space().sample(KEY))


def test_params_can_be_vmapped(small, episodes):
    """Each environment releases its services at the arrival rate of its params."""
    _, params = small
    _, _, records, after = episodes
    release = np.asarray(params.arrivals.release)[after.arrivals[:, 0]] / RATES[:, None]
    for i in range(SMALL.num_services):
        first = jnp.argmax(records["decided"] & (records["service"] == i), axis=1)
        np.testing.assert_array_equal(records["time"][jnp.arange(ENVS), first], release[:, i])


def test_equal_keys_and_actions_give_bitwise_equal_trajectories(small, limited):
    chex.assert_trees_all_equal(limited, many_steps(small, LIMIT))


def test_different_keys_draw_different_episodes(small):
    env, params = small
    assert not equal(env.reset(KEYS[0], params), env.reset(KEYS[1], params))


@pytest.mark.parametrize("which", ["limited", "unlimited"])
def test_auto_reset_equals_a_reset_with_the_key_of_the_step(which, request):
    steps, _, first_seen = request.getfixturevalue(which)
    assert steps.ended.sum() >= 2 * ENVS
    np.testing.assert_array_equal(equal(steps.seen, first_seen, axes=2), steps.ended)


def assert_same(one, other):
    """Bitwise equality, except for links' backlogs: sums over columns, whose order may differ between the two."""
    sums = ("links.backlog", "nodes.path_committed", "nodes.path_committed_total", "nodes.path_contended")
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(x, y, rtol=1e-6 if name.endswith(sums) else 0.0, err_msg=name)


@pytest.mark.parametrize("which", ["limited", "unlimited"])
def test_auto_reset_leaves_nothing_of_the_old_episode(which, request):
    """Each episode in a reused state equals the same episode in a freshly created state."""
    reused, fresh, _ = request.getfixturevalue(which)
    assert_same(reused, fresh)


def test_the_time_limit_truncates_and_never_terminates(limited):
    steps, _, _ = limited
    assert steps.truncated.any() and steps.terminated.any(), "some episodes are shorter than the limit"
    assert not (steps.terminated & steps.truncated).any()
    chex.assert_trees_all_equal(steps.info["terminated"], steps.terminated)
    chex.assert_trees_all_equal(steps.info["truncated"], steps.truncated)
    for env in range(ENVS):
        ends = np.flatnonzero(np.r_[True, steps.ended[env]])
        assert (np.diff(ends) <= LIMIT).all()
        np.testing.assert_array_equal(steps.truncated[env][ends[1:] - 1] & (np.diff(ends) < LIMIT), False)


def test_an_episode_that_ends_at_the_limit_is_terminated(small, unlimited):
    length = int(jnp.argmax(unlimited[0].terminated[0])) + 1
    steps, _, _ = many_steps(small, length)
    assert steps.terminated[0, length - 1]
    assert not steps.truncated[0, :length].any()


def test_the_final_observation_precedes_the_reset(limited, unlimited):
    steps, _, _ = limited
    # The compiler may round two computations of one observation differently.
    same = equal(steps.seen, steps.info["final_observation"], axes=2, rtol=1e-6)
    np.testing.assert_array_equal(same, ~steps.ended)
    first = jnp.argmax(steps.ended, axis=1)
    cut = np.flatnonzero(steps.truncated[jnp.arange(ENVS), first])  # these episodes continue without the limit
    assert cut.size
    continued, final = (
        jax.tree.map(lambda x: x[cut, LIMIT - 1], tree) for tree in (unlimited[0].seen, steps.info["final_observation"])
    )
    assert_same(continued, final)


def test_step_is_traced_once_for_equal_environments_and_any_params(small, monkeypatch):
    traces = []
    decide = CECEnv._decide
    monkeypatch.setattr(CECEnv, "_decide", lambda *args: traces.append(1) or decide(*args))
    env, params = small
    config = dataclasses.replace(env.config, host_breakpoints=47)  # compiled by no other test
    state = jax.eval_shape(CECEnv(config).reset, KEY, params)[1]
    action = random_actions(env, KEY)
    for factor in (1.0, 2.0):
        changed = params.replace(
            arrival_rate=params.arrival_rate * jnp.float32(factor),
            max_steps_in_episode=jnp.int32(100 * factor),
            network=params.network.replace(bandwidth=params.network.bandwidth * jnp.float32(factor)),
        )
        jax.eval_shape(CECEnv(config, changed).step, KEY, state, action, changed)
        jax.eval_shape(CECEnv(config, changed).step, KEY, state, action)
    assert len(traces) == 1
    other = CECEnv(dataclasses.replace(config, reward="ready-to-finish"))
    jax.eval_shape(other.step, KEY, state, action, params)
    assert len(traces) == 2, "a different config is a different environment"


def test_a_subclass_is_a_different_environment(small):
    """Otherwise a program compiled for one would run for the other."""
    env, params = small

    class Idle(CECEnv):
        def step_env(self, key, state, action, params):
            observation, state, reward, terminated, info = super().step_env(key, state, action, params)
            return observation, state, 0.0 * reward, terminated, info

    same, other = CECEnv(env.config), Idle(env.config)
    assert env == same and env != other and other != env and other == Idle(env.config)

    def first_reward(env):
        return env.step_env(KEY, env.reset(KEY, params)[1], action_of(0, 1.0, 0.0), params)[2]

    compiled = jax.jit(first_reward, static_argnums=0)
    assert compiled(env) != 0.0 and compiled(other) == 0.0


def test_equal_environments_keep_different_default_params(small):
    env, params = small
    faster = params.replace(network=params.network.replace(speed=params.network.speed * 2.0))
    other = CECEnv(env.config, faster)
    assert other == env and hash(other) == hash(env)
    action = action_of(0, 1.0, 0.0)
    info, other_info = (first_step(e, None, action).info for e in (env, other))
    assert info["start"] == other_info["start"]
    np.testing.assert_allclose(info["finish"] - info["start"], 2 * (other_info["finish"] - info["start"]), rtol=1e-5)
    chex.assert_trees_all_equal(first_step(env, None, action), first_step(other, params, action))
    chex.assert_trees_all_equal(first_step(other, None, action), first_step(env, faster, action))


def test_missing_default_params_are_an_error():
    with pytest.raises(ValueError, match="default_params"):
        CECEnv(SMALL.env_config()).reset(KEY)


@pytest.mark.parametrize(
    ("wild", "tame"),
    [((-3, 7.0, -5.0), (0, 1.0, 0.0)), ((99, 0.0, 4.0), (2 * SMALL.num_nodes - 1, 1e-3, 4.0))],
    ids=["first", "last"],
)
def test_actions_out_of_range_are_clipped(small, wild, tame):
    chex.assert_trees_all_equal(*(first_step(*small, action_of(*action)) for action in (wild, tame)))


def test_info_has_one_structure_and_explicit_dtypes_from_the_first_step(small):
    """A step preserves the types of the state after a reset, so the first step represents all."""
    env, params = small
    action = random_actions(env, KEY)
    types = partial(jax.tree.map, lambda x: (x.shape, x.dtype, x.weak_type))
    seen, state = jax.eval_shape(env.reset, KEY, params)
    step = Step(*(outcome := jax.eval_shape(env.step, KEY, state, action, params))[:1], *outcome[2:])
    raw = jax.eval_shape(env.step_env, KEY, state, action, params)
    assert types(outcome[1]) == types(raw[1]) == types(state)
    assert types(step.seen) == types(raw[0]) == types(step.info["final_observation"]) == types(seen)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((outcome, raw))), (
        "the type of a weakly typed array depends on its operands"
    )
    dtypes = {name: str(value.dtype) for name, value in raw[-1].items()}
    assert dtypes == {
        **dict.fromkeys(("time", "flow_start", "flow_end", "data_ready", "start", "finish", "act"), "float32"),
        **dict.fromkeys(("service", "microservice", "host", "merges"), "int32"),
        **dict.fromkeys(("decided", "postponed", "redirected", "invalid"), "bool"),
    }
    assert set(step.info) == {*raw[-1], "terminated", "truncated", "final_observation"}
    assert [str(x.dtype) for x in (step.reward, step.terminated, step.truncated)] == ["float32", "bool", "bool"]


def test_the_observation_space_rejects_wrong_shapes_and_negative_values(small):
    env, params = small
    seen, _ = env.reset(KEY, params)
    space = env.observation_space(params)
    assert space.contains(seen)
    assert not space.contains(seen.replace(links=seen.links.replace(load=seen.links.load - 1.0)))
    assert not space.contains(seen.replace(links=seen.links.replace(load=seen.links.load[1:])))


def test_the_flattened_observation_has_the_stated_length_and_every_value(small):
    env, params = small
    seen, _ = env.reset(KEY, params)
    flat, c = flatten(seen), env.config
    assert flat.shape == (observation_size(c.num_nodes, c.max_links, c.num_resources),)
    assert flat.dtype == jnp.float32
    everything = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(seen)])
    np.testing.assert_array_equal(np.sort(flat), np.sort(everything))
