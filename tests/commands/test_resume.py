"""What a run leaves when it is stopped, killed, or short of room, and what is made of it."""

import csv
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import yaml
from helpers.runs import TINY, damage, steps

from jaxcec.commands import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return str(path)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run that nothing interrupted, saved after every chunk."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train.main(["--config", tiny, "--total-decisions", "96", "--save-every", "0", "--out", str(folder)])
    return folder


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def metrics(folder):
    """Every row but for its speed."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "decisions_per_s"} for row in csv.DictReader(file)]


def saved(folder):
    """The step of the newest checkpoint, 0 if there is none."""
    return max(steps(folder), default=0)


def test_the_newest_three_checkpoints_are_kept_with_their_checksums(whole):
    assert steps(whole) == [10, 11, 12]
    checksums = {path.name for path in (whole / "checkpoints").glob("*.sha256")}
    assert checksums == {f"{step}.sha256" for step in steps(whole)}


def test_a_damaged_checkpoint_is_passed_over(run, whole, capsys):
    damage(run, 12)
    damage(run, 11)
    train.main(["--resume", str(run)])
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("damaged, its checksum does not match") == 2 and "at 80 decisions" in printed
    assert metrics(run) == metrics(whole), "bit for bit what an uninterrupted run has"
    assert {path.name for path in (run / "checkpoints").glob("*.damaged")} == {"11.damaged", "12.damaged"}


def test_where_all_are_damaged_nothing_is_made_up(run, capsys):
    for step in steps(run):
        damage(run, step)
    with pytest.raises(SystemExit):
        train.main(["--resume", str(run)])
    assert "every checkpoint is damaged" in capsys.readouterr().err


def test_a_run_killed_before_its_first_checkpoint_begins_again(run, whole):
    for path in run.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    train.main(["--resume", str(run)])
    assert metrics(run) == metrics(whole)


def test_two_runs_cannot_share_a_folder(run, whole, capsys):
    with filelock.FileLock(run / ".lock"), pytest.raises(SystemExit):
        train.main(["--resume", str(run), "--total-decisions", "384"])
    assert "another run is using it" in capsys.readouterr().err
    assert metrics(run) == metrics(whole)


@pytest.mark.parametrize("out", ["in_the_way/run", "/proc/run"])
def test_where_nothing_can_be_written_one_line_says_so(out, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in_the_way").write_text("a file")
    with pytest.raises(SystemExit) as left:
        train.main(["--config", tiny, "--out", out])
    assert left.value.code == 2
    assert out.split("/")[-2] in capsys.readouterr().err


def test_what_is_not_finite_stops_training_and_is_not_saved(tiny, tmp_path, capsys):
    folder = tmp_path / "run"
    asked = ["--config", tiny, "--save-every", "0", "--out", str(folder)]
    with pytest.raises(SystemExit) as left:
        train.main([*asked, "--agent.reward-scale", "1e30"])
    assert left.value.code == 2
    assert "step 3: a loss, a reward or a parameter is not a finite number" in " ".join(capsys.readouterr().err.split())
    assert (folder / "policy.msgpack").is_file() and steps(folder)[-1] == 2, "the checkpoint from before training"


def start(*arguments):
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes)


def at_work(*arguments):
    """A run that has begun to train."""
    process = start(*arguments)
    next((line for line in process.stdout if "validation ACT" in line), None)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, tiny, tmp_path):
    process = at_work("--config", tiny, "--out", tmp_path / "run", "--total-decisions", 4_000_000)
    process.send_signal(number)
    rest = process.communicate(timeout=300)[0]
    assert process.returncode == 0 and f"--resume {tmp_path / 'run'}" in rest.replace("\n", "")
    assert steps(tmp_path / "run"), "as far as it came, first prices included"


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_as_if_it_had_not_been(tiny, tmp_path):
    whole, killed, rng = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    train.main(["--config", tiny, "--out", str(whole), "--total-decisions", "40000"])
    arguments = ("--config", tiny, "--out", killed, "--total-decisions", 40_000)
    reached = [0]
    for _ in range(20):
        process, chunks = at_work(*arguments, "--save-every", 0), rng.randrange(3)
        while saved(killed) < reached[-1] + 78 * chunks:
            assert process.poll() is None, process.communicate()[0]  # it must be at work until it is killed
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        arguments = ("--resume", killed)
        reached.append(saved(killed))
    assert len(set(reached)) > 3 and reached[-1] < 5000, f"checkpoints at {reached}"
    train.main(["--resume", str(killed)])
    assert metrics(killed) == metrics(whole)


@pytest.mark.slow
def test_without_room_the_run_stops_and_what_it_had_is_whole(tiny, tmp_path):
    """A limit on the size of files, for a disk that fills up: larger writes fail half-way in the same manner."""
    folder = tmp_path / "run"
    train_py = shlex.join([sys.executable, "train.py", "--config", tiny, "--out", str(folder), "--save-every", "0"])
    limited = ["bash", "-c", f"ulimit -f 60; exec {train_py}"]  # KiB
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "error: " in done.stderr, done.stderr
    train.main(["--resume", str(folder)])
    assert int(metrics(folder)[-1]["step"]) == 24
