"""Background loads of real machines, and the process that was fitted to them."""

import numpy as np
import pytest
from helpers.real_rows import USAGE, needs_real_rows, write_usage

from jaxcec.scenarios.load_processes import PROCESSES
from jaxcec.scenarios.machine_usage import fit_usage, real_usage, usage_grid
from jaxcec.scenarios.seeds import hash_split


@pytest.fixture
def usage(tmp_path):
    def write(rows):
        path = tmp_path / "machine_usage.csv"
        path.write_text("".join(f"{name},{time},{cpu},90,,,43.0,33.1,5\n" for name, time, cpu in rows))
        return path

    return write


def machines(split, count):
    return [name for name in (f"m_{i}" for i in range(1000)) if hash_split(name.encode()) == split][:count]


def test_invalid_values_and_empty_columns_are_ignored(usage):
    names, grid = usage_grid(usage([("m_1", 0, 40), ("m_1", 10, -1), ("m_1", 20, 101), ("m_1", 30, 60)]), 10.0)
    assert names == ["m_1"]
    assert grid[0].tolist() == pytest.approx([0.4, np.nan, np.nan, 0.6], nan_ok=True)


def test_the_rows_of_a_frame_are_averaged_in_any_order(usage):
    names, grid = usage_grid(usage([("m_2", 15, 20), ("m_1", 5, 10), ("m_2", 10, 40), ("m_1", 19, 30)]), 10.0)
    assert names == ["m_1", "m_2"]
    assert grid.tolist() == [pytest.approx([0.1, 0.3]), pytest.approx([np.nan, 0.3], nan_ok=True)]


def test_loads_are_held_over_short_gaps_and_holes_are_cut_out(usage):
    (name,) = machines("train", 1)
    times = [0, 60, 200, 141_000, 141_060, 160_600, 160_800]
    path = usage([(name, time, 10 + i) for i, time in enumerate(times)])
    loads = real_usage(path, "train", num_frames=20).load
    assert loads[0] == pytest.approx([0.10] * 6 + [0.11] * 14)
    assert loads[1] == pytest.approx([0.12] * 20)  # held for at most 300 s, so no window spans a hole
    assert loads[2:] == pytest.approx(np.array([[0.13] * 6 + [0.14] * 14, [0.15] * 20]))


def test_loads_are_clipped_to_the_largest_load(usage):
    (name,) = machines("train", 1)
    assert real_usage(usage([(name, 0, 99)]), "train", num_frames=1).load.max() == np.float32(0.9)


def test_splits_share_no_machine(usage):
    train, test = machines("train", 3), machines("test", 3)
    path = usage([(name, t, 10) for name in train for t in (0, 90)] + [(name, t, 20) for name in test for t in (0, 90)])
    assert real_usage(path, "train", num_frames=5).load.max() == pytest.approx(0.1)
    assert real_usage(path, "test", num_frames=5).load.min() == pytest.approx(0.2)


def test_too_few_or_invalid_rows_are_refused(usage):
    (name,) = machines("train", 1)
    path = usage([(name, 0, 10), (name, 10, 12)])
    with pytest.raises(ValueError, match=r"machine_usage.csv: no test machine of 1 has 5 frames of 10.0 s in a row"):
        real_usage(path, "test", num_frames=5)
    with pytest.raises(ValueError, match=r"machine_usage.csv: too few rows"):
        fit_usage(path)
    with pytest.raises(ValueError, match=r"machine_usage.csv: no cpu_util_percent in 0..100"):
        usage_grid(usage([("m_1", 0, 101)]), 10.0)


@pytest.fixture(scope="module", params=["drawn", pytest.param("real", marks=needs_real_rows)])
def rows(request, tmp_path_factory):
    """Rows of the trace, or rows drawn from the process that was fitted to them."""
    real = request.param == "real"
    return request.param, USAGE if real else write_usage(tmp_path_factory.mktemp("usage") / "machine_usage.csv")


def test_a_fit_recovers_the_constants_of_the_process(rows):
    source, path = rows
    fitted, constants = fit_usage(path), PROCESSES["alibaba"]
    # Two days of drawn rows have a sampling error, and are short for the slow component (fitted: 8836 s, not 12,300 s).
    mean_error, error = (0.01, 0.02) if source == "real" else (0.05, 0.3)
    assert fitted.mean == pytest.approx(constants.mean, rel=mean_error)
    assert np.array(fitted.components) == pytest.approx(np.array(constants.components), rel=error)


def test_rows_of_many_machines_become_traces_without_holes(rows):
    train, test = (real_usage(rows[1], split, num_frames=360).load for split in ("train", "test"))
    assert train.shape[1] == test.shape[1] == 360
    assert np.isfinite(train).all() and train.mean() == pytest.approx(0.35, abs=0.03)
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}
