"""Errors of the twins' predictions on held-out trajectories, those of a policy's actor in episodes of the test split.

    python benchmarks/twin_error.py --policy runs/NAME/policy.msgpack --plan-policy runs/OTHER/policy.msgpack

timing: the time until each edge node would finish the microservice, as the twin foresees it and at nominal rates,
against the mechanism's exact answer, over the actor's decisions. 'chosen' and 'others' are mean absolute errors in s,
for the node that the actor chose and for those that it did not; 'late' is by how many seconds later than the earliest
the node finishes that has the earliest predicted finish; 'within' is the share of the waits of chosen nodes within one
predicted deviation.

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
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from harness import Row, print_table, processor, versions

from jaxcec.agents import PRETRAINED, AgentConfig, AgentParams, Choice, load_policy
from jaxcec.agents.dtdrlmo import DTDRLMO
from jaxcec.agents.features import pace_of
from jaxcec.agents.forecast import FRAMES, LoadForecast, predict_load
from jaxcec.agents.information import restricted
from jaxcec.agents.twin import outcome_of, timing_loss
from jaxcec.env import HISTORY, CECEnv, EnvParams, EnvState, Info, expected_completions, known_world
from jaxcec.evaluation import bootstrap_mean, episode_keys
from jaxcec.policies import Forecast, as_now, plan
from jaxcec.scenarios import Scenario, make_env

FRAMES_AHEAD = (1, 4, 16)
FOLLOWED = 32  # decisions
SIDE_BY_SIDE = 32  # decisions judged at once; each takes a simulator for every node
KEY = jax.random.key(0)  # for signatures: without exploration, and under mean forecasts, nothing is drawn


class Player(struct.PyTreeNode):
    """A dtdrlmo agent in an environment."""

    env: CECEnv = struct.field(pytree_node=False)
    config: AgentConfig = struct.field(pytree_node=False)
    env_params: EnvParams
    params: AgentParams

    def begin(self, key: chex.PRNGKey) -> EnvState:
        """A drawn episode's beginning."""
        return self.env.reset_env(key, self.env_params)[1]

    def after(self, state: EnvState, choice: Choice) -> tuple[EnvState, Info]:
        """The state after a decision, and its record."""
        _, state, _, _, info = self.env.step_env(KEY, state, choice.action, self.env_params)
        return state, info

    def decide(self, state: EnvState) -> Choice:
        """The actor's decision."""
        observation = self.env.observe(KEY, state, None, self.env_params)
        return DTDRLMO(self.config).act(self.params, observation, KEY, explore=False)

    def follow(self, _: Any, state: EnvState) -> EnvState:
        """The state after the actor's decision, as the body of a loop."""
        return self.after(state, self.decide(state))[0]


@jax.jit
def trajectories(player: Player, keys: chex.PRNGKey) -> tuple[dict[str, chex.Array], chex.Array]:
    """The measures of every decision, and whether it was one; (episodes, most decisions) each."""
    learner = DTDRLMO(player.config)

    def step(state: EnvState, _: None) -> tuple[EnvState, tuple[dict[str, chex.Array], chex.Array]]:
        observation = player.env.observe(KEY, state, None, player.env_params)
        choice = player.decide(state)
        exact = observation.nodes.finish
        predicted = {
            "twin": learner.foresee(player.params, observation)[0].nodes.finish,
            "nominal": restricted(observation, "state").nodes.finish,
        }
        measured = {}
        for name, finish in predicted.items():
            error = jnp.abs(finish - exact)
            others = jnp.sum(error) - error[choice.node]
            measured[f"{name} chosen"] = error[choice.node]
            measured[f"{name} others"] = others / (exact.size - 1)
            measured[f"{name} late"] = exact[jnp.argmin(finish)] - jnp.min(exact)
        active = ~player.env.is_terminated(state)
        after, info = player.after(state, choice)
        outcome = outcome_of(choice.candidate, choice.action, info, pace_of(observation))
        assert outcome is not None  # dtdrlmo has a twin
        measured["twin within"] = timing_loss(learner.model, player.params.twin, outcome)[1]["twin_within"]
        return after, (measured, active)

    most = player.env.config.num_services * player.env.config.max_microservices
    return jax.vmap(lambda key: jax.lax.scan(step, player.begin(key), length=most)[1])(keys)


def timing_rows(measured: dict[str, chex.Array], active: chex.Array) -> list[Row]:
    """The mean of each measure over all decisions."""
    means = {name: float(x[active].mean()) for name, x in measured.items()}
    columns = ("chosen", "others", "late")
    rows: list[Row] = [
        {"model": name} | {column: means[f"{name} {column}"] for column in columns} for name in ("twin", "nominal")
    ]
    return [rows[0] | {"within": means["twin within"]}, rows[1]]


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
    preference = DTDRLMO(player.config).preference(player.params, observation)

    def of(node: chex.Array) -> chex.Array:
        after = player.env.step_env(KEY, state, preference.action(node), player.env_params)[1]
        after = jax.lax.fori_loop(0, FOLLOWED, player.follow, after)
        return -jnp.sum(expected_completions(after, player.env_params))

    return jax.vmap(of)(jnp.arange(player.env.config.num_nodes))


def scores(player: Player, forecast: chex.ArrayTree | None, state: EnvState) -> dict[str, chex.Array]:
    """(V,) scores of the nodes by each rule or twin; the higher the better."""
    env, config, params = player.env, player.config, player.params
    observation, nodes = env.observe(KEY, state, None, player.env_params), jnp.arange(env.config.num_nodes)
    learner = DTDRLMO(config)
    foreseen = learner.foresee(params, observation)[0].nodes.finish
    ahead = dataclasses.replace(config.plan, candidates=nodes.size)

    def planned(forecast: Forecast) -> chex.Array:
        world = known_world(state, player.env_params)
        base = partial(learner.preference, params)
        tried = plan(env, world, KEY, config=ahead, prefer=base, forecast=forecast)
        return jnp.zeros(nodes.size).at[tried.nodes].set(-tried.costs)

    actor = learner.preference(params, observation).scores
    found = {"eft": -observation.nodes.finish, "twin-eft": -foreseen, "actor": actor}
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
    measured, active = jax.tree.map(np.asarray, trajectories(player, keys))
    tables = {"timing": timing_rows(measured, active)}
    if forecast is not None:
        tables["forecast"] = forecast_rows(forecast, np.asarray(env_params.background.load))
    decisions = np.random.default_rng(arguments.seed).permutation(np.argwhere(active))[: arguments.decisions]
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
