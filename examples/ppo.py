"""PPO on `jaxcec.env` in one file, after PureJaxRL: the whole training is one compiled function.

A node's score comes from what is seen of that node, so one small network serves any number of nodes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxcec.env import Action
from jaxcec.scenarios import Scenario, make_env

ENVS, STEPS, ITERATIONS, EPOCHS, MINIBATCHES = 64, 64, 32, 4, 4
DISCOUNT, LAMBDA, CLIP, ENTROPY, REWARD_SCALE = 0.99, 0.95, 0.2, 0.003, 0.01
env, params = make_env(Scenario(num_services=5, max_microservices=10, reward="expected-act"), "train")
reset, step_env = jax.vmap(env.reset, in_axes=(0, None)), jax.vmap(env.step, in_axes=(0, 0, 0, None))


class ActorCritic(nn.Module):
    @nn.compact
    def __call__(self, observation):  # to a logit of each node, and the value
        nodes = jax.tree.map(lambda x: x.reshape(env.config.num_nodes, -1), observation.nodes)
        rows = jnp.log1p(jnp.concatenate(jax.tree.leaves(nodes), axis=-1))
        hidden = nn.tanh(nn.Dense(64)(jnp.concatenate([rows, rows - rows.min(axis=0)], axis=-1)))
        logits = nn.Dense(1, kernel_init=nn.initializers.orthogonal(0.01))(nn.tanh(nn.Dense(64)(hidden)))
        return logits[:, 0], nn.Dense(1)(nn.tanh(nn.Dense(64)(hidden.mean(axis=0))))[0]


look = jax.vmap(ActorCritic().apply, in_axes=(None, 0))


def log_prob(logits, node):
    return jnp.take_along_axis(jax.nn.log_softmax(logits), node[:, None], axis=1)[:, 0]


def loss(weights, batch):
    observation, node, before, advantage, target = batch
    logits, value = look(weights, observation)
    ratio = jnp.exp(log_prob(logits, node) - before)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
    entropy = -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(axis=-1).mean()
    return 0.5 * jnp.square(value - target).mean() - gain - ENTROPY * entropy


def train(key, learning_rate, iterations=ITERATIONS):
    """Train from nothing; (iterations,) the mean ACT, s, of the episodes that ended in each iteration."""
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(learning_rate))
    key_reset, key_init, key_run = jax.random.split(key, 3)
    observation, state = reset(jax.random.split(key_reset, ENVS), params)
    weights = ActorCritic().init(key_init, jax.tree.map(lambda x: x[0], observation))

    def decide(carry, key):
        weights, observation, state = carry
        logits, value = look(weights, observation)
        node = jax.random.categorical(key, logits)
        action = Action(host=node, bandwidth=jnp.ones(ENVS), hold=jnp.zeros(ENVS))
        following, state, reward, terminated, _, info = step_env(jax.random.split(key, ENVS), state, action, params)
        seen = observation, node, log_prob(logits, node), value, REWARD_SCALE * reward, terminated, info["act"]
        return (weights, following, state), seen

    def look_back(carry, seen):
        advantage, following = carry
        value, reward, terminated = seen
        error = reward + DISCOUNT * following * ~terminated - value
        advantage = error + DISCOUNT * LAMBDA * advantage * ~terminated
        return (advantage, value), advantage

    def update(carry, batch):
        weights, moments = carry
        changes, moments = optimiser.update(jax.grad(loss)(weights, batch), moments)
        return (optax.apply_updates(weights, changes), moments), None

    def iteration(carry, key):
        (weights, moments), start = carry
        key_steps, *key_epochs = jax.random.split(key, 1 + EPOCHS)
        after, seen = jax.lax.scan(decide, (weights, *start), jax.random.split(key_steps, STEPS))
        observation, node, before, value, reward, terminated, act = seen
        _, advantage = jax.lax.scan(
            look_back, (jnp.zeros(ENVS), look(*after[:2])[1]), (value, reward, terminated), reverse=True
        )
        rows = observation, node, before, advantage, advantage + value
        order = jnp.stack([jax.random.permutation(k, STEPS * ENVS) for k in key_epochs])
        order = order.reshape(EPOCHS * MINIBATCHES, -1)
        batches = jax.tree.map(lambda x: x.reshape(STEPS * ENVS, *x.shape[2:])[order], rows)
        learner, _ = jax.lax.scan(update, (weights, moments), batches)
        return (learner, after[1:]), act.sum() / terminated.sum()

    start = (weights, optimiser.init(weights)), (observation, state)
    return jax.lax.scan(iteration, start, jax.random.split(key_run, iterations))[1]


if __name__ == "__main__":
    act = jax.jit(train)(jax.random.key(0), 1e-3)
    for i in (0, ITERATIONS // 4, ITERATIONS // 2, ITERATIONS - 1):
        print(f"{(i + 1) * ENVS * STEPS:8,} decisions: ACT {act[i]:6.0f} s")
