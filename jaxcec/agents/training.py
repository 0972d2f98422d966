"""Training as one compiled loop: decide in every environment, store, fit the twin, update critic and actor.

`update_step` is one iteration; `train_chunk` scans it, and the host prints and saves between chunks.
"""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from jaxcec.agents import dqn, ppo, replay
from jaxcec.agents.act import Choice, choose
from jaxcec.agents.config import AgentConfig
from jaxcec.agents.ddpg import AgentState, init_agent, update
from jaxcec.agents.evolution import Evolution, begin, end, evolve
from jaxcec.agents.features import encode
from jaxcec.agents.forecast import fit_forecast
from jaxcec.agents.replay import Decided, Replay
from jaxcec.agents.sharding import runner_sharding
from jaxcec.env import CECEnv, EnvParams, EnvState

Metrics = dict[str, chex.Array]


class RunnerState(struct.PyTreeNode):
    """Everything that training goes on from. Donated to each chunk."""

    agent: AgentState
    evolution: Evolution | None  # of the first prices; None where there are none to find
    replay: Replay
    env_state: EnvState  # (num_envs, ...)
    key: chex.PRNGKey
    horizon: chex.Array  # (num_envs,) i32, decisions after which an environment's episode is truncated
    step: chex.Array  # () u32, decisions of each environment; their product is taken on the host, in unbounded ints


@partial(jax.jit, static_argnums=(0, 2, 3, 5))
def init_runner(
    env: CECEnv, params: EnvParams, config: AgentConfig, num_envs: int, key: chex.PRNGKey, mesh: Mesh | None = None
) -> RunnerState:
    """Fresh agent, empty replay buffer, one new episode in every environment.

    Every environment truncates at a horizon of its own. Otherwise all of them would stand at the same point of their
    episodes, and a replay buffer that holds a few steps of thousands of environments would forget the other points.
    """
    key_agent, key_forecast, key_reset, key_horizon, key_run = jax.random.split(key, 5)
    observation, env_state = jax.vmap(env.reset_env, in_axes=(0, None))(jax.random.split(key_reset, num_envs), params)
    features = encode(jax.tree.map(lambda x: x[0], observation))
    one = jnp.float32(0.0)
    size = config.rollout_steps * num_envs if config.on_policy else config.replay_size
    example = Decided(features, jnp.int32(0), one, one, one, one, one)
    agent = init_agent(config, key_agent, features)
    if config.plans:
        agent = agent.replace(params=agent.params.replace(forecast=fit_forecast(key_forecast, params.background)))
    runner = RunnerState(
        agent=agent,
        evolution=begin(agent) if config.evolves else None,
        replay=replay.create(example, num_envs, size),
        env_state=env_state,
        key=key_run,
        horizon=jax.random.randint(key_horizon, (num_envs,), 1, _longest_horizon(env)),
        step=jnp.uint32(0),
    )
    return _laid_out(mesh, runner)


def _longest_horizon(env: CECEnv) -> int:
    """Half of the most decisions an episode can have: about a mean episode of synthetic services."""
    return max(env.config.num_services * env.config.max_microservices // 2, 2)


def collect(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, _: None
) -> tuple[RunnerState, Metrics]:
    """One decision with exploration in every environment, written to the replay buffer."""
    num_envs = runner.horizon.size
    key, key_act, key_step = jax.random.split(runner.key, 3)

    def decide(state: EnvState, key: chex.PRNGKey) -> Choice:
        # Observed here and not carried: at the end of a step XLA would compute the links' table twice, once to keep it
        # and once within the search for a start, for every node.
        observation = env.observe(key, state, None, params)
        return choose(config, runner.agent.params, observation, key, explore=True)

    choice = jax.vmap(decide)(runner.env_state, jax.random.split(key_act, num_envs))
    shared = jax.tree.map(lambda _: None, params).replace(max_steps_in_episode=0)
    _observation, env_state, reward, terminated, truncated, info = jax.vmap(env.step, in_axes=(0, 0, 0, shared))(
        jax.random.split(key_step, num_envs),
        runner.env_state,
        choice.action,
        params.replace(max_steps_in_episode=jnp.minimum(params.max_steps_in_episode, runner.horizon)),
    )
    share = config.twin_reward if config.has_twin else 0.0
    learned = config.reward_scale * ((1.0 - share) * reward + share * choice.twin_reward)
    decided = Decided(
        features=choice.features,
        node=choice.node,
        bandwidth=choice.bandwidth,
        hold=choice.hold,
        reward=learned,
        # The next state stored is the next episode's where one ended: it is not bootstrapped from after a termination,
        # and a truncated transition has no weight, which spares computing all final observations for the few there are.
        discount=jnp.where(terminated, 0.0, config.discount),
        weight=jnp.where(truncated, 0.0, 1.0),
    )
    runner = runner.replace(
        replay=replay.add(runner.replay, decided),
        env_state=env_state,
        key=key,
        step=runner.step + jnp.uint32(1),
    )
    ended = terminated.astype(jnp.float32)
    return runner, {
        "reward": jnp.mean(reward),
        "episodes": jnp.sum(ended),
        "act_sum": jnp.sum(info["act"]),
        "merges": jnp.sum(ended * info["merges"].astype(jnp.float32)),
    }


def update_step(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, _: None
) -> tuple[RunnerState, Metrics]:
    """One iteration over all environments: decide and learn, by Algorithm 2 unless on policy.

    What was learned counts if it is finite, and so is every metric: else the agent stays as it was, and the metric
    `finite` is 0.
    """
    learn = _update_on_policy if config.on_policy else _update_off_policy
    after, metrics = learn(env, params, config, runner)
    numbers = [x for x in jax.tree.leaves((after.agent, metrics)) if jnp.issubdtype(x.dtype, jnp.inexact)]
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in numbers]))
    agent = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after.agent, runner.agent)
    return after.replace(agent=agent), metrics | {"finite": finite.astype(jnp.float32)}


def _update_off_policy(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState
) -> tuple[RunnerState, Metrics]:
    """One decision in every environment, then updates on what the replay buffer holds."""
    runner, metrics = collect(env, params, config, runner, None)
    key, key_updates = jax.random.split(runner.key)

    def one_update(agent: AgentState, key: chex.PRNGKey) -> tuple[AgentState, Metrics]:
        batch, single = (
            replay.sample(runner.replay, key_batch, config.batch_size, steps)
            for key_batch, steps in zip(jax.random.split(key), (config.return_steps, 1), strict=True)
        )
        if config.algorithm == "dqn":
            return dqn.update(config, agent, batch)
        return update(config, agent, batch, single)

    agent, losses = jax.lax.scan(one_update, runner.agent, jax.random.split(key_updates, config.updates_per_step))
    return runner.replace(agent=agent, key=key), metrics | jax.tree.map(jnp.mean, losses)


def _update_on_policy(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState
) -> tuple[RunnerState, Metrics]:
    """`rollout_steps` decisions in every environment, then PPO on these alone."""
    steps = config.rollout_steps
    runner, metrics = jax.lax.scan(partial(collect, env, params, config), runner, None, length=steps)
    key, key_update = jax.random.split(runner.key)
    last = jax.vmap(lambda state: encode(env.observe(key, state, None, params)))(runner.env_state)
    agent, losses = ppo.update(config, runner.agent, replay.newest(runner.replay, steps), last, key_update)
    return runner.replace(agent=agent, key=key), metrics | losses


def evolve_prices(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, mesh: Mesh | None = None
) -> tuple[RunnerState, chex.Array]:
    """One generation of `agents.evolution`; after the last, the agent has the prices found.

    Returns:
        The runner, and the () mean ACT of the episodes played, s.
    """
    key, key_generation = jax.random.split(runner.key)
    evolution, act = evolve(env, params, config, runner.evolution, key_generation, mesh)
    last = int(evolution.generation) == config.evolution
    agent = end(runner.agent, evolution) if last else runner.agent
    return runner.replace(agent=agent, evolution=evolution, key=key), act


@partial(jax.jit, static_argnums=(0, 2, 4, 5), donate_argnums=3)
def warm_up(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, steps: int, mesh: Mesh | None = None
) -> tuple[RunnerState, Metrics]:
    """Fill the replay buffer without learning, with at least two steps. The runner is donated."""
    runner, metrics = jax.lax.scan(partial(collect, env, params, config), runner, None, length=steps)
    return _laid_out(mesh, runner), metrics


@partial(jax.jit, static_argnums=(0, 2, 4, 5), donate_argnums=3)
def train_chunk(
    env: CECEnv, params: EnvParams, config: AgentConfig, runner: RunnerState, steps: int, mesh: Mesh | None = None
) -> tuple[RunnerState, Metrics]:
    """Several iterations in one compiled loop. The runner is donated.

    Args:
        env: the environment.
        params: its banks, on every device of the mesh.
        config: the agent's.
        runner: what `init_runner` made for this mesh, and `warm_up` has filled.
        steps: decisions in every environment, a multiple of `steps_per_iteration`.
        mesh: the devices that share the environments; by default there is one.

    Returns:
        The runner and metrics with a leading axis of iterations; on policy, those of decisions with a second one of
        `rollout_steps`.

    Raises:
        ValueError: the steps are not whole iterations.
    """
    iterations, rest = divmod(steps, config.steps_per_iteration)
    if rest:
        raise ValueError(f"steps: got {steps}; must be a multiple of {config.steps_per_iteration}, one iteration's")
    runner, metrics = jax.lax.scan(partial(update_step, env, params, config), runner, None, length=iterations)
    return _laid_out(mesh, runner), metrics


def _laid_out(mesh: Mesh | None, runner: RunnerState) -> RunnerState:
    return runner if mesh is None else jax.lax.with_sharding_constraint(runner, runner_sharding(mesh, runner))
