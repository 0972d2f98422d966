"""Decisions per second of a compiled scalar loop on one core: the reference for the array simulator on a CPU.

    python benchmarks/reference.py --episodes 2000 --processes 3
    python benchmarks/reference.py --check

The loop is a second implementation of docs/model.md, one decision after the other and in float32 like the arrays.
Sorted lists hold only the live breakpoints, lists replace masks, links without traffic are never visited, and EFT skips
a node that could not finish earlier even if it were idle. `--check` plays the same episodes in both simulators.
Compilation is timed separately. Needs numba: `pip install -e ".[bench]"`.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from harness import measured, processor, report, versions
from scalar.episodes import RULES, draw_episodes, make_episodes, play
from scalar.records import make_bank, make_state


def measure(what: str, episodes: int) -> dict[str, Any]:
    """Measure one rule in this process, on the scenario of the array benchmark."""
    from jaxcec.scenarios import Scenario, make_env

    env, params = make_env(Scenario(), "train")
    bank, state, rng, rule = make_bank(params), make_state(env.config), np.random.default_rng(0), RULES.index(what)
    start = time.perf_counter()
    play(rule, bank, state, draw_episodes(rng, 1, bank), 0)
    compile_s = time.perf_counter() - start
    start = time.perf_counter()
    act, decisions = play(rule, bank, state, draw_episodes(rng, episodes, bank), 1)
    seconds = time.perf_counter() - start
    return {"decisions_per_s": decisions / seconds, "compile_s": compile_s, "act": float(act.mean(dtype=np.float64))}


def agreement(scenario: Any, rule: str, count: int = 32) -> float:
    """Return the share of episodes whose ACT agrees to 1e-4 between the array and the scalar simulator."""
    import jax

    from jaxcec.evaluation import Contender, episode_keys, rollout
    from jaxcec.policies import BASELINES
    from jaxcec.scenarios import make_env

    env, params = make_env(scenario, "train")
    keys = episode_keys(0, count)
    drawn = jax.tree.map(np.asarray, jax.vmap(env.reset_env, in_axes=(0, None))(keys, params)[1].episode)
    bank = make_bank(params)
    episodes = make_episodes(drawn.topology, drawn.arrivals, drawn.offset, bank.offered.shape[1])
    act, _ = play(RULES.index(rule), bank, make_state(env.config), episodes, 0)
    contender = Contender.of_rule(rule, BASELINES[rule])
    arrays = rollout(env, params, apply=contender.apply, params=contender.params, keys=keys).act
    return float(np.isclose(act, np.asarray(arrays), rtol=1e-4).mean())


def check() -> None:
    """Play the same episodes in both simulators and require that their ACTs agree."""
    from jaxcec.scenarios import Scenario

    for rule in ("le", "eft"):
        share = agreement(Scenario(), rule)
        print(f"{rule}: ACT agrees in {share:.0%} of the episodes")
        # float32 may order a tie of finish times either way, after which the episodes differ.
        assert share >= 0.9, f"{rule}: {share:.0%} of the episodes agree; at least 90 % must"


def main() -> None:
    """Measure every rule and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--check", action="store_true", help="compare this simulator with the array simulator instead")
    parser.add_argument("--case", help="measure one case, as JSON, in this process")
    arguments = parser.parse_args()
    if arguments.check:
        check()
    elif arguments.case:
        print(json.dumps(measure(**json.loads(arguments.case))))
    else:
        cases = [{"what": rule, "episodes": arguments.episodes} for rule in RULES]
        rows = [row for row, _ in measured(__file__, cases, arguments.processes)]
        setting = {"device": f"{processor()}; 1 in use", "versions": versions("numba", "numpy")}
        columns = {"what": "", "episodes": ",", "decisions_per_s": ",.0f", "worst": ",.0f"}
        report(setting, rows, columns | {"compile_s": ".1f", "act": ",.0f"}, arguments.json)


if __name__ == "__main__":
    main()
