"""Traces that were once loaded wrongly, failed to load, or took far too long."""

import time

import numpy as np
import pytest

from jaxcec.readers import trace_csv
from jaxcec.readers.task_names import parse_task_name
from jaxcec.scenarios.alibaba import load_batch_tasks
from jaxcec.scenarios.machine_usage import fit_usage, real_usage, usage_grid

ROW = "{task},1,{job},1,Terminated,{start},{end},{cpu},0.5"
GOOD = [ROW.format(task=task, job="j_good", start=100, end=110, cpu=100) for task in ("M1", "R2_1")]


def row(task, job="j_1", start=100, end=110, cpu=100):
    return ROW.format(task=task, job=job, start=start, end=end, cpu=cpu)


@pytest.fixture
def load(tmp_path):
    def write_and_load(rows, name="batch_task.csv"):
        (tmp_path / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
        return load_batch_tasks(tmp_path / name)

    return write_and_load


def dropped(report):
    return {reason: count for reason, count in report.dropped.items() if count}


@pytest.mark.parametrize("field", ["cpu", "end"])
@pytest.mark.parametrize("value", ["1e39", "1e300", "-1e16"])
def test_a_number_too_large_for_float32_is_refused(field, value, load):
    with pytest.raises(
        ValueError, match=rf"csv, line 3, (plan_cpu|end_time): got '{value}'; .*, at most 1e\+15 in size"
    ):
        load([*GOOD, row("M1", **{field: value})])


def test_a_plan_that_is_zero_in_float32_is_missing(load):
    _, report = load([*GOOD, row("M1", cpu="1e-60"), row("R2_1")])
    assert dropped(report) == {"plan missing": 1}


def test_rows_without_a_job_name_are_dropped(load):
    _, report = load([*GOOD, row("M1", job=""), row("R2_1", job="")])
    assert dropped(report) == {"job without name": 1} and report.dropped_rows["job without name"] == 2


def test_a_job_of_the_one_hour_layout_without_a_valid_arrival_is_dropped(load):
    rows = [f"{arrival},{job},{task},10,50.0,0.3,9" for job, arrival in (("j_1", ""), ("j_2", 7), ("j_3", -1))
            for task in ("M1", "R2_1")]  # fmt: skip
    table, report = load(rows)
    assert table.arrival.tolist() == [7.0] and dropped(report) == {"time outside the trace": 2}


def test_a_repeated_column_name_is_refused(load):
    header = "task_name,instance_num,job_name,task_type,status,start_time,end_time,plan_cpu,plan_mem,plan_cpu"
    with pytest.raises(ValueError, match="line 1: column plan_cpu is named 2 times; expected once"):
        load([header, *(f"{line},7" for line in GOOD)])


def test_a_byte_order_mark_is_not_part_of_a_task_name(load):
    assert len(load(["\ufeff" + GOOD[0], GOOD[1]])[0]) == 1


def test_a_byte_order_mark_is_not_part_of_a_header(load):
    header = "task_name,instance_num,job_name,task_type,status,start_time,end_time,plan_cpu,plan_mem"
    table, report = load(["\ufeff" + header, *GOOD])
    assert len(table) == 1 and not dropped(report)


def test_task_numbers_have_only_ascii_digits():
    assert parse_task_name("M\u0661").fault == "name unknown"


def test_a_duration_below_half_a_second_is_raised_and_counted(load):
    table, report = load([row("M1", end="100.25"), row("R2_1")])
    assert table.duration.tolist() == [0.5, 10.0] and report.raised == 1


def test_a_deep_job_with_descending_numbers_is_loaded_within_seconds(load):
    tasks = 60_000
    start = time.perf_counter()
    table, _ = load([row(f"M{i}_{i + 1}") for i in range(1, tasks)] + [row(f"M{tasks}")])
    assert table.job_preds(0)[:2] == [[1], [2]] and time.perf_counter() - start < 15
    with pytest.raises(ValueError, match="'cyclic': 1"):
        load([row(f"M{i}_{i % tasks + 1}") for i in range(1, tasks + 1)])


def test_the_size_of_the_blocks_does_not_change_the_table(load, monkeypatch):
    rows = [*GOOD, row("M1", "a job with a longer name"), "", row("J3_1_2", "a job with a longer name"), row("M2")]
    rows += [row("\ufeffM1", "j_2"), row("R1_2"), row("R2", "a job with a longer name")]
    whole, report = load(rows)
    for block in (1, 7, 64, 200):
        monkeypatch.setattr(trace_csv, "_BLOCK", block)
        table, same = load(rows)
        assert same == report and all(np.array_equal(a, vars(whole)[n]) for n, a in vars(table).items())
        with pytest.raises(ValueError, match="csv, line 10: 1 fields in 'cut'"):
            load([*rows, "cut"])


USAGE = "{name},{time},40,90,,,43.0,33.1,5\n"


@pytest.fixture
def usage(tmp_path):
    def write(*rows):
        (tmp_path / "machine_usage.csv").write_text("".join(USAGE.format(name=name, time=time) for name, time in rows))
        return tmp_path / "machine_usage.csv"

    return write


def test_a_time_that_would_exhaust_the_memory_is_refused(usage):
    with pytest.raises(ValueError, match=r"csv, time_stamp: got 1e\+15 s and 1 machines; frames of 10 s allow at most"):
        usage_grid(usage(("m_1", 0), ("m_1", "1e15")), 10.0)


@pytest.mark.parametrize("frame", [0.0, -1.0, float("nan"), float("inf")])
def test_a_frame_that_is_not_positive_is_refused(frame, usage):
    with pytest.raises(ValueError, match=r"frame: got .*; must be positive and finite"):
        usage_grid(usage(("m_1", 0)), frame)


@pytest.mark.parametrize("frames", [0, -3])
def test_a_trace_without_frames_is_refused(frames, usage):
    with pytest.raises(ValueError, match=f"num_frames: got {frames}; must be at least 1"):
        real_usage(usage(("m_1", 0)), "train", num_frames=frames)


def test_a_row_without_a_machine_name_is_left_out(usage):
    assert usage_grid(usage(("m_1", 0), ("", 0)), 10.0)[0] == ["m_1"]


def test_a_fit_to_one_machine_is_refused(usage):
    rows = [("m_1", time) for time in range(0, 20_000, 10)]
    path = usage(*rows)
    path.write_text("".join(f"m_1,{time},{40 + time // 10 % 7},90,,,43.0,33.1,5\n" for _, time in rows))
    with pytest.raises(ValueError, match="one machine; expected at least two"):
        fit_usage(path)
