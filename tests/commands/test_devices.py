"""Training on several devices and in several processes: what one device learns, up to the order of summation."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from helpers.runs import TINY, damage, steps

from jaxcec.commands import evaluate, train

ROOT = Path(__file__).parents[2]
LEARNED = ("reward", "critic_loss", "actor_loss", "twin_error", "twin_within")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | {"total_decisions": 64}))
    return path


def train_apart(*arguments):
    """Start `train.py` in another process."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "train.py", *arguments]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipe)


def finished(*processes):
    """Wait for processes of one training."""
    outputs = [process.communicate(timeout=1200)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)
    return outputs


@pytest.fixture(scope="module")
def one_device(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    train.main(["--config", str(settings), "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def two_devices(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "run"
    train.main(["--config", str(settings), "--out", str(folder), "--devices", "2"])
    return folder


def curve(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_learning(folder, other):
    rows, expected = curve(folder), curve(other)
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, like in zip(rows, expected, strict=True):
        assert row["act"] == like["act"] or np.isclose(float(row["act"]), float(like["act"]), rtol=1e-4)
        for name in LEARNED:
            if like[name]:
                np.testing.assert_allclose(float(row[name]), float(like[name]), rtol=2e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_devices_learn_what_one_does(one_device, two_devices):
    assert_same_learning(two_devices, one_device)


@pytest.mark.slow
def test_eight_devices_learn_what_one_does(one_device, settings, tmp_path):
    finished(train_apart("--out", str(tmp_path / "run"), "--config", str(settings), "--devices", "8"))
    assert_same_learning(tmp_path / "run", one_device)


def two_processes(*arguments):
    """Start a training that two processes share."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = [*arguments, "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2"]
    return [train_apart(*together, "--process-id", str(i)) for i in (0, 1)]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(one_device, settings, tmp_path):
    outputs = finished(*two_processes("--out", str(tmp_path / "run"), "--config", str(settings)))
    assert_same_learning(tmp_path / "run", one_device)
    assert "done: " in outputs[0] and "done: " not in outputs[1], "one of them speaks"


@pytest.mark.slow
def test_two_processes_stop_together_and_pass_over_what_is_damaged(settings, tmp_path):
    run = tmp_path / "run"
    processes = two_processes(
        "--out", str(run), "--config", str(settings), "--total-decisions", "4000", "--save-every", "0"
    )
    while len(steps(run)) < 2:
        assert all(process.poll() is None for process in processes), "they stop at the signal and not before"
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    outputs = finished(*processes)
    newest = steps(run)[-1]
    assert "stopped and saved" in outputs[0] and newest < 500
    damage(run, newest)
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    asked = ["--total-decisions", str(8 * newest)]
    outputs = finished(*two_processes("--resume", str(run), *asked))
    assert "damaged, its checksum does not match" in " ".join(outputs[0].split())
    train.main(["--resume", str(alone), *asked])
    assert_same_learning(run, alone)


@pytest.mark.slow
def test_a_checkpoint_goes_on_in_another_layout(one_device, two_devices, tmp_path):
    for source in (one_device, two_devices):
        folders = [tmp_path / f"{source.parent.name}-{devices}" for devices in (1, 2)]
        for devices, folder in zip((1, 2), folders, strict=True):
            shutil.copytree(source, folder)
            train.main(["--resume", str(folder), "--total-decisions", "96", "--devices", str(devices)])
        assert len(curve(folders[0])) > len(curve(source))
        assert_same_learning(folders[1], folders[0])


@pytest.mark.slow
def test_two_devices_play_the_episodes_that_one_plays(settings, tmp_path, capsys):
    asked = ["--config", str(settings), "--policies", "eft", "dtdrlmo", "--episodes"]
    acts = []
    for devices in ("1", "2"):
        evaluate.main([*asked, "4", "--devices", devices, "--out", str(tmp_path / devices)])
        with (tmp_path / devices / "episodes.csv").open() as file:
            acts.append([float(row["act"]) for row in csv.DictReader(file)])
    np.testing.assert_allclose(acts[0], acts[1], rtol=1e-5)
    with pytest.raises(SystemExit):
        evaluate.main([*asked, "3", "--devices", "2", "--out", str(tmp_path / "three")])
    assert "3 episodes cannot be divided equally" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--devices", "nine"], "--devices: got 'nine'; must be all or a positive number"),
        (["--devices", "0"], "--devices: got '0'; must be all or a positive number"),
        (["--devices", "5"], "--devices: got 5; must be at most 2"),
        (["--devices", "2", "--num-envs", "15"], "num_envs: got 15; must be a multiple of the number of devices, 2"),
        (["--num-processes", "2"], "--num-processes, --process-id: need --coordinator HOST:PORT"),
        (["--coordinator", "127.0.0.1:1"], "--coordinator: needs --num-processes and --process-id, or must be auto"),
    ],
)
def test_impossible_layouts_are_refused_before_anything_is_written(arguments, message, settings, tmp_path, capsys):
    assert jax.local_device_count() == 2  # which also settles it: before, `--devices 5` would make five
    with pytest.raises(SystemExit) as exit_info:
        train.main(["--config", str(settings), "--out", str(tmp_path / "run"), *arguments])
    assert exit_info.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_the_folder_of_compiled_programs(tmp_path):
    where = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    lines = "from jaxcec.commands.runtime import use_compilation_cache\nuse_compilation_cache()\n"
    lines += "import jax\nprint(jax.config.jax_compilation_cache_dir)"
    command = [sys.executable, "-c", lines]
    environment = {k: x for k, x in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | where
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "cache" / "jaxcec" / "compiled")
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "/elsewhere"
