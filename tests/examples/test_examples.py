"""Every example runs as a reader would run it: in a separate process, from the root of the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def output_of(name, **environment):
    """Run an example and return the lines that it prints."""
    command = [sys.executable, f"examples/{name}.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def numbers(line):
    """Return all numbers in a line."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", line.replace(",", ""))]


def test_every_example_has_a_test():
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for path in EXAMPLES.glob("*.py"):
        names = (f'"{path.stem}"', f"examples.{path.stem}:", f"examples/{path.name}")
        assert any(name in source for name in names), f"no test runs {path.name}"


@pytest.mark.slow
def test_ppo_learns():
    acts = [numbers(line)[1] for line in output_of("ppo", XLA_FLAGS="")]
    assert acts[-1] < 0.3 * acts[0]


@pytest.mark.slow
def test_parallel_learners_differ_by_rate_and_seed():
    slow, fast = (numbers(line.split("ACT")[1]) for line in output_of("many_learners", XLA_FLAGS=""))
    assert slow[0::2] == fast[0::2], "equal seeds must begin with the same ACT"
    assert fast[0] != fast[2]
    assert max(fast[1::2]) < 0.7 * min(slow[1::2])


def test_reinforce_in_the_table_of_algorithms_learns():
    [acts] = (numbers(line) for line in output_of("own_learner"))
    assert len(acts) > 5 and min(acts) < 0.6 * acts[0]


@pytest.mark.slow
def test_training_from_lists_leaves_a_run_and_plays_next_to_eft():
    lines = output_of("own_training")
    assert [line.split(":")[0] for line in lines] == ["eft", "ddpg"]
    eft, ddpg = (numbers(line)[0] for line in lines)
    assert 0 < ddpg <= 1.2 * eft
    made = {path.name for path in (ROOT / "runs" / "examples" / "own").iterdir()}
    assert {"metrics.csv", "curves.png", "policy.msgpack", "checkpoints"} <= made


def test_policy_that_pays_for_energy_uses_less_of_it():
    earliest, frugal = map(numbers, output_of("own_reward"))
    assert frugal[2] < earliest[2] and frugal[0] > earliest[0]


def test_custom_network_matches_times_computed_by_hand():
    lines = output_of("own_network")
    assert lines[0] == "local"
    first = "  service 0 microservice 0 on node 0: input there at   0.0 s, runs   0.0 to  10.0 s"
    assert lines[1] == first, "400 Mcycles at 40 Mcycles/s, and the input is on the node"
    # Service 0: 10 s, then two in parallel at 0.5 + 0.5 of the CPU until 32.5 s, then 7.5 s. Service 1: 3 x 25 s.
    assert lines[8] == "  ACT 57.5 s" and (40.0 + 75.0) / 2 == 57.5
    assert min(numbers(line)[0] for line in lines if line.startswith("  ACT")) < 57.5


def test_every_environment_has_a_different_world():
    rows = [numbers(line) for line in output_of("domain_randomisation")]
    assert len(rows) > 20
    rates, shares = ({row[i] for row in rows} for i in (0, 1))
    assert min(rates) < 0.02 < max(rates) and len(shares) > 10
