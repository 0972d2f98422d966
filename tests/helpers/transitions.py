"""Transitions made by hand or by formula, for tests of learners."""

import jax
import numpy as np

from jaxcec.agents import AgentConfig, AgentState, TwinConfig, learner_for
from jaxcec.agents.features import COSTS, NODE_COLUMNS, Features
from jaxcec.agents.types import Step, Transition

KEY = jax.random.key(0)
V = 4
BATCH = 64
COLUMNS = 1 + len(NODE_COLUMNS)
AGENT = AgentConfig(
    hidden=(64,),
    actor_learning_rate=3e-3,
    critic_learning_rate=5e-3,
    target_rate=0.25,
    entropy=1e-3,
    reward_scale=1.0,
    learn_flow=True,
    twin=TwinConfig(learning_rate=5e-3),
)


def features_of(rng: np.random.Generator, *batch: int) -> Features:
    """Uniform features of V nodes with one resource, two links and a context; no costs, so that prices do nothing."""
    features = Features(*(rng.random((*batch, *shape), np.float32) for shape in ((V, COLUMNS), (2, 4), (12,))))
    features.nodes[..., -len(COSTS) :] = 0.0
    return features


def transition_of(features, node, reward, *, next_features, discount, weight) -> Transition:
    """A batch of transitions with full bandwidth and no hold."""
    numbers = {"reward": reward, "discount": discount, "weight": weight, "bandwidth": 1.0, "hold": 0.0, "postpone": 0.0}
    node = np.asarray(node, np.int32)
    numbers = {name: np.broadcast_to(np.asarray(x, np.float32), node.shape) for name, x in numbers.items()}
    return Transition(features=features, node=node, next_features=next_features, **numbers)


def step_of(features, node, reward, *, discount, weight) -> Step:
    """A batch of steps with full bandwidth and no hold."""
    batch = transition_of(features, node, reward, next_features=features, discount=discount, weight=weight)
    return Step(**{name: value for name, value in vars(batch).items() if name != "next_features"})


def numbered(*numbers: int) -> Step:
    """Steps of as many environments, identified by their reward, their node and their features."""
    features = features_of(np.random.default_rng(0), len(numbers))
    features = features.replace(context=np.broadcast_to(np.float32(numbers)[:, None], features.context.shape))
    return step_of(features, numbers, numbers, discount=0.9, weight=1.0)


def new_agent(config: AgentConfig = AGENT) -> AgentState:
    """An untrained agent for `features_of`."""
    learner = learner_for(config)
    init = jax.jit(lambda key, features: learner.init(learner.init_params(key, features)))
    return init(KEY, features_of(np.random.default_rng(0)))


def critic_that_reads_a_feature(critic, scale: float):
    """Parameters of a per-node critic whose value of a node is `scale` x the first number of its row."""
    zero = jax.tree.map(np.zeros_like, critic)
    rows = zero["params"]["RowMLP_0"]
    rows["Dense_1"]["kernel"][0, 0] = 1.0
    rows["MLP_0"]["Dense_0"]["kernel"][0, 0] = scale
    return zero


def regret(features: Features, node) -> float:
    """How much the first number of the best row is above that of the chosen one; 0.3 for a random choice."""
    values = features.nodes[..., 0]
    return float((values.max(axis=-1) - np.take_along_axis(values, np.asarray(node)[..., None], -1)[..., 0]).mean())
