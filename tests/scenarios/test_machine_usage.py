"""Background loads of real machines, and the process that was fitted to them."""

import numpy as np
import pytest
from helpers.real_rows import EXPORTS, USAGE, needs_real_rows, write_usage

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


def test_the_splits_of_many_machines_depend_on_their_names_alone(usage):
    train, test = machines("train", 30), machines("test", 20)
    path = usage([(name, t, 10) for name in train for t in (0, 90)] + [(name, t, 20) for name in test for t in (0, 90)])
    loads = real_usage(path, "train", num_frames=5).load, real_usage(path, "test", num_frames=5).load
    assert loads[0] == pytest.approx(np.full((60, 5), 0.1)) and loads[1] == pytest.approx(np.full((40, 5), 0.2))


@pytest.mark.parametrize("count, tested", [(5, 1), (13, 3), (49, 10), (50, 10)])
def test_a_fifth_of_few_machines_are_for_testing(usage, count, tested):
    path = usage([(name, 0, i) for i, name in enumerate(machines("train", count))])
    train, test = (set(real_usage(path, split, num_frames=1).load[:, 0].tolist()) for split in ("train", "test"))
    assert (len(train), len(test)) == (count - tested, tested) and not train & test


@pytest.mark.parametrize("count", [1, 4])
def test_fewer_than_five_machines_are_in_both_splits(usage, count):
    path = usage([(f"m_{i}", 0, 10 * i) for i in range(count)])
    for split in ("train", "test"):
        assert real_usage(path, split, num_frames=1).load[:, 0] == pytest.approx(np.arange(count) / 10)


def test_traces_are_as_long_as_the_longest_stretch_that_every_split_has(usage):
    rows = [("m_1", time, 10) for time in (0, 200, 400, 900)] + [("m_2", 0, 20)]  # m_1: 0..700 s, a hole, 900 s
    for split in ("train", "test"):
        assert real_usage(usage(rows), split, num_frames=1024).load.shape == (1, 71)
        assert real_usage(usage(rows), split, num_frames=50).load.shape == (1, 50)
    path = usage([(f"m_{i}", 100 * i, i) for i in range(5)])  # one machine is for testing; all end at 400 s
    tested = round(100 * real_usage(path, "test", num_frames=1).load[0, 0])
    frames = min(31, 41 - 10 * tested)
    assert real_usage(path, "train", num_frames=99).load.shape[1] == frames
    assert real_usage(path, "test", num_frames=99).load.shape == (1, frames)


@pytest.fixture
def own(tmp_path):
    def write(text):
        (tmp_path / "loads.csv").write_text(text)
        return tmp_path / "loads.csv"

    return write


@pytest.mark.parametrize(
    "text",
    [
        "machine,time,load\nb,0,0.5\na,25,1\nb,29,0\n",
        "machine_id,time_stamp,cpu_util_percent\nb,0,50\na,25,100\nb,29,0\n",
        ",time,load_percent,machine\n0,0,50,b\n1,25,100,a\n2,29,0,b\n3,9,,b\n",
        '"time";"machine_id";"load"\n"1700000000";"b";"0.5"\n"1700000025";"a";"1"\n"1700000029";"b";"0"\n',
    ],
)
def test_an_own_file_has_a_header_that_tells_the_unit_and_any_beginning(own, text):
    names, grid = usage_grid(own(text), 10.0)
    assert names == ["a", "b"]
    assert grid.tolist() == [
        pytest.approx([np.nan, np.nan, 1.0], nan_ok=True),
        pytest.approx([0.5, np.nan, 0.0], nan_ok=True),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("machine,time,load\na,0,0.5\na,10,1.01\n", "line 3, load: got 1.01; .*name the column load_percent if"),
        ("machine,time,load\na,0,-0.1\n", "line 2, load: got -0.1; expected a share in 0..1"),
        ("machine,time,load_percent\na,0,101\n", "line 2, load_percent: got 101; expected a load in 0..100"),
        ("machine_id,time_stamp,cpu_util_percent\na,0,-1\n", "line 2, cpu_util_percent: got -1; expected a load in"),
        ("machine,time,load\na,0,nan\n", "line 2, load: got 'nan'; expected a number or nothing"),
        ("machine,time,load\na,0,idle\n", "line 2, load: got 'idle'; expected a number or nothing"),
        ("machine,time,load\na,-5,0.5\n", "line 2, time: got -5; expected a time of at least 0 s"),
        ("machine,time,load\na,,0.5\n", "line 2, time: got nothing; expected a time of at least 0 s"),
        ("machine,time,load\n\n,0,0.5\n", "line 3, machine: got nothing; expected a name"),
        ("machine,time,load\na,0,\n", "no load in 0..1"),
        ("a,0,0.5\n", "line 1: 3 fields; expected .* with a header .*, since without one the units"),
        ("machine,time,load\na,0,1\na,1e15,1\n", r"time: got 1e\+15 s and 1 machines; frames of 10 s allow at most"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_own_file_is_refused(own, text, message):
    with pytest.raises(ValueError, match=f"loads.csv.*{message}"):
        real_usage(own(text), "train", num_frames=4)


@pytest.mark.skipif(not EXPORTS.is_dir(), reason="../shared/worlds/traces with exports of a trace is missing")
def test_a_real_own_file_is_cut_into_traces():
    train, test = (real_usage(EXPORTS / "usage_own.csv", split, num_frames=1024).load for split in ("train", "test"))
    assert train.shape == (5, 200) and test.shape == (1, 200)


def test_too_few_or_invalid_rows_are_refused(usage):
    path = usage([("m_1", 0, 10), ("m_1", 10, 12)])
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
