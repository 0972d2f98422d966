"""Errors of the twins' predictions on held-out trajectories, those of a policy's actor in episodes of the test split.

    python benchmarks/twin_error.py --policy runs/NAME/policy.msgpack --plan-policy runs/OTHER/policy.msgpack

transition: error of the learned transition model, root mean square over each part of the features, in their units. Over
ten decisions it is iterated on its own predictions, with the actions that were taken. 'linear' is a ridge regression of
the change over one decision on all features and the chosen node, fitted to trajectories of the train split.

forecast: error of the learned forecast of other tenants' load on the traces of the test split, root mean square of the
share. 'mean' predicts the mean of those traces. 'within' is the share of frames within one predicted deviation.

ranks: how the scores of all edge nodes agree with what truly happens: Spearman's correlation within a decision, mean
over decisions drawn at random, with its 95 % interval. What truly happens: the node is executed in the true simulator,
with the loads and services that come, 32 decisions of the actor follow, and then all services' expected completion
times are summed. The plans have the actor as their base, and differ in the load that they predict.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from harness import Row, print_table, processor, versions
from jax.flatten_util import ravel_pytree

from jaxcec.agents import PRETRAINED, AgentConfig, AgentParams, Choice, Features, encode, load_policy
from jaxcec.agents.ddpg import DDPG
from jaxcec.agents.dtdrlmo import DTDRLMO
from jaxcec.agents.forecast import FRAMES, LoadForecast, predict_load
from jaxcec.agents.networks import flat_features
from jaxcec.agents.twin import predict
from jaxcec.agents.types import RelaxedAction
from jaxcec.env import HISTORY, CECEnv, EnvParams, EnvState, expected_completions, known_world
from jaxcec.evaluation import bootstrap_mean, episode_keys
from jaxcec.policies import Forecast, as_now
from jaxcec.policies.planning import simulate
from jaxcec.scenarios import Scenario, make_env

HORIZONS = (1, 10)  # decisions
FRAMES_AHEAD = (1, 4, 16)
FOLLOWED = 32  # decisions
SIDE_BY_SIDE = 32  # decisions judged at once; each takes a simulator for every node
FITTED = 128  # episodes, each on another topology, that the linear model is fitted to; with few it would memorise them
RIDGE = 1e-3
KEY = jax.random.key(0)  # for signatures: without exploration, and under mean forecasts, nothing is drawn

Model = Callable[[Features, RelaxedAction], Features]  # a batch's next features


class Player(struct.PyTreeNode):
    """An agent in an environment, where its actor decides without the twin."""

    env: CECEnv = struct.field(pytree_node=False)
    config: AgentConfig = struct.field(pytree_node=False)
    env_params: EnvParams
    params: AgentParams

    def begin(self, key: chex.PRNGKey) -> EnvState:
        """A drawn episode's beginning."""
        return self.env.reset_env(key, self.env_params)[1]

    def after(self, state: EnvState, choice: Choice) -> EnvState:
        """The state after a decision."""
        return self.env.step_env(KEY, state, choice.action, self.env_params)[1]

    def decide(self, state: EnvState) -> Choice:
        """The actor's decision."""
        observation = self.env.observe(KEY, state, None, self.env_params)
        return DDPG(self.config).act(self.params, observation, KEY, explore=False)

    def follow(self, _: Any, state: EnvState) -> EnvState:
        """The state after the actor's decision, as the body of a loop."""
        return self.after(state, self.decide(state))


@jax.jit
def trajectories(player: Player, keys: chex.PRNGKey) -> tuple[Features, RelaxedAction, chex.Array]:
    """Features, executed actions, and whether a decision was left; (episodes, most decisions, ...) each."""
    num_nodes = player.env.config.num_nodes

    def step(state: EnvState, _: None) -> tuple[EnvState, tuple[Features, RelaxedAction, chex.Array]]:
        choice = player.decide(state)
        flow = (jnp.full(num_nodes, x) for x in (choice.bandwidth, choice.hold))
        action = RelaxedAction(jax.nn.one_hot(choice.node, num_nodes), *flow)
        return player.after(state, choice), (choice.features, action, ~player.env.is_terminated(state))

    most = player.env.config.num_services * player.env.config.max_microservices
    return jax.vmap(lambda key: jax.lax.scan(step, player.begin(key), length=most)[1])(keys)


def windows(features: Features, action: RelaxedAction, active: chex.Array, *, horizon: int) -> tuple:
    """Features before and after every `horizon` decisions of one episode, (n, ...), and the list of those actions."""
    episode, first = np.nonzero(np.asarray(active)[:, horizon:])

    def at(tree: chex.ArrayTree, step: int) -> chex.ArrayTree:
        return jax.tree.map(lambda x: x[episode, first + step], tree)

    return at(features, 0), at(features, horizon), [at(action, step) for step in range(horizon)]


def fit_linear(before: Features, after: Features, action: RelaxedAction) -> Model:
    """Ridge regression of the change of all features on the features, the chosen node and 1, over (n, ...)."""

    def inputs(features: Features, action: RelaxedAction) -> chex.Array:
        return flat_features(features, action.nodes, jnp.ones((action.nodes.shape[0], 1)))

    known, change = (
        np.asarray(x, np.float64) for x in (inputs(before, action), flat_features(after) - flat_features(before))
    )
    # The penalty as further equations: each weight is 0.
    known = np.concatenate([known, np.sqrt(RIDGE) * np.eye(known.shape[1])])
    change = np.concatenate([change, np.zeros((known.shape[1], change.shape[1]))])
    weights = jnp.asarray(np.linalg.lstsq(known, change)[0], jnp.float32)
    unravel = jax.vmap(ravel_pytree(jax.tree.map(lambda x: x[0], before))[1])
    return lambda features, action: jax.tree.map(jnp.add, features, unravel(inputs(features, action) @ weights))


def transition_rows(models: dict[str, Model], played: tuple) -> list[Row]:
    """The error of each part of the features for each model and horizon."""
    rows = []
    for horizon in HORIZONS:
        before, after, actions = windows(*played, horizon=horizon)
        for name, model in models.items():
            predicted = before
            for action in actions:
                predicted = model(predicted, action)
            error = jax.tree.map(lambda x, y: float(jnp.sqrt(jnp.mean(jnp.square(x - y)))), predicted, after)
            parts = {"nodes": error.nodes, "links": error.links, "context": error.context}
            rows.append({"decisions ahead": horizon, "model": name} | parts)
    return rows


def forecast_rows(forecast: chex.ArrayTree, load: np.ndarray) -> list[Row]:
    """The error of the load forecast over every window of (traces, frames)."""
    whole = np.lib.stride_tricks.sliding_window_view(load, HISTORY + FRAMES, axis=1).reshape(-1, HISTORY + FRAMES)
    mean, deviation = map(np.asarray, LoadForecast().apply(forecast, jnp.asarray(whole[:, :HISTORY])))
    rows = []
    for ahead in FRAMES_AHEAD:
        now, truth = whole[:, HISTORY - 1], whole[:, HISTORY - 1 + ahead]
        errors = {"forecast": mean[:, ahead - 1] - truth, "nothing changes": now - truth, "mean": load.mean() - truth}
        within = float(np.mean(np.abs(errors["forecast"]) <= deviation[:, ahead - 1]))
        squares = {name: float(np.sqrt(np.mean(np.square(x)))) for name, x in errors.items()}
        rows.append({"frames ahead": ahead} | squares | {"within": within})
    return rows


def truth(player: Player, state: EnvState) -> chex.Array:
    """(V,) true outcome of choosing each node; the higher the better."""
    observation = player.env.observe(KEY, state, None, player.env_params)
    preference = DDPG(player.config).preference(player.params, observation)

    def of(node: chex.Array) -> chex.Array:
        after = player.env.step_env(KEY, state, preference.action(node), player.env_params)[1]
        after = jax.lax.fori_loop(0, FOLLOWED, player.follow, after)
        return -jnp.sum(expected_completions(after, player.env_params))

    return jax.vmap(of)(jnp.arange(player.env.config.num_nodes))


def scores(player: Player, forecast: chex.ArrayTree | None, state: EnvState) -> dict[str, chex.Array]:
    """(V,) scores of the nodes by each rule or twin; the higher the better."""
    env, config, params = player.env, player.config, player.params
    observation, nodes = env.observe(KEY, state, None, player.env_params), jnp.arange(env.config.num_nodes)
    features = encode(observation)
    learner = DTDRLMO(config)
    output = learner.networks.actor(params.actor, features)
    predicted = partial(learner.predicted_return, params, features, learner.networks.relaxed(output))
    ahead = dataclasses.replace(config.plan, candidates=nodes.size)

    def planned(forecast: Forecast) -> chex.Array:
        world = known_world(state, player.env_params)
        base = partial(learner.preference, params)
        tried = simulate(env, world, KEY, config=ahead, prefer=base, forecast=forecast)
        return jnp.zeros(nodes.size).at[tried.nodes].set(-tried.costs)

    found = {"eft": -observation.nodes.finish, "actor": output.nodes, "learned twin": jax.vmap(predicted)(nodes)[1]}
    found["plan, load as now"] = planned(as_now)
    if forecast is not None:
        found["plan, forecast"] = planned(partial(predict_load, forecast, sampled=False))
    return found


@jax.jit
def judged(player: Player, forecast: chex.ArrayTree | None, keys: chex.PRNGKey, indices: chex.Array) -> tuple:
    """`scores` and `truth` of (n,) decisions, each given by its episode's key and its index in the episode."""

    def judge(case: tuple[chex.PRNGKey, chex.Array]) -> tuple[dict[str, chex.Array], chex.Array]:
        state = jax.lax.fori_loop(0, case[1], player.follow, player.begin(case[0]))
        return scores(player, forecast, state), truth(player, state)

    return jax.lax.map(judge, (keys, indices), batch_size=SIDE_BY_SIDE)


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value within its row, from 0; equal values share the mean of theirs."""
    one, other = values[..., :, None], values[..., None, :]
    return (other < one).sum(-1) + 0.5 * ((other == one).sum(-1) - 1)


def spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rank correlation within each row of (n, V) values; 0 where all of either are equal."""
    x, y = (ranks(values) - (values.shape[-1] - 1) / 2 for values in (one, other))
    scale = np.sqrt(np.square(x).sum(-1) * np.square(y).sum(-1))
    return (x * y).sum(-1) / np.where(scale > 0.0, scale, 1.0)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where the policies come from, and the rows of each table."""
    env, env_params = make_env(Scenario(dataset=arguments.dataset), "test")
    keys = episode_keys(arguments.seed, arguments.episodes)
    observation = jax.eval_shape(env.reset_env, keys[0], env_params)[0]
    policy = load_policy(arguments.policy, observation)
    config, params = policy.config, policy.params
    if params.twin is None:
        raise SystemExit(f"{arguments.policy}: {config.algorithm} has no learned twin; name a dtdrlmo policy")
    planner = arguments.plan_policy and load_policy(arguments.plan_policy, observation)
    forecast = planner.params.forecast if planner else None

    player = Player(env, config, env_params, params)
    train = player.replace(env_params=make_env(Scenario(dataset=arguments.dataset), "train")[1])
    before, after, [action] = windows(*trajectories(train, episode_keys(arguments.seed, FITTED)), horizon=1)
    played = trajectories(player, keys)
    models: dict[str, Model] = {
        "twin": lambda features, action: predict(DTDRLMO(config).networks, params.twin, features, action)[0],
        "linear": fit_linear(before, after, action),
        "nothing changes": lambda features, _: features,
    }
    tables = {"transition": transition_rows(models, played)}
    if forecast is not None:
        tables["forecast"] = forecast_rows(forecast, np.asarray(env_params.background.load))
    decisions = np.random.default_rng(arguments.seed).permutation(np.argwhere(played[-1]))[: arguments.decisions]
    found, true = judged(player, forecast, keys[decisions[:, 0]], decisions[:, 1])
    agreement = {name: bootstrap_mean(spearman(np.asarray(x), np.asarray(true))) for name, x in found.items()}
    tables["ranks"] = [{"scores": name} | interval._asdict() for name, interval in agreement.items()]
    return {"policy": policy.origin, "plan_policy": planner and planner.origin, "tables": tables}


def main() -> None:
    """Measure, print a table for each question, and write the figures if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, default=PRETRAINED / "dtdrlmo.msgpack", help="of algorithm dtdrlmo")
    parser.add_argument("--plan-policy", type=Path, help="of algorithm dtdrlmo-plan, for its forecast")
    parser.add_argument("--dataset", choices=("synthetic", "alibaba"), default="synthetic")
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--decisions", type=int, default=256, help="drawn from the episodes for the ranks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures = measure(arguments)
    for name, rows in figures["tables"].items():
        columns = {column: ".3f" if isinstance(value, float) else "" for column, value in rows[0].items()}
        print_table(f"{name}, {arguments.dataset}, {arguments.episodes} episodes", rows, columns)
    if arguments.json:
        setting = {"device": processor(), "versions": versions("jax", "jaxcec")}
        setting |= {name: getattr(arguments, name) for name in ("dataset", "episodes", "decisions", "seed")}
        arguments.json.write_text(json.dumps(setting | figures, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
