"""Every file of examples/ as a reader runs it: in a process of its own, from the repository's folder."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def said(name):
    """What an example prints, line by line."""
    command = [sys.executable, f"examples/{name}.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def numbers(line):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", line.replace(",", ""))]


def test_every_example_is_run_here():
    source = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.stem}"' in source or f"examples.{path.stem}:" in source, f"no test runs {path.name}"


def test_ppo_learns():
    acts = [numbers(line)[1] for line in said("ppo")]
    assert acts[-1] < 0.3 * acts[0]


def test_learners_side_by_side_differ_by_rate_and_seed():
    slow, fast = (numbers(line.split("ACT")[1]) for line in said("many_learners"))
    assert slow[0::2] == fast[0::2], "the same seeds begin alike"
    assert fast[0] != fast[2]
    assert max(fast[1::2]) < 0.7 * min(slow[1::2])


def test_who_pays_for_energy_uses_less():
    earliest, frugal = map(numbers, said("own_reward"))
    assert frugal[2] < earliest[2] and frugal[0] > earliest[0]


def test_an_own_network_is_timed_as_by_hand():
    lines = said("own_network")
    assert lines[0] == "local"
    first = "  service 0 microservice 0 on node 0: input there at   0.0 s, runs   0.0 to  10.0 s"
    assert lines[1] == first, "400 Mcycles at 40 Mcycles/s, and its input is there"
    # Service 0: 10 s, then two side by side, at 0.5 + 0.5 of the cpu, until 32.5 s, then 7.5 s. Service 1: 3 x 25 s.
    assert lines[8] == "  ACT 57.5 s" and (40.0 + 75.0) / 2 == 57.5
    assert min(numbers(line)[0] for line in lines if line.startswith("  ACT")) < 57.5


def test_every_environment_has_a_world_of_its_own():
    rows = [numbers(line) for line in said("domain_randomisation")]
    assert len(rows) > 20
    rates, shares = ({row[i] for row in rows} for i in (0, 1))
    assert min(rates) < 0.02 < max(rates) and len(shares) > 10


def test_own_policies_stand_in_eval_s_table(tmp_path):
    own = ["examples.own_policy:least_backlog", "examples.own_policy:patient"]
    command = ["eval.py", "--config", "smoke", "--policies", "eft", "--policy", *own, "--episodes", "4"]
    subprocess.run([sys.executable, *command, "--out", str(tmp_path / "out")], check=True, cwd=ROOT)
    policies = json.loads((tmp_path / "out" / "results.json").read_text())["policies"]
    assert list(policies) == ["eft", *own]
    assert policies["eft"]["act"] < policies[own[0]]["act"], "data have their weight too"
