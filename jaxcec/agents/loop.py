"""The compiled loop of training: decide in every environment, store the steps, update the learner."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from jaxcec.agents import replay
from jaxcec.agents.config import AgentConfig
from jaxcec.agents.evolution import Evolution, init_evolution
from jaxcec.agents.features import encode, pace_of
from jaxcec.agents.learners import learner_for
from jaxcec.agents.replay import Replay
from jaxcec.agents.sharding import ENV_AXIS, sharding_of
from jaxcec.agents.twin import outcome_of
from jaxcec.agents.types import AgentParams, AgentState, Choice, Metrics, Step
from jaxcec.env import CECEnv, EnvParams, EnvState


class RunnerState(struct.PyTreeNode):
    """Everything that the compiled loop continues from. Donated to each chunk."""

    agent: AgentState
    evolution: Evolution | None  # of the first prices; None where there are none to find
    replay: Replay
    env_state: EnvState  # (num_envs, ...)
    key: chex.PRNGKey
    horizon: chex.Array  # (num_envs,) i32, decisions after which an environment's first episode is truncated
    step: chex.Array  # () u32, decisions of each environment; their total is computed on the host in unbounded ints


Advanced = tuple[RunnerState, Metrics]


@partial(jax.jit, static_argnames=("env", "num_envs", "mesh"))
def init_runner(
    env: CECEnv, params: EnvParams, config: AgentConfig, key: chex.PRNGKey, *, num_envs: int, mesh: Mesh | None = None
) -> RunnerState:
    """New agent, empty replay buffer, one new episode in every environment.

    Each environment truncates its first episode at its own random horizon. Otherwise all would be at the same point of
    their episodes, and a replay buffer that holds a few steps of thousands of environments would forget the other
    points. Later episodes are whole, so that a run of several episodes sees decisions as they are in whole ones.
    """
    learner = learner_for(config)
    key_agent, key_forecast, key_reset, key_horizon, key_run = jax.random.split(key, 5)
    observation, env_state = jax.vmap(env.reset_env, in_axes=(0, None))(jax.random.split(key_reset, num_envs), params)
    features = encode(jax.tree.map(lambda x: x[0], observation))
    agent_params = learner.fit_to_banks(learner.init_params(key_agent, features), params, key_forecast)
    agent = learner.init(agent_params)
    # Half of the most decisions that an episode can have, about a mean episode of synthetic services.
    longest = max(env.config.num_services * env.config.max_microservices // 2, 2)
    horizon = jax.random.randint(key_horizon, (num_envs,), 1, longest)
    step, *_ = jax.eval_shape(
        partial(_decide, env, params, config), agent_params, env_state, horizon=horizon, key=key_run
    )
    runner = RunnerState(
        agent=agent,
        evolution=init_evolution(agent) if config.evolution.generations > 0 else None,
        replay=replay.create(step, learner.replay_size(num_envs)),
        env_state=env_state,
        key=key_run,
        horizon=horizon,
        step=jnp.uint32(0),
    )
    return _constrained(mesh, runner)


def collect(env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, _: None) -> Advanced:
    """One decision with exploration in every environment, written to the replay buffer."""
    key, key_decide = jax.random.split(runner.key)
    step, env_state, ended, metrics = _decide(
        env, params, config, runner.agent.params, runner.env_state, horizon=runner.horizon, key=key_decide
    )
    return runner.replace(
        replay=replay.add(runner.replay, step),
        env_state=env_state,
        key=key,
        horizon=jnp.where(ended, params.max_steps_in_episode, runner.horizon),
        step=runner.step + jnp.uint32(1),
    ), metrics


def _decide(
    env: CECEnv,
    params: EnvParams,
    config: AgentConfig,
    agent: AgentParams,
    env_state: EnvState,
    *,
    horizon: chex.Array,
    key: chex.PRNGKey,
) -> tuple[Step, EnvState, chex.Array, Metrics]:
    """One decision with exploration in every environment.

    Returns:
        (num_envs, ...) steps, the states after them, bool whether the episode ended or was truncated; and metrics.
    """
    learner, num_envs = learner_for(config), horizon.size
    key_act, key_step = jax.random.split(key)

    def decide(state: EnvState, key: chex.PRNGKey) -> Choice:
        # The observation is computed here and not carried: at the end of a step XLA would compute the links' table
        # twice, once to keep it and once within the search for a start, for every node.
        observation = env.observe(key, state, None, params)
        return learner.act(agent, observation, key, explore=True)

    choice = jax.vmap(decide)(env_state, jax.random.split(key_act, num_envs))
    shared = jax.tree.map(lambda _: None, params).replace(max_steps_in_episode=0)
    _observation, env_state, reward, terminated, truncated, info = jax.vmap(env.step, in_axes=(0, 0, 0, shared))(
        jax.random.split(key_step, num_envs),
        env_state,
        choice.action,
        params.replace(max_steps_in_episode=jnp.minimum(params.max_steps_in_episode, horizon)),
    )
    share, pace = learner.reward_share, pace_of(params)
    step = Step(
        features=choice.features,
        node=choice.node,
        bandwidth=choice.bandwidth,
        hold=choice.hold,
        postpone=jnp.zeros_like(choice.hold) if choice.action.postpone is None else choice.action.postpone,
        reward=config.reward_scale / pace * ((1.0 - share) * reward + share * choice.foreseen_reward),
        # Where an episode ended, the next state stored is that of the next episode. After a termination it is not
        # bootstrapped from, and a truncated step has no weight, which spares computing all final observations.
        discount=jnp.where(terminated, 0.0, config.discount),
        weight=jnp.where(truncated, 0.0, 1.0),
        outcome=outcome_of(choice.candidate, choice.action, info, pace),
    )
    finished, ended = terminated.astype(jnp.float32), terminated | truncated
    metrics = {
        "reward": jnp.mean(reward),
        "episodes": jnp.sum(finished),
        "act_sum": jnp.sum(info["act"]),
        "merges": jnp.sum(finished * info["merges"].astype(jnp.float32)),
    }
    return step, env_state, ended, metrics


def update_step(env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, _: None) -> Advanced:
    """One iteration: `steps_per_update` decisions in every environment, then an update of the learner (Algorithm 2).

    The metric `finite` is 0 if a parameter or a metric is not finite afterwards. The agent is then worth nothing:
    choosing the old one instead would cost a kernel for each of its two hundred arrays.
    """
    learner = learner_for(config)
    steps = learner.steps_per_update
    after, metrics = jax.lax.scan(partial(collect, env, params, config), runner, None, length=steps)
    key, key_update = jax.random.split(after.key)
    agent_params = runner.agent.params
    next_features = jax.vmap(lambda state: learner.features(agent_params, env.observe(key, state, None, params)))(
        after.env_state
    )
    agent, losses = learner.update(runner.agent, after.replay, next_features, key_update)
    metrics |= losses
    numbers = [jnp.ravel(x) for x in jax.tree.leaves((agent, metrics)) if jnp.issubdtype(x.dtype, jnp.inexact)]
    finite = jnp.all(jnp.isfinite(jnp.concatenate(numbers)))
    return after.replace(agent=agent, key=key), metrics | {"finite": finite.astype(jnp.float32)}


@partial(jax.jit, static_argnames=("env", "steps", "mesh"), donate_argnames="runner")
def warm_up(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, *, steps: int, mesh: Mesh | None = None
) -> Advanced:
    """Fill the replay buffer without learning, with at least two steps. The runner is donated."""
    runner, metrics = jax.lax.scan(partial(collect, env, params, config), runner, None, length=steps)
    return _constrained(mesh, runner), metrics


@partial(jax.jit, static_argnames=("env", "steps", "mesh"), donate_argnames="runner")
def train_chunk(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, *, steps: int, mesh: Mesh | None = None
) -> Advanced:
    """Several iterations in one compiled loop, of `steps` decisions in every environment. The runner is donated.

    It is that of `init_runner` for this mesh, after `warm_up`. With a mesh, the banks are on every device of it.

    Returns:
        The runner, and metrics with a leading axis of iterations; those of decisions have a second axis of
        `steps_per_update`.

    Raises:
        ValueError: the steps are not whole iterations.
    """
    per_update = learner_for(config).steps_per_update
    iterations, rest = divmod(steps, per_update)
    if rest:
        raise ValueError(f"steps: got {steps}; must be a multiple of {per_update}, the decisions of one iteration")
    runner, metrics = jax.lax.scan(partial(update_step, env, params, config), runner, None, length=iterations)
    return _constrained(mesh, runner), metrics


def runner_sharding(mesh: Mesh, runner: RunnerState) -> RunnerState:
    """The layout of each leaf of a runner (of arrays or shapes): environments divided, everything else replicated."""
    layout = sharding_of(mesh, runner)
    return layout.replace(
        env_state=sharding_of(mesh, runner.env_state, ENV_AXIS),
        horizon=sharding_of(mesh, runner.horizon, ENV_AXIS),
        replay=layout.replay.replace(blocks=sharding_of(mesh, runner.replay.blocks, None, ENV_AXIS)),
    )


def _constrained(mesh: Mesh | None, runner: RunnerState) -> RunnerState:
    return runner if mesh is None else jax.lax.with_sharding_constraint(runner, runner_sharding(mesh, runner))
