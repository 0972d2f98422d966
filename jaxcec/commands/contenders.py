"""Every policy that eval.py can play: baselines, planners, and what was trained or ships."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from jaxcec.agents import LEARNERS
from jaxcec.agents.checkpoint import PRETRAINED, load_policy, policy_algorithm
from jaxcec.commands.console import call, console
from jaxcec.env import Action, CECEnv, EnvParams, Observation
from jaxcec.evaluation.rollout import Contender
from jaxcec.policies import BASELINES, EFT_PLAN, RANDOM_PLANS, prefer_priced_finish

if TYPE_CHECKING:
    from jaxcec.commands.evaluate import EvalCommand


def contenders_for(
    command: EvalCommand,
    env: CECEnv,
    env_params: EnvParams,
    by_default: Callable[[str], bool] = lambda _: True,
    tell: Callable[[str], None] = console.print,
) -> tuple[list[Contender], dict[str, str]]:
    """The policies that a command asks for.

    Args:
        command: names them with `policies`, by default those that `by_default` is true of, and adds the user's own
            with `policy`. A file of a learned one is `checkpoint`, else it is the newest run's, else the one shipped.
        env: where they play.
        env_params: its banks.
        by_default: which are played if none is named.
        tell: is told which learned policies there are.

    Returns:
        They, and of each of the learned ones its file and how it was trained.

    Raises:
        ValueError: there is no such policy, or the checkpoint named is none or does not fit the environment.
    """
    contenders, sources = _all_contenders(command.checkpoint, env, env_params, tell)
    known = [contender.name for contender in contenders]
    for name in command.policies:
        if name not in known:
            raise ValueError(f"--policies: got {name!r}; must be among {', '.join(known)}")
    asked = command.policies or list(filter(by_default, known))
    own = [own_policy(name, env, env_params) for name in command.policy]
    return [contender for contender in contenders if contender.name in asked] + own, sources


def own_policy(name: str, env: CECEnv, env_params: EnvParams) -> Contender:
    """A function of the user's, tried once without computing anything.

    Args:
        name: MODULE:FUNCTION; the module is looked for in the current folder too. The function takes one observation
            and a key, and gives an `Action`.
        env: where it plays.
        env_params: its banks.

    Raises:
        ValueError: there is no such function, or it gives something else.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module, _, function = name.partition(":")
    try:
        policy = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--policy: got {name!r}; must be MODULE:FUNCTION, but {error}") from None
    observation = _observation(env, env_params)
    action = jax.eval_shape(policy, observation, jax.random.key(0))
    if not isinstance(action, Action) or any(leaf.shape for leaf in jax.tree.leaves(action)):
        raise ValueError(f"--policy: {name} gives {action}; must give an Action of scalars for one observation")
    return Contender.of_rule(name, policy)


def _observation(env: CECEnv, env_params: EnvParams) -> Observation:
    """The shapes of one."""
    return jax.eval_shape(env.reset_env, jax.random.key(0), env_params)[0]


def _all_contenders(
    checkpoint: Path | None, env: CECEnv, env_params: EnvParams, tell: Callable[[str], None]
) -> tuple[list[Contender], dict[str, str]]:
    """Every baseline and every learned policy there is."""
    observation = _observation(env, env_params)
    contenders = [Contender.of_rule(name, policy) for name, policy in BASELINES.items()]
    contenders.append(Contender.of_planner("eft-rollout", env, EFT_PLAN, prefer_priced_finish))
    contenders.append(Contender.of_random_plans("best-of-random", env, RANDOM_PLANS))
    sources = {}
    for name in reversed(LEARNERS):
        for path in _policy_paths(name, checkpoint):
            try:
                policy = load_policy(path, observation)
            except ValueError as error:
                if path.parent == PRETRAINED or checkpoint is not None:
                    raise
                tell(f"{name}: not used: {error}")
                continue
            sources[name] = f"{'the policy shipped' if path.parent == PRETRAINED else path} ({policy.origin})"
            tell(f"{name}: {sources[name]}")
            contenders.append(policy.contender(env, name))
            break
        else:
            tell(f"{name}: no policy; train one with: {call('train', '--agent.algorithm', name)}")
    return contenders, sources


def _policy_paths(name: str, checkpoint: Path | None) -> list[Path]:
    """Where a policy of this algorithm may be: the one named; else the newest runs; at last the one shipped."""
    shipped = [path for path in [PRETRAINED / f"{name}.msgpack"] if path.is_file()]
    if checkpoint is not None:
        named = checkpoint / "policy.msgpack" if checkpoint.is_dir() else checkpoint
        return [named] if policy_algorithm(named) == name else shipped
    runs = sorted(Path("runs").glob("*/policy.msgpack"), key=lambda p: p.stat().st_mtime, reverse=True)
    return [path for path in runs if policy_algorithm(path) == name] + shipped
