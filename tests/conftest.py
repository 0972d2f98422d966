"""Strict dtype and rank promotion in every test, on two virtual CPU devices, with programs that compile fast.

`JAX_PLATFORMS=cuda pytest -n 0 tests/env` runs the tests on another device, and `XLA_FLAGS= pytest` with the code that
users run.
"""

import gc
import os
from pathlib import Path

import jax
import pytest
from xdist.scheduler import LoadFileScheduling

from jaxcec.commands.runtime import use_compilation_cache

# Most of the tests' time is compilation: the same graphs as simpler machine code compile four times as fast.
# One part per program, because the other core has a worker of its own.
FAST_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11):  # later versions do not know the flag
    FAST_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"
# Files that train or play the run of helpers/runs.py: one worker has them all, so that it is traced once.
TRAINING = {
    "test_commands.py",
    "test_devices.py",
    "test_own_policy.py",
    "test_own_world.py",
    "test_paper_grids.py",
    "test_pictures.py",
    "test_resume.py",
    "test_training.py",
}
LONGEST = {"first_ten_minutes.ipynb", "test_documentation.py", "test_examples.py"} | TRAINING
MOST_MAPS = 45_000  # memory maps of a process, of 65,530 that Linux allows; a file of tests adds up to 4,000

os.environ.setdefault("XLA_FLAGS", FAST_TO_COMPILE)  # read when JAX creates its devices, and by processes started here
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")  # GPUs would otherwise round factors to TF32
# Tracing makes millions of small objects that live on: looking through them again and again took a sixth of the time.
gc.set_threshold(100_000, 20, 50)
# The workers share what they compile, and the next run finds it again.
use_compilation_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
# Create both devices now: a command under test that runs first would create only the devices it is asked for.
jax.devices()


class SameWorker(LoadFileScheduling):
    """Each file has one worker, and the files of TRAINING have the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "training" if Path(file).name in TRAINING else file


def pytest_xdist_make_scheduler(config, log):
    return SameWorker(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items):
    """Begin with the longest files, so that neither worker is alone with one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled():
    """Drop compiled programs once there are many: thousands exhaust the memory maps of a process, and XLA crashes."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
