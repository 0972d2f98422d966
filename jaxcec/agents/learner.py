"""The interface of learning algorithms, and the pieces that several of them use."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from jaxcec.agents.config import AgentConfig
from jaxcec.agents.features import Features, encode, pace_of
from jaxcec.agents.information import Information, restricted
from jaxcec.agents.networks import Networks, full_flow, patience_of, prices_of
from jaxcec.agents.replay import Replay, sample
from jaxcec.agents.types import AgentParams, AgentState, Choice, Learned, Metrics, RelaxedAction, Transition
from jaxcec.env import Action, CECEnv, EnvParams, Observation, World
from jaxcec.env.env import LEAST_BANDWIDTH
from jaxcec.policies import give_way

_GRADIENT_NORM = 10.0  # gradients are clipped to it

Act = Callable[[Any, Observation, World, chex.PRNGKey], Action]  # (params, observation, known world, key)
Loss = Callable[[chex.ArrayTree], tuple[chex.Array, Metrics]]


class Learner(abc.ABC):
    """One learning algorithm with its settings: `init_params`, `choose`, `update`. Its parameters are arguments.

    To add an algorithm, enter a subclass in `jaxcec.agents.LEARNERS`; training, validation, checkpoints and evaluation
    then work with it.

    Raises:
        ValueError: the settings do not suit the algorithm.
    """

    learned: tuple[str, ...] = ("actor", "critic")  # the fields of `AgentParams` that gradient steps move
    followed: tuple[str, ...] = ()  # those of them that have a target, a slowly moving copy
    levels: tuple[Information, ...] = ("state", "mirror", "lookahead")  # of information that it can have, default first
    reward_share: chex.Numeric = 0.0  # share of `Choice.foreseen_reward` in the training reward
    steps_per_update: int = 1  # decisions in every environment before each update

    def __init__(self, config: AgentConfig):
        self.config, self.networks = config, Networks(config)
        level = self.levels[0] if config.information is None else config.information
        if level not in self.levels:
            allowed = ", ".join(self.levels)
            raise ValueError(f"agent.information: got {level!r}; must be one of {allowed} for {config.algorithm}")
        self.level: Information = level
        if config.postpone and level != "lookahead" and "twin" not in self.learned:
            raise ValueError(
                f"agent.postpone: got True; must be False for {config.algorithm} at {level}, which foresees no waits"
            )

    def replay_size(self, num_envs: int) -> int:
        """Transitions that the replay buffer holds."""
        return self.config.replay_size

    @abc.abstractmethod
    def init_params(self, key: chex.PRNGKey, features: Features) -> AgentParams:
        """New parameters for features of these shapes."""

    def init(self, params: AgentParams) -> AgentState:
        """The learner's state at the beginning: parameters, targets, optimisers (Algorithm 2, lines 1-3)."""
        optimisers = {name: self._optimiser(name).init(getattr(params, name)) for name in self.learned}
        target = AgentParams(**{name: getattr(params, name) for name in self.followed})
        # Targets are copies: a buffer that is donated may appear only once.
        return AgentState(params=params, target=jax.tree.map(jnp.copy, target), optimisers=optimisers)

    def fit_to_banks(self, params: AgentParams, env_params: EnvParams, key: chex.PRNGKey) -> AgentParams:
        """Fit the parameters that depend on the environment's banks alone; by default there are none."""
        return params

    def foresee(
        self, params: AgentParams, observation: Observation, key: chex.PRNGKey | None = None
    ) -> tuple[Observation, Any]:
        """The unbatched observation as the agent sees it, and (V, F) `twin.candidates`; None without a twin.

        A key asks for a sample of what the agent deems possible instead of what it deems most likely.
        """
        return restricted(observation, self.level), None

    def features(self, params: AgentParams, observation: Observation) -> Features:
        """The features of an unbatched observation as the agent sees it."""
        return encode(self.foresee(params, observation)[0])

    def act(self, params: AgentParams, observation: Observation, key: chex.PRNGKey, *, explore: bool) -> Choice:
        """Choose for one unbatched observation, with exploration noise or without."""
        key_foresee, key_choose = jax.random.split(key)
        seen, candidates = self.foresee(params, observation, key_foresee if explore else None)
        choice, pace = self.choose(params, encode(seen), key_choose, explore=explore), pace_of(seen)
        choice = choice._replace(action=choice.action.replace(hold=pace * choice.action.hold))
        if self.config.postpone:
            patience = patience_of(prices_of(params), pace)
            choice = choice._replace(action=give_way(choice.action, seen, patience))
        likely = self.foresee(params, observation)[0] if explore else seen
        return choice._replace(
            foreseen_reward=completion_reward(likely, choice.node, choice.action),
            candidate=None if candidates is None else candidates[choice.node],
        )

    @abc.abstractmethod
    def choose(self, params: AgentParams, features: Features, key: chex.PRNGKey, *, explore: bool) -> Choice:
        """Choose given the features of one decision, with exploration noise or without."""

    def learn_outcomes(self, agent: AgentState, outcomes: Any) -> Learned:
        """One step of a learned twin on a batch of `twin.Outcome`; nothing without one, whose outcomes are None."""
        return agent, {}

    @abc.abstractmethod
    def update(self, agent: AgentState, replay: Replay, next_features: Features, key: chex.PRNGKey) -> Learned:
        """Learn from the replay buffer: the new state, and the metrics of this update, () each.

        The newest `steps_per_update` steps of every environment are new, and `next_features`, (num_envs, ...), are of
        the states after them.
        """

    def acting_params(self, agent: AgentState) -> AgentParams:
        """The parameters to act with after training: the targets, which average over updates, where there are any."""
        return agent.params.replace(**{name: getattr(agent.target, name) for name in self.followed})

    def gradient_step(self, agent: AgentState, name: str, loss: Loss) -> Learned:
        """Move the network of a name one step down a loss of its parameters, which also returns metrics."""
        network = getattr(agent.params, name)
        grads, metrics = jax.grad(loss, has_aux=True)(network)
        updates, state = self._optimiser(name).update(grads, agent.optimisers[name])
        params = agent.params.replace(**{name: optax.apply_updates(network, updates)})
        return agent.replace(params=params, optimisers=agent.optimisers | {name: state}), metrics

    def move_targets(self, agent: AgentState) -> AgentState:
        """Move the targets towards their networks by the share `target_rate`."""
        networks = AgentParams(**{name: getattr(agent.params, name) for name in self.followed})
        return agent.replace(target=optax.incremental_update(networks, agent.target, self.config.target_rate))

    def learning_rate(self, name: str) -> chex.Numeric:
        """The learning rate of a network in `learned`."""
        return self.config.twin.learning_rate if name == "twin" else getattr(self.config, f"{name}_learning_rate")

    def _optimiser(self, name: str) -> optax.GradientTransformation:
        """Adam with clipped gradients, on one vector of all parameters: arrays one by one would be a kernel each."""
        return optax.flatten(
            optax.chain(optax.clip_by_global_norm(_GRADIENT_NORM), optax.adam(self.learning_rate(name)))
        )

    def policy(self, env: CECEnv) -> Act:
        """The trained policy as a function of parameters, observation, known world, and key."""
        return lambda params, observation, _, key: self.act(params, observation, key, explore=False).action

    def choice(self, features: Features, action: RelaxedAction, node: chex.Array) -> Choice:
        """The choice of a () node, with its eta and eps of a (V,) action."""
        node, bandwidth, hold = node.astype(jnp.int32), action.bandwidth[node], action.hold[node]
        executed = Action(host=node, bandwidth=bandwidth, hold=hold * self.config.max_hold)
        return Choice(executed, features, node, bandwidth, hold, jnp.float32(0.0))

    def explore(self, scores: chex.Array, action: RelaxedAction, key: chex.PRNGKey) -> tuple[chex.Array, RelaxedAction]:
        """Gumbel noise on the (V,) scores of the nodes, and with `learn_flow` sometimes a random eta or eps.

        Eta and eps are drawn from their whole range: with noise around the actor's values the critic would extrapolate
        over the rest of the range, the actor would follow it there, and holds would drift to their bound.
        """
        key_nodes, key_bandwidth, key_hold = jax.random.split(key, 3)

        def sometimes_uniform(value: chex.Array, key: chex.PRNGKey) -> chex.Array:
            key_when, key_value = jax.random.split(key)
            drawn = jax.random.uniform(key_value, value.shape)
            return jnp.where(jax.random.bernoulli(key_when, self.config.flow_exploration), drawn, value)

        scores = scores + self.config.exploration * jax.random.gumbel(key_nodes, scores.shape)
        if not self.config.learn_flow:
            return scores, action
        bandwidth = sometimes_uniform(action.bandwidth, key_bandwidth)
        return scores, action.replace(bandwidth=bandwidth, hold=sometimes_uniform(action.hold, key_hold))

    def bellman_error(self, critic: chex.ArrayTree, batch: Transition, bootstrap: chex.Array) -> chex.Array:
        """() mean square error of Q of the executed actions, given the (batch,) values of the next states.

        Truncated transitions have no weight.
        """
        target = jax.lax.stop_gradient(batch.reward + batch.discount * bootstrap)
        value = self.networks.q(critic, batch.features, executed_action(batch))
        return weighted_mean(jnp.square(target - value), batch.weight)


class ReplayLearner(Learner):
    """An algorithm that makes `updates_per_step` updates, each on newly drawn transitions, after every decision."""

    @abc.abstractmethod
    def learn(self, agent: AgentState, batch: Transition, single: Transition) -> Learned:
        """One update, on transitions over `return_steps` decisions and on others over one decision."""

    def update(self, agent: AgentState, replay: Replay, next_features: Features, key: chex.PRNGKey) -> Learned:
        """All updates; the metrics are means over them."""

        def one_update(agent: AgentState, key: chex.PRNGKey) -> Learned:
            batch, single = (
                sample(replay, key_batch, size=self.config.batch_size, steps=steps)
                for key_batch, steps in zip(jax.random.split(key), (self.config.return_steps, 1), strict=True)
            )
            return self.learn(agent, batch, single)

        agent, metrics = jax.lax.scan(one_update, agent, jax.random.split(key, self.config.updates_per_step))
        return agent, jax.tree.map(jnp.mean, metrics)


class NodeLearner(Learner):
    """An algorithm that scores the nodes and chooses among them, at full bandwidth and without a hold."""

    def __init__(self, config: AgentConfig):
        super().__init__(config)
        if config.learn_flow:
            raise ValueError(
                f"agent.learn_flow: got True; must be False for {config.algorithm}, which chooses nodes alone"
            )

    @abc.abstractmethod
    def scores(self, params: AgentParams, features: Features) -> chex.Array:
        """Scores of the nodes, (..., V): logits of the policy that exploration samples from."""

    def choose(self, params: AgentParams, features: Features, key: chex.PRNGKey, *, explore: bool) -> Choice:
        """The node of the highest score."""
        scores = self.scores(params, features)
        action = full_flow(jax.nn.softmax(scores))
        if explore:
            scores, action = self.explore(scores, action, key)
        return self.choice(features, action, jnp.argmax(scores))


def completion_reward(observation: Observation, node: chex.Array, action: Action) -> chex.Array:
    """Eq. 17 for the current microservice on a () node, as an agent foresees it: -(C / P + W + D / B), () s.

    The transfer takes 1 / eta times as long as at the bandwidths offered, and a hold counts only as far as it exceeds
    the wait for links. A decision that is postponed is charged until it is due again.
    """
    nodes = observation.nodes
    moved = nodes.at_offered[node]
    links = nodes.data_ready[node] - moved
    node_wait_and_run = nodes.finish[node] - nodes.data_ready[node]
    bandwidth = jnp.clip(action.bandwidth, LEAST_BANDWIDTH, 1.0)
    until = jnp.maximum(links, action.hold) + moved / bandwidth + node_wait_and_run
    if action.postpone is None:
        return -until
    return -jnp.where(action.postpone > 0.0, action.postpone, until)


def weighted_mean(x: chex.Array, weight: chex.Array) -> chex.Array:
    """() mean of the entries of positive weight; 0 if there are none."""
    return jnp.sum(weight * x) / jnp.maximum(jnp.sum(weight), 1.0)


def executed_action(batch: Transition) -> RelaxedAction:
    """Executed decisions in relaxed form: all weight on the chosen node."""
    num_nodes = batch.features.nodes.shape[-2]
    shape = (*batch.node.shape, num_nodes)
    return RelaxedAction(
        nodes=jax.nn.one_hot(batch.node, num_nodes),
        bandwidth=jnp.broadcast_to(batch.bandwidth[..., None], shape),
        hold=jnp.broadcast_to(batch.hold[..., None], shape),
    )
