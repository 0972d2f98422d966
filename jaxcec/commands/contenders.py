"""Every policy that eval.py can play: baselines, planners, and what was trained or ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from jaxcec.agents.act import act
from jaxcec.agents.checkpoint import PRETRAINED, load_policy, policy_algorithm
from jaxcec.agents.config import ALGORITHMS
from jaxcec.commands.console import console
from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation.rollout import Contender
from jaxcec.policies import BASELINES, RANDOM_PLANS, PlanConfig, prefer_priced_finish


def all_contenders(
    checkpoint: Path | None, env: CECEnv, env_params: EnvParams, tell: Callable[[str], None] = console.print
) -> tuple[list[Contender], dict[str, str]]:
    """Every baseline and every learned policy there is.

    Args:
        checkpoint: policy.msgpack or run folder of one of them; by default the newest runs, else those shipped.
        env: where they play.
        env_params: its banks.
        tell: is told which learned policies there are.

    Returns:
        They, and of each of the learned ones its file and how it was trained.

    Raises:
        ValueError: the checkpoint named is none, or does not fit the environment.
    """
    observation = jax.eval_shape(env.reset_env, jax.random.key(0), env_params)[0]
    contenders = [Contender.of_rule(name, policy) for name, policy in BASELINES.items()]
    contenders.append(Contender.of_planner("eft-rollout", env, PlanConfig(), prefer_priced_finish))
    contenders.append(Contender.of_random_plans("best-of-random", env, RANDOM_PLANS))
    sources = {}
    for name in reversed(ALGORITHMS):
        for path in _policy_paths(name, checkpoint):
            try:
                config, params, run = load_policy(path, observation)
            except ValueError as error:
                if path.parent == PRETRAINED or checkpoint is not None:
                    raise
                tell(f"{name}: not used: {error}")
                continue
            sources[name] = f"{'the policy shipped' if path.parent == PRETRAINED else path} ({run})"
            tell(f"{name}: {sources[name]}")
            contenders.append(Contender.of_agent(name, act(config, env), params))
            break
        else:
            tell(f"{name}: no policy; train one with: python train.py --agent.algorithm {name}")
    return contenders, sources


def chosen(contenders: Sequence[Contender], names: Sequence[str]) -> list[Contender]:
    """Those of these names, or all where none is named.

    Raises:
        ValueError: there is none of such a name.
    """
    known = [contender.name for contender in contenders]
    for name in names:
        if name not in known:
            raise ValueError(f"--policies: got {name!r}; must be among {', '.join(known)}")
    return [contender for contender in contenders if not names or contender.name in names]


def _policy_paths(name: str, checkpoint: Path | None) -> list[Path]:
    """Where a policy of this algorithm may be: the one named; else the newest runs; at last the one shipped."""
    shipped = [path for path in [PRETRAINED / f"{name}.msgpack"] if path.is_file()]
    if checkpoint is not None:
        named = checkpoint / "policy.msgpack" if checkpoint.is_dir() else checkpoint
        return [named] if policy_algorithm(named) == name else shipped
    runs = sorted(Path("runs").glob("*/policy.msgpack"), key=lambda p: p.stat().st_mtime, reverse=True)
    return [path for path in runs if policy_algorithm(path) == name] + shipped
