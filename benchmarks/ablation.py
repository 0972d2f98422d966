"""The gain from each part of the digital twin: one checkpoint, played with more and more of the future known.

    python benchmarks/ablation.py --policy RUN/policy.msgpack --dataset synthetic
    python benchmarks/ablation.py --policy RUN/policy.msgpack --dataset alibaba --json FILE

`actor` is the scorer alone; `plan, load as now` simulates the mechanism without a forecast, `plan, forecast` with the
learned one, `sampled` with two drawn from it; `true load` and `true future` give the same planner what nobody can know:
the future load of other tenants, and the future services as well. Episodes of the test split, paired. Needs a policy
of dtdrlmo-plan, the shipped one by default.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from harness import processor, report, versions

from jaxcec.agents import PRETRAINED, TrainedPolicy, load_policy
from jaxcec.agents.dtdrlmo_plan import DTDRLMOPlan
from jaxcec.agents.forecast import FRAMES, predict_load
from jaxcec.commands.runtime import use_compilation_cache
from jaxcec.env import CECEnv, EnvParams, EnvState, World, background, known_world, with_forecast
from jaxcec.evaluation import Contender, Decide, Episodes, episode_keys, paired_difference, play, rollout
from jaxcec.policies import BASELINES, Forecast, as_now, plan
from jaxcec.scenarios import Scenario, make_env

Know = Callable[[EnvState, EnvParams], World]


def true_load(state: EnvState, params: EnvParams) -> World:
    """The known world, but with other tenants' load as it will be."""
    world = known_world(state, params)
    now, frame = jnp.min(state.episode.next_ready), params.background.frame
    times = jnp.maximum(now, (jnp.floor(now / frame) + jnp.arange(FRAMES + 1)) * frame)
    load = jax.vmap(lambda time: background.load_at(params.background, state.episode.offset, time))(times)
    return with_forecast(world, load.T)


def true_future(state: EnvState, params: EnvParams) -> World:
    """The true environment."""
    return World(params, state, known_world(state, params).history)


def planner(
    env: CECEnv,
    params: EnvParams,
    policy: TrainedPolicy,
    *,
    know: Know = known_world,
    forecast: Forecast = as_now,
    **changes: Any,
) -> Decide:
    """Plan with the policy's actor as the base policy, in the world that `know` gives."""
    ahead = dataclasses.replace(policy.config.plan, **{"samples": 1} | changes)
    base = functools.partial(DTDRLMOPlan(policy.config).preference, policy.params)
    return jax.vmap(
        lambda _, state, key: plan(env, know(state, params), key, config=ahead, prefer=base, forecast=forecast).action
    )


def variants(env: CECEnv, params: EnvParams, policy: TrainedPolicy) -> dict[str, Decide]:
    """Every row of the table."""
    make = functools.partial(planner, env, params, policy)
    mean, sampled = (functools.partial(predict_load, policy.params.forecast, sampled=drawn) for drawn in (False, True))
    return {
        "actor": make(candidates=1, steps=0),
        "plan, load as now": make(),
        "plan, forecast": make(forecast=mean),
        "plan, sampled": make(forecast=sampled, samples=2),
        "plan, true load": make(know=true_load),
        "plan, true future": make(know=true_future),
    }


def row(name: str, act: np.ndarray, eft: np.ndarray, best: np.ndarray) -> dict[str, Any]:
    """ACT over EFT's, and its difference to the plan with the learned forecast, with intervals."""
    to_eft, to_best = paired_difference(act, eft), paired_difference(act, best)
    return {
        "variant": name,
        "act": float(act.mean()),
        "over_eft": 1.0 + to_eft.mean,
        "eft_low": 1.0 + to_eft.low,
        "eft_high": 1.0 + to_eft.high,
        "over_forecast": 1.0 + to_best.mean,
        "forecast_low": 1.0 + to_best.low,
        "forecast_high": 1.0 + to_best.high,
    }


def main() -> None:
    """Play every variant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, default=PRETRAINED / "dtdrlmo-plan.msgpack")
    parser.add_argument("--dataset", choices=("synthetic", "alibaba"), default="synthetic")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    use_compilation_cache()
    env, params = make_env(Scenario(dataset=arguments.dataset), arguments.split)
    keys = episode_keys(arguments.seed, arguments.episodes)
    policy = load_policy(arguments.policy, jax.eval_shape(env.reset_env, keys[0], params)[0])
    rule = Contender.of_rule("eft", BASELINES["eft"])
    eft = np.asarray(rollout(env, params, apply=rule.apply, params=rule.params, keys=keys).act)

    def played(decide: Decide) -> np.ndarray:
        def episodes(keys: chex.PRNGKey) -> Episodes:
            return play(env, params, decide=decide, keys=keys)

        return np.asarray(jax.jit(episodes)(keys).act)

    acts = {name: played(f) for name, f in variants(env, params, policy).items()}
    rows = [row(name, act, eft, acts["plan, forecast"]) for name, act in acts.items()]
    played_on = {name: getattr(arguments, name) for name in ("dataset", "split", "episodes", "seed")}
    setting = {"device": processor(), "versions": versions("jax", "jaxcec"), "policy": policy.origin} | played_on
    columns = dict.fromkeys(list(rows[0])[2:], ".3f")
    report(setting, rows, {"variant": "", "act": ".1f"} | columns, arguments.json)


if __name__ == "__main__":
    main()
