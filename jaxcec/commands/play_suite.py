"""`python eval.py --suite`: every policy on the named worlds of the suite, and the scoreboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcec.commands.console import command_line, console, format_seconds, progress_bar
from jaxcec.commands.contenders import PolicyChoice, contenders_for
from jaxcec.env import CECEnv, EnvParams
from jaxcec.evaluation import bootstrap_mean, clairvoyant, episode_keys, lower_bounds, paired_difference
from jaxcec.files import check_empty_folder, csv_text, write_aside, write_json
from jaxcec.policies import SearchConfig
from jaxcec.scenarios.suite import SUITE, suite_world

SEED = 0  # of the episodes of every member
EPISODES = 64  # of each member, divided among its banks
REFERENCE = "eft"  # always played, for the others are compared with it
BOUND = "lower bound"
POPULATION = 16  # of the clairvoyant's search
_HEAD = """# Scoreboard

ACT of each policy over that of `{reference}` on the same episodes, with its 95 % bootstrap
interval; of `{reference}` itself, the ACT in s. Below 1 is better. Each world has {episodes}
held-out episodes or a few less, which are the same for everyone: a hash tells whether they are
those published. This page was written by

```sh
{repeat}
```

A policy of your own joins with `--policy MODULE:FUNCTION`, a trained one with `--checkpoint`.

No policy is below the row `{bound}`: for each service it counts the heaviest path of its
workflow at the fastest host, without transfers, other services and other tenants, so that what is
possible may be far above it. The row `clairvoyant`, if there is one, is what a search reached that
knows the future and starts from the schedules of the policies, `--clairvoyant GENERATIONS`: so much
is possible, and perhaps more.
"""


class Score(NamedTuple):
    """One policy, or a bound, on one member."""

    information: str  # what the policy sees; empty for the lower bound
    acts: np.ndarray  # (episodes,) s


Scores = dict[str, dict[str, Score]]  # by member, then by policy


def run_suite(names: Sequence[str], folder: Path, *, choice: PolicyChoice, generations: int = 0) -> None:
    """Play the policies on members of the suite, or on `all`, and write scoreboard.md, results.json, episodes.csv.

    Without generations the search that knows the future, `clairvoyant`, is left out. So is, with a message, a member
    whose networks or workflows need a package that is not installed.

    Raises:
        ValueError: an unknown member, a policy that does not exist, or the folder is not empty.
    """
    members = list(SUITE) if "all" in names else list(names)
    for name in members:
        if name not in SUITE:
            raise ValueError(f"--suite: got {name!r}; must be all or among {', '.join(SUITE)}")
    check_empty_folder("--out", folder)
    scores: Scores = {}
    config = None
    with progress_bar() as progress:
        task = progress.add_task("playing", total=len(members), status="")
        for name in members:
            progress.update(task, status=name)
            try:
                env, banks = suite_world(name)
            except ImportError as error:
                console.print(f"{name}: left out: {error}")
            else:
                if config not in (None, env.config):
                    jax.clear_caches()  # programs compiled for other array sizes are not used again
                config = env.config
                scores[name] = _play_member(env, banks, choice, generations=generations)
                acts = (f"{each} {format_seconds(score.acts.mean())}" for each, score in scores[name].items())
                console.print(f"{name}, ACT in s: {', '.join(acts)}")
                # Written again after each member, so that nothing is lost if this is stopped.
                _write(folder, scores, choice, generations=generations)
            progress.advance(task)
    if not scores:
        raise ValueError(f"--suite: none of {', '.join(members)} can be played without the packages named above")
    console.print(f"written: {folder} holds {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _play_member(
    env: CECEnv, banks: Sequence[EnvParams], choice: PolicyChoice, *, generations: int
) -> dict[str, Score]:
    """The policies, the clairvoyant if there are generations, and the lower bound on the same episodes."""
    wanted = choice._replace(names=(REFERENCE, *(name for name in choice.names if name != REFERENCE)))
    contenders, _ = contenders_for(wanted if choice.names else choice, env, banks[0], report=lambda _: None)
    keys = episode_keys(SEED, max(EPISODES // len(banks), 1))
    played = {each.name: [each.play(env, params, keys) for params in banks] for each in contenders}
    seen = {each.name: each.information for each in contenders}
    if generations:
        search: dict[str, Any] = {"config": SearchConfig(POPULATION, generations), "search_key": jax.random.key(SEED)}
        by_bank = zip(banks, *played.values(), strict=True)
        played["clairvoyant"] = [clairvoyant(env, params, keys, played=found, **search) for params, *found in by_bank]
        seen["clairvoyant"] = "future"
    acts = {name: [episodes.act for episodes in parts] for name, parts in played.items()}
    acts[BOUND] = [lower_bounds(env, params, keys) for params in banks]
    return {name: Score(seen.get(name, ""), np.concatenate(each)) for name, each in acts.items()}


def scoreboard(scores: Scores, repeat: str) -> str:
    """ACT of every policy and bound on every member over that of EFT, with its 95 % interval, as a page of Markdown."""
    policies = {name: score.information for played in scores.values() for name, score in played.items()}
    listed = [f"* `{name}`: {SUITE[name].about}; episodes `{SUITE[name].published}`" for name in scores]
    members = [fill(line, 100, subsequent_indent="  ", break_on_hyphens=False) for line in listed]
    lines = [_HEAD.format(episodes=EPISODES, reference=REFERENCE, bound=BOUND, repeat=repeat), *members, ""]
    lines += [f"| policy | sees | {' | '.join(scores)} |", "|---" * (2 + len(scores)) + "|"]
    for policy, information in policies.items():
        cells = [_cell(played, policy) for played in scores.values()]
        lines.append(f"| {policy} | {information} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(played: dict[str, Score], policy: str) -> str:
    if policy not in played:
        return ""
    if policy == REFERENCE:
        act = bootstrap_mean(played[policy].acts)
        return f"{format_seconds(act.mean)} s [{format_seconds(act.low)}, {format_seconds(act.high)}]"
    ratio = paired_difference(played[policy].acts, played[REFERENCE].acts)
    return f"{1 + ratio.mean:.3f} [{1 + ratio.low:.3f}, {1 + ratio.high:.3f}]"


def _write(folder: Path, scores: Scores, choice: PolicyChoice, *, generations: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        (member, policy, episode, act)
        for member, played in scores.items()
        for policy, score in played.items()
        for episode, act in enumerate(score.acts.tolist())
    ]
    write_aside(folder / "episodes.csv", csv_text(("member", "policy", "episode", "act"), rows))
    results = {
        member: {
            policy: {
                "information": score.information,
                "act": bootstrap_mean(score.acts)._asdict(),
                "over_eft": paired_difference(score.acts, played[REFERENCE].acts)._asdict(),
            }
            for policy, score in played.items()
        }
        for member, played in scores.items()
    }
    words = ["--suite", *(["all"] if set(scores) == set(SUITE) else scores), *choice.words]
    words += ["--clairvoyant", str(generations)] if generations else []
    repeat = command_line("eval", *words)
    write_aside(folder / "scoreboard.md", scoreboard(scores, repeat))
    write_json(
        folder / "results.json",
        {"repeat": repeat, "seed": SEED, "episodes": EPISODES, "plan_steps": choice.plan_steps, "members": results},
    )
