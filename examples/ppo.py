"""PPO on `jaxcec.env` in one file, after PureJaxRL: the whole training is one compiled function.

The score of a node depends only on the features of that node, so one small network serves any number of nodes.
"""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxcec.env import Action, EnvState, Observation
from jaxcec.scenarios import Scenario, make_env

ENVS, STEPS, ITERATIONS, EPOCHS, MINIBATCHES = 64, 64, 32, 4, 4
DISCOUNT, LAMBDA, CLIP, ENTROPY, REWARD_SCALE = 0.99, 0.95, 0.2, 0.003, 0.01
env, params = make_env(Scenario(num_services=5, max_microservices=10, reward="expected-act"), "train")
reset, step_env = jax.vmap(env.reset, in_axes=(0, None)), jax.vmap(env.step, in_axes=(0, 0, 0, None))


Weights = Any  # of the network


class Transition(NamedTuple):
    """One decision of every environment; arrays are (ENVS,), and (STEPS, ENVS) after an iteration's scan."""

    observation: Observation
    node: chex.Array
    log_prob: chex.Array
    value: chex.Array
    reward: chex.Array  # REWARD_SCALE s
    terminated: chex.Array
    act: chex.Array  # s, of the episodes that ended, else 0


class Batch(NamedTuple):
    """The part of a minibatch of decisions that the loss reads."""

    observation: Observation
    node: chex.Array
    log_prob: chex.Array
    advantage: chex.Array
    target: chex.Array


class ActorCritic(nn.Module):
    """Scores of the nodes and the value of the state."""

    @nn.compact
    def __call__(self, observation: Observation) -> tuple[chex.Array, chex.Array]:
        """Return the logit of each node, (V,), and the value, ()."""
        nodes = jax.tree.map(lambda x: x.reshape(env.config.num_nodes, -1), observation.nodes)
        rows = jnp.log1p(jnp.concatenate(jax.tree.leaves(nodes), axis=-1))
        hidden = nn.tanh(nn.Dense(64)(jnp.concatenate([rows, rows - rows.min(axis=0)], axis=-1)))
        logits = nn.Dense(1, kernel_init=nn.initializers.orthogonal(0.01))(nn.tanh(nn.Dense(64)(hidden)))
        return logits[:, 0], nn.Dense(1)(nn.tanh(nn.Dense(64)(hidden.mean(axis=0))))[0]


network = jax.vmap(ActorCritic().apply, in_axes=(None, 0))


def log_prob(logits: chex.Array, node: chex.Array) -> chex.Array:
    """Return the logarithm of the probability of each row's node, (n,), under logits, (n, V)."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), node[:, None], axis=1)[:, 0]


def loss(weights: Weights, batch: Batch) -> chex.Array:
    """Return the clipped surrogate loss plus that of the value, minus the entropy bonus."""
    logits, value = network(weights, batch.observation)
    ratio = jnp.exp(log_prob(logits, batch.node) - batch.log_prob)
    advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
    entropy = -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(axis=-1).mean()
    return 0.5 * jnp.square(value - batch.target).mean() - gain - ENTROPY * entropy


def advantages(steps: Transition, last_value: chex.Array) -> chex.Array:
    """Generalised advantage estimation over (STEPS, ENVS); `last_value`, (ENVS,), follows the last step."""

    def look_back(carry: tuple[chex.Array, chex.Array], step: Transition) -> tuple[Any, chex.Array]:
        advantage, next_value = carry
        error = step.reward + DISCOUNT * next_value * ~step.terminated - step.value
        advantage = error + DISCOUNT * LAMBDA * advantage * ~step.terminated
        return (advantage, step.value), advantage

    return jax.lax.scan(look_back, (jnp.zeros(ENVS), last_value), steps, reverse=True)[1]


def train(key: chex.PRNGKey, learning_rate: float | chex.Array, iterations: int = ITERATIONS) -> chex.Array:
    """Train a new network; returns the mean ACT, s, of the episodes that ended in each iteration, (iterations,)."""
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(learning_rate))
    key_reset, key_init, key_run = jax.random.split(key, 3)
    observation, state = reset(jax.random.split(key_reset, ENVS), params)
    weights = ActorCritic().init(key_init, jax.tree.map(lambda x: x[0], observation))

    def decide(carry: tuple[Weights, Observation, EnvState], key: chex.PRNGKey) -> tuple[Any, Transition]:
        weights, observation, state = carry
        logits, value = network(weights, observation)
        node = jax.random.categorical(key, logits)
        action = Action(host=node, bandwidth=jnp.ones(ENVS), hold=jnp.zeros(ENVS))
        keys = jax.random.split(key, ENVS)
        next_observation, state, reward, terminated, _, info = step_env(keys, state, action, params)
        scaled = REWARD_SCALE * reward
        step = Transition(observation, node, log_prob(logits, node), value, scaled, terminated, info["act"])
        return (weights, next_observation, state), step

    def update(carry: tuple[Weights, optax.OptState], batch: Batch) -> tuple[Any, None]:
        weights, moments = carry
        changes, moments = optimiser.update(jax.grad(loss)(weights, batch), moments)
        return (optax.apply_updates(weights, changes), moments), None

    def iteration(carry: tuple[Any, tuple[Observation, EnvState]], key: chex.PRNGKey) -> tuple[Any, chex.Array]:
        (weights, moments), start = carry
        key_steps, *key_epochs = jax.random.split(key, 1 + EPOCHS)
        (_, *end), steps = jax.lax.scan(decide, (weights, *start), jax.random.split(key_steps, STEPS))
        advantage = advantages(steps, network(weights, end[0])[1])
        rows = Batch(steps.observation, steps.node, steps.log_prob, advantage, advantage + steps.value)
        order = jnp.stack([jax.random.permutation(k, STEPS * ENVS) for k in key_epochs])
        order = order.reshape(EPOCHS * MINIBATCHES, -1)
        batches = jax.tree.map(lambda x: x.reshape(STEPS * ENVS, *x.shape[2:])[order], rows)
        learner, _ = jax.lax.scan(update, (weights, moments), batches)
        return (learner, tuple(end)), steps.act.sum() / steps.terminated.sum()

    start = (weights, optimiser.init(weights)), (observation, state)
    return jax.lax.scan(iteration, start, jax.random.split(key_run, iterations))[1]


if __name__ == "__main__":
    act = jax.jit(train)(jax.random.key(0), 1e-3)
    for i in (0, ITERATIONS // 4, ITERATIONS // 2, ITERATIONS - 1):
        print(f"{(i + 1) * ENVS * STEPS:8,} decisions: ACT {act[i]:6.0f} s")
