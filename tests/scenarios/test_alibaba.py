"""The points that a loader of the Alibaba trace must survive, each on made-up rows, then on real ones."""

import numpy as np
import pytest
from helpers.real_rows import BATCH, HOUR, needs_real_rows

from jaxcec.env.banks import upward_rank
from jaxcec.scenarios.alibaba import LAYOUTS, load_batch_tasks
from jaxcec.scenarios.task_names import TaskName, parse_task_name


def row(task, job="j_1", start=100, end=110, cpu=100.0, mem=0.5, instances=1, status="Terminated"):
    return f"{task},{instances},{job},1,{status},{start},{end},{cpu},{mem}"


GOOD = [row("M1", "j_good"), row("R2_1", "j_good")]


@pytest.fixture
def load(tmp_path):
    def write_and_load(rows, **options):
        path = tmp_path / "batch_task.csv"
        path.write_text("\n".join(rows) + "\n")
        return load_batch_tasks(path, **options)

    return write_and_load


def dropped(report):
    return {reason: count for reason, count in report.dropped.items() if count}


def preds(table, job=0):
    return table.job_preds(job)


def test_point_1_a_header_and_floats_change_nothing(load):
    plain, report = load(GOOD)
    floats = [line.replace(",100,110,", ",100.0,110.0,") for line in GOOD]
    headed, _ = load([",".join(LAYOUTS["batch_task"]), *floats])
    assert report.layout == "batch_task" and report.rows == 2
    assert preds(plain) == preds(headed) == [[], [0]]
    assert plain.duration.tolist() == headed.duration.tolist() == [10.0, 10.0]


def test_point_2_independent_tasks_drop_their_job_even_where_one_name_recurs(load):
    name = "task_OTg1NjA1OTIxMzA4ODkxNg=="
    rows = [row(name, "j_1"), row(name, "j_2"), row("M1", "j_2"), row("R2_1", "j_2")]
    table, report = load(rows + GOOD)
    assert len(table) == 1 and dropped(report) == {"independent task": 2}


def test_point_3_merge_task_is_the_only_task_of_its_job(load):
    assert dropped(load([row("MergeTask"), *GOOD])[1]) == {"MergeTask": 1}


def test_point_4_a_stage_suffix_refers_to_no_task(load):
    table, _ = load([row("M1"), row("R2_1_Stg8"), row("J3_1_2_Stg1")])
    assert preds(table) == [[], [0], [0, 1]]
    assert parse_task_name("M1_Stg5") == TaskName(1, (), "")


def test_point_5_cut_names_drop_their_job(load):
    cut = "R28_1_2_3_4_5_6_7_8_9_10_11_12_13_14_15_16_17_18_1"
    assert len(cut) == 50
    tasks = [*(f"M{i}" for i in range(1, 28)), cut]
    _, report = load([row(task) for task in tasks] + [row("M1", "j_2"), row("R2_1_", "j_2")] + GOOD)
    assert dropped(report) == {"name cut": 2}


def test_point_5_a_repeated_dependency_counts_once(load):
    assert preds(load([row("M1"), row("R2_1_1")])[0]) == [[], [0]]


def test_points_6_and_11_numbers_are_not_topological_and_rows_are_in_no_order(load):
    rows = [row("M3", "j_b"), row("J2_1_3", "j_a"), row("R1_3", "j_b"), row("M3", "j_a"), row("M1", "j_a")]
    table, _ = load(rows)
    assert [preds(table, job) for job in (0, 1)] == [[[], [0, 2], []], [[1], []]]
    again, _ = load(rows[::-1])
    assert all(np.array_equal(a, b) for a, b in zip(vars(table).values(), vars(again).values(), strict=True))


def test_points_7_and_8_waiting_running_and_failed_rows_drop_the_whole_job(load):
    waiting = "R2_1,,j_1,1,Waiting,0,0,,"
    rows = [row("M1"), waiting]
    rows += [row("M1", "j_2"), row("R2_1", "j_2", end=0, status="Running")]
    rows += [row("M1", "j_3"), row("R2_1", "j_3", status="Failed")]
    table, report = load(rows + GOOD)
    assert dropped(report) == {"not terminated": 3} and report.kept_tasks == len(table.duration) == 2


def test_point_9_a_time_of_zero_is_outside_the_trace(load):
    rows = [row("M1", start=0), row("R2_1"), row("M1", "j_2"), row("R2_1", "j_2", end=0)]
    table, report = load(rows + GOOD)
    assert dropped(report) == {"time outside the trace": 2} and table.arrival.tolist() == [100.0]


def test_point_10_zero_durations_are_raised_and_negative_ones_drop_the_job(load):
    rows = [row("M1", end=100), row("R2_1"), row("M1", "j_2", end=99), row("R2_1", "j_2")]
    table, report = load(rows)
    assert table.duration.tolist() == [0.5, 10.0] and report.raised == 1
    assert dropped(report) == {"duration negative or missing": 1}


def test_point_12_large_jobs_are_kept_unless_a_limit_is_set(load):
    rows = [row("M1"), *(row(f"R{i}_{i - 1}") for i in range(2, 1003))]
    table, _ = load(rows)
    assert table.sizes.tolist() == [1002] and preds(table)[-1] == [1000]
    assert dropped(load(rows + GOOD, max_microservices=100)[1]) == {"more than 100 tasks": 1}


def test_point_13_the_corrected_run_time_leaves_out_the_wait_for_predecessors(load):
    table, _ = load([row("M1", end=110), row("M2", end=130), row("J3_1_2", end=150), row("R4_3", start=160, end=165)])
    assert table.duration.tolist() == [10.0, 30.0, 50.0, 5.0]
    assert table.run_time.tolist() == [10.0, 30.0, 20.0, 5.0]


def test_point_13_a_child_that_ended_first_has_the_shortest_run_time(load):
    assert load([row("M1", end=130), row("R2_1", end=110)])[0].run_time.tolist() == [30.0, 0.5]


def test_point_14_arrival_is_the_first_start(load):
    table, _ = load([row("M1", "j_b", start=300, end=400), row("R2_1", "j_b", start=250, end=400), *GOOD])
    assert table.arrival.tolist() == [100.0, 250.0]


def test_point_16_plans_are_kept_and_a_missing_one_drops_the_job(load):
    rows = [row("M1", cpu=50.0, mem=0.3), row("R2_1"), row("M1", "j_2", cpu=""), row("R2_1", "j_2")]
    table, report = load(rows)
    assert table.plan_cpu.tolist() == [50.0, 100.0] and table.plan_mem == pytest.approx([0.3, 0.5])
    assert dropped(report) == {"plan missing": 1}


@pytest.mark.parametrize(
    "tasks, reason",
    [
        (["M1", "J1_2", "R2_1"], "task number repeated"),
        (["M1", "R2_7"], "dependency missing"),
        (["M1", "J2_1_3", "R3_2"], "cyclic"),
        (["R1_1", "R2_1"], "cyclic"),
        (["M1"], "single task"),
        (["M1", "R2_1_x"], "name unknown"),
        (["M1", ""], "name unknown"),
    ],
)
def test_other_unusable_jobs_are_dropped_whole(load, tasks, reason):
    table, report = load([row(task) for task in tasks] + GOOD)
    assert dropped(report) == {reason: 1} and table.sizes.tolist() == [2]


def test_a_job_may_depend_on_a_number_that_only_another_job_has(load):
    rows = [row("M1", "j_1"), row("R2_3", "j_1"), row("M1", "j_2"), row("R2_1", "j_2"), row("R3_1", "j_2")]
    assert dropped(load(rows)[1]) == {"dependency missing": 1}


def test_one_hour_layout_has_no_start_times(tmp_path):
    path = tmp_path / "hour.csv"
    path.write_text("7,j_1,R2_1,20,50.0,0.3,9\n7,j_1,M1,10,100.0,0.2,1\n0,j_0,M1,0,50.0,0.2,1\n0,j_0,M2,3,50.0,0.2,1\n")
    table, report = load_batch_tasks(path)
    assert report.layout == "one hour" and table.run_time is None
    assert table.arrival.tolist() == [0.0, 7.0]  # from the window's beginning, where 0 is a time like any other
    assert table.duration.tolist() == [0.5, 3.0, 10.0, 20.0]


def test_damaged_files_are_refused_by_line(load):
    with pytest.raises(ValueError, match=r"batch_task.csv, line 3: 4 fields in 'R3_1,1,j_good,1'; expected 9"):
        load([*GOOD, "R3_1,1,j_good,1"])
    with pytest.raises(ValueError, match=r"batch_task.csv, line 1: 1 fields; expected a csv file of 9 columns"):
        load(["\x7fELF\x02\x01"])
    with pytest.raises(ValueError, match=r"no complete DAG job among 1: dropped"):
        load([row("M1")])


def test_report_prints_a_table(load):
    text = str(load([row("MergeTask"), *GOOD])[1])
    assert "batch_task.csv (batch_task layout)" in text and text.count("\n") > 10
    assert any(line.split() == ["dropped,", "MergeTask", "1"] for line in text.splitlines())


@needs_real_rows
def test_real_hour():
    table, report = load_batch_tasks(HOUR)
    assert (report.rows, report.jobs, report.kept_jobs) == (67_634, 16_749, 12_000)
    assert dropped(report) == {"independent task": 1271, "name cut": 7, "single task": 3471}
    assert np.percentile(table.sizes, [50, 75, 90, 95, 99]).tolist() == [3, 6, 10, 14, 25]
    chains = [all(len(row) <= 1 for row in preds(table, job)) for job in range(200)]
    assert np.mean(chains) == pytest.approx(0.6, abs=0.2)
    work = table.duration * table.plan_cpu
    assert np.percentile(work, [50, 90, 99]) == pytest.approx([800, 8300, 37_600], rel=0.05)
    assert np.diff(np.unique(table.arrival)).min() >= 1  # whole seconds, although 4.65 jobs arrive in each


@needs_real_rows
def test_real_batch_tasks():
    table, report = load_batch_tasks(BATCH)
    assert (report.rows, report.jobs, report.kept_jobs) == (55_874, 2_120, 1_880)
    assert dropped(report) == {"name cut": 209, "not terminated": 30, "single task": 1}
    assert table.run_time.sum() < 0.7 * table.duration.sum()


@needs_real_rows
def test_point_13_on_real_rows_the_longest_path_of_corrected_run_times_is_near_the_makespan():
    table, _ = load_batch_tasks(BATCH)
    ratio = {"duration": [], "run_time": []}
    for job in range(300):
        rows = slice(table.tasks[job], table.tasks[job + 1])
        for name, ratios in ratio.items():
            ratios.append(_longest_path(preds(table, job), getattr(table, name)[rows]))
    assert np.median(np.divide(ratio["duration"], ratio["run_time"])) > 1.5


def _longest_path(rows, times):
    return upward_rank(rows, times, "preds").max()
