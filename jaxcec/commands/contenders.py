"""The policies that eval.py plays: baselines, planners, learned policies, and the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxcec.agents import LEARNERS, PRETRAINED, load_policy
from jaxcec.agents.checkpoint import policy_algorithm
from jaxcec.commands.console import command_line, console
from jaxcec.commands.worlds import import_own
from jaxcec.env import Action, CECEnv, EnvParams, Observation
from jaxcec.evaluation import Contender, baseline_contenders
from jaxcec.policies import earliest_finish

TWIN_EFT = "twin-eft"  # the earliest finish according to the learned twin of dtdrlmo
TWIN_PLAN = "twin-plan"  # dtdrlmo that plans in its learned twin
EXACT = "dtdrlmo-exact"  # the actor of dtdrlmo, with the mechanism's exact answers in place of the twin's
ROLLOUTS = ("best-of-random", "eft-rollout", "peft-rollout")  # planners that are not learned
IF_NAMED = (TWIN_PLAN, EXACT)  # played only if they are named


class PolicyChoice(NamedTuple):
    """The policies that a user asks for."""

    names: tuple[str, ...] = ()  # of policies; if there are none, the command decides
    own: tuple[str, ...] = ()  # policies of the user, MODULE:FUNCTION each
    checkpoint: Path | None = None  # file of a learned policy, or a run folder
    plan_steps: int | None = None  # decisions that planners simulate ahead; None is what their settings say

    @property
    def words(self) -> list[str]:
        """The options of a command line that ask for the same policies."""
        words = ["--policies", *self.names] if self.names else []
        words += ["--policy", *self.own] if self.own else []
        words += ["--checkpoint", str(self.checkpoint)] if self.checkpoint else []
        return words + (["--plan-steps", str(self.plan_steps)] if self.plan_steps is not None else [])


def contenders_for(
    choice: PolicyChoice,
    env: CECEnv,
    env_params: EnvParams,
    *,
    by_default: Callable[[str], bool] = lambda _: True,
    report: Callable[[str], None] = console.print,
) -> tuple[list[Contender], dict[str, str]]:
    """The policies that a user asks for, and the file and provenance of each learned one.

    A learned policy is read from the checkpoint, otherwise from the newest run, and otherwise it is the one that ships
    with the package. `by_default` tells of each name whether it is played if the user names none; `report` receives a
    line about each learned policy.

    Raises:
        ValueError: a policy does not exist, or the checkpoint is invalid or does not fit the environment.
    """
    learned, sources = _learned_contenders(choice, env, env_params, report)
    contenders = [*baseline_contenders(env, plan_steps=choice.plan_steps), *learned]
    known = [contender.name for contender in contenders]
    for name in choice.names:
        if name not in known:
            raise ValueError(f"--policies: got {name!r}; must be among {', '.join(known)}")
    names = choice.names or tuple(filter(by_default, known))
    own = [own_policy(name, env, env_params) for name in choice.own]
    played = [contender for contender in contenders if contender.name in names]
    return played + own, {name: source for name, source in sources.items() if name in names}


def fingerprint(contender: Contender) -> str:
    """Eight letters and digits that differ between policies of one name with other parameters; empty without any."""
    leaves = jax.tree.leaves(contender.params)
    digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves))
    return digest.hexdigest()[:8] if leaves else ""


def own_policy(name: str, env: CECEnv, env_params: EnvParams) -> Contender:
    """Import a policy of the user and check, without running it, that it returns an action.

    The name is MODULE:FUNCTION; the module may be in the current folder. The function maps one observation and a key to
    an `Action`.

    Raises:
        ValueError: the function does not exist, or it does not return an `Action` of scalars.
    """
    policy = import_own("--policy", name)
    # A policy with parameters need not be hashable, as the function that eval_shape takes must be.
    action = jax.eval_shape(lambda *seen: policy(*seen), _observation(env, env_params), jax.random.key(0))
    if not isinstance(action, Action) or any(leaf.shape for leaf in jax.tree.leaves(action)):
        raise ValueError(f"--policy: got {name}, which returns {action}; must return an Action of scalars")
    return Contender.of_rule(name, policy)


def _observation(env: CECEnv, env_params: EnvParams) -> Observation:
    """Shapes of one observation."""
    return jax.eval_shape(env.reset_env, jax.random.key(0), env_params)[0]


def _learned_contenders(
    choice: PolicyChoice, env: CECEnv, env_params: EnvParams, report: Callable[[str], None]
) -> tuple[list[Contender], dict[str, str]]:
    """One policy of each algorithm that has any, with the file and provenance of each."""
    observation = _observation(env, env_params)
    contenders, sources = [], {}
    for name, paths in _policy_files(choice.checkpoint, report).items():
        for path in paths:
            try:
                policy = load_policy(path, observation)
            except ValueError as error:
                if path.parent == PRETRAINED or choice.checkpoint is not None:
                    raise
                report(f"{name}: not used: {error}")
                continue
            sources[name] = f"{'the policy shipped' if path.parent == PRETRAINED else path} ({policy.origin})"
            report(f"{name}: {sources[name]}")
            if choice.plan_steps is not None:
                policy = policy.planning_ahead(choice.plan_steps)
            contenders.append(policy.contender(env, name))
            if name == "dtdrlmo":
                contenders.append(policy.rule_on_foreseen(TWIN_EFT, earliest_finish))
                contenders.append(policy.plan_in_twin(env, TWIN_PLAN))
                contenders.append(policy.on_exact_times(env, EXACT))
                sources |= dict.fromkeys((TWIN_EFT, TWIN_PLAN, EXACT), sources[name])
            break
        else:
            report(f"{name}: no policy; train one with: {command_line('train', '--agent.algorithm', name)}")
    return contenders, sources


def _policy_files(checkpoint: Path | None, report: Callable[[str], None]) -> dict[str, list[Path]]:
    """Files of policies by algorithm, preferred first: the checkpoint or the newest runs, then those that ship."""
    if checkpoint is not None:
        found = [checkpoint / "policy.msgpack" if checkpoint.is_dir() else checkpoint]
    else:
        found = sorted(Path("runs").glob("*/policy.msgpack"), key=lambda p: p.stat().st_mtime, reverse=True)
    files: dict[str, list[Path]] = {name: [] for name in reversed(LEARNERS)}
    for path in found:
        try:
            files[policy_algorithm(path)].append(path)
        except ValueError as error:  # such as a run of another version, or of an algorithm that is not imported
            if checkpoint is not None:
                raise
            report(f"not used: {error}")
    for name, paths in files.items():
        paths += [path for path in [PRETRAINED / f"{name}.msgpack"] if path.is_file()]
    return files
