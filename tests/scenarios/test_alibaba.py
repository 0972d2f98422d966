"""Loading Alibaba traces: each peculiarity of the trace on made-up rows, then whole files."""

import gzip

import numpy as np
import pytest
from helpers.real_rows import BATCH, EXPORTS, HOUR, HOUR_START, needs_real_rows, write_batch, write_hour

from jaxcec.env.banks import upward_rank
from jaxcec.readers.task_names import TaskName, parse_task_name
from jaxcec.scenarios.alibaba import LAYOUTS, load_batch_tasks
from jaxcec.scenarios.job_table import alibaba_hour


def row(task, job="j_1", *, start=100, end=110, cpu=100.0, mem=0.5, instances=1, status="Terminated"):
    return f"{task},{instances},{job},1,{status},{start},{end},{cpu},{mem}"


GOOD = [row("M1", "j_good"), row("R2_1", "j_good")]


@pytest.fixture
def load(tmp_path):
    def write_and_load(rows):
        path = tmp_path / "batch_task.csv"
        path.write_text("\n".join(rows) + "\n")
        return load_batch_tasks(path)

    return write_and_load


def dropped(report):
    return {reason: count for reason, count in report.dropped.items() if count}


def preds(table, job=0):
    return table.job_preds(job)


def test_a_header_and_floating_point_numbers_change_nothing(load):
    plain, report = load(GOOD)
    floats = [line.replace(",100,110,", ",100.0,110.0,") for line in GOOD]
    headed, _ = load([",".join(LAYOUTS["batch_task"]), *floats])
    assert report.layout == "batch_task" and report.rows == 2
    assert preds(plain) == preds(headed) == [[], [0]]
    assert plain.duration.tolist() == headed.duration.tolist() == [10.0, 10.0]


def test_a_job_with_an_independent_task_is_dropped_even_if_the_name_recurs(load):
    name = "task_OTg1NjA1OTIxMzA4ODkxNg=="
    rows = [row(name, "j_1"), row(name, "j_2"), row("M1", "j_2"), row("R2_1", "j_2")]
    table, report = load(rows + GOOD)
    assert len(table) == 1 and dropped(report) == {"independent task": 2}


def test_a_merge_task_drops_its_job(load):
    assert dropped(load([row("MergeTask"), *GOOD])[1]) == {"MergeTask": 1}


def test_a_stage_suffix_is_not_a_dependency(load):
    table, _ = load([row("M1"), row("R2_1_Stg8"), row("J3_1_2_Stg1")])
    assert preds(table) == [[], [0], [0, 1]]
    assert parse_task_name("M1_Stg5") == TaskName(1, (), "")


def test_a_job_with_a_cut_task_name_is_dropped(load):
    cut = "R28_1_2_3_4_5_6_7_8_9_10_11_12_13_14_15_16_17_18_1"
    assert len(cut) == 50
    tasks = [*(f"M{i}" for i in range(1, 28)), cut]
    _, report = load([row(task) for task in tasks] + [row("M1", "j_2"), row("R2_1_", "j_2")] + GOOD)
    assert dropped(report) == {"name cut": 2}


def test_a_repeated_dependency_counts_once(load):
    assert preds(load([row("M1"), row("R2_1_1")])[0]) == [[], [0]]


def test_rows_may_be_in_any_order_and_task_numbers_need_not_be_topological(load):
    rows = [row("M3", "j_b"), row("J2_1_3", "j_a"), row("R1_3", "j_b"), row("M3", "j_a"), row("M1", "j_a")]
    table, _ = load(rows)
    assert [preds(table, job) for job in (0, 1)] == [[[], [0, 2], []], [[1], []]]
    again, _ = load(rows[::-1])
    assert all(np.array_equal(a, b) for a, b in zip(vars(table).values(), vars(again).values(), strict=True))


def test_a_job_with_a_waiting_running_or_failed_task_is_dropped_whole(load):
    waiting = "R2_1,,j_1,1,Waiting,0,0,,"
    rows = [row("M1"), waiting]
    rows += [row("M1", "j_2"), row("R2_1", "j_2", end=0, status="Running")]
    rows += [row("M1", "j_3"), row("R2_1", "j_3", status="Failed")]
    table, report = load(rows + GOOD)
    assert dropped(report) == {"not terminated": 3} and report.kept_tasks == len(table.duration) == 2


@pytest.mark.parametrize("status", ["terminated", "TERMINATED", " Terminated "])
def test_a_status_may_have_any_case_and_blanks(load, status):
    assert load([row("M1", status=status), row("R2_1")])[0].sizes.tolist() == [2]


def test_the_exports_of_a_trace_that_people_have_are_the_same_table(load, tmp_path):
    plain, _ = load(GOOD)
    quoted = ['"' + line.replace(",", '","') + '"' for line in GOOD]
    header = "," + ",".join(LAYOUTS["batch_task"])
    indexed = [header, *(f"{i},{line}" for i, line in enumerate(GOOD))]
    (tmp_path / "batch_task.csv.gz").write_bytes(gzip.compress("\n".join(GOOD).encode()))
    exports = [load(quoted), load(indexed), load_batch_tasks(tmp_path / "batch_task.csv.gz")]
    for table, _ in exports:
        assert all(np.array_equal(a, vars(plain)[name]) for name, a in vars(table).items())


@pytest.mark.skipif(not EXPORTS.is_dir(), reason="../shared/worlds/traces with exports of a trace is missing")
@pytest.mark.parametrize("name", ["ok.csv.gz", "pandas_index.csv", "quoted.csv", "status_lower.csv"])
def test_real_exports_are_loaded(name):
    assert len(load_batch_tasks(EXPORTS / f"ali_{name}")[0]) == 2


def test_a_time_of_zero_is_outside_the_trace(load):
    rows = [row("M1", start=0), row("R2_1"), row("M1", "j_2"), row("R2_1", "j_2", end=0)]
    table, report = load(rows + GOOD)
    assert dropped(report) == {"time outside the trace": 2} and table.arrival.tolist() == [100.0]


def test_a_duration_of_zero_is_raised_and_a_negative_one_drops_the_job(load):
    rows = [row("M1", end=100), row("R2_1"), row("M1", "j_2", end=99), row("R2_1", "j_2")]
    table, report = load(rows)
    assert table.duration.tolist() == [0.5, 10.0] and report.raised == 1
    assert dropped(report) == {"duration negative or missing": 1}


def test_large_jobs_are_kept(load):
    rows = [row("M1"), *(row(f"R{i}_{i - 1}") for i in range(2, 1003))]
    table, _ = load(rows)
    assert table.sizes.tolist() == [1002] and preds(table)[-1] == [1000]


def test_the_corrected_run_time_leaves_out_the_wait_for_predecessors(load):
    table, _ = load([row("M1", end=110), row("M2", end=130), row("J3_1_2", end=150), row("R4_3", start=160, end=165)])
    assert table.duration.tolist() == [10.0, 30.0, 50.0, 5.0]
    assert table.run_time.tolist() == [10.0, 30.0, 20.0, 5.0]


def test_a_task_that_ended_before_its_predecessor_has_the_shortest_run_time(load):
    assert load([row("M1", end=130), row("R2_1", end=110)])[0].run_time.tolist() == [30.0, 0.5]


def test_a_job_arrives_at_its_first_start(load):
    table, _ = load([row("M1", "j_b", start=300, end=400), row("R2_1", "j_b", start=250, end=400), *GOOD])
    assert table.arrival.tolist() == [100.0, 250.0]


def test_plans_are_kept_and_a_missing_plan_drops_the_job(load):
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
def test_a_job_with_a_broken_graph_is_dropped_whole(load, tasks, reason):
    table, report = load([row(task) for task in tasks] + GOOD)
    assert dropped(report) == {reason: 1} and table.sizes.tolist() == [2]


def test_a_dependency_on_a_number_that_only_another_job_has_is_missing(load):
    rows = [row("M1", "j_1"), row("R2_3", "j_1"), row("M1", "j_2"), row("R2_1", "j_2"), row("R3_1", "j_2")]
    assert dropped(load(rows)[1]) == {"dependency missing": 1}


def test_the_one_hour_layout_has_no_start_times(tmp_path):
    path = tmp_path / "hour.csv"
    path.write_text("7,j_1,R2_1,20,50.0,0.3,9\n7,j_1,M1,10,100.0,0.2,1\n0,j_0,M1,0,50.0,0.2,1\n0,j_0,M2,3,50.0,0.2,1\n")
    table, report = load_batch_tasks(path)
    assert report.layout == "one hour" and table.run_time is None
    assert table.arrival.tolist() == [0.0, 7.0]  # from the beginning of the hour, so 0 is valid
    assert table.duration.tolist() == [0.5, 3.0, 10.0, 20.0]


def test_an_error_names_the_line_of_a_damaged_file(load):
    with pytest.raises(ValueError, match=r"batch_task.csv, line 3: 4 fields in 'R3_1,1,j_good,1'; expected 9"):
        load([*GOOD, "R3_1,1,j_good,1"])
    with pytest.raises(ValueError, match=r"batch_task.csv, line 1: 1 fields; expected a csv file of 9 columns"):
        load(["\x7fELF\x02\x01"])
    with pytest.raises(ValueError, match=r"no complete DAG job among 1: dropped"):
        load([row("M1")])


def test_the_report_prints_as_a_table(load):
    text = str(load([row("MergeTask"), *GOOD])[1])
    assert "batch_task.csv (batch_task layout)" in text and text.count("\n") > 10
    assert any(line.split() == ["dropped,", "MergeTask", "1"] for line in text.splitlines())


@pytest.mark.parametrize("source, rows", [("shipped", 65_732), pytest.param("real", 67_634, marks=needs_real_rows)])
def test_an_hour_of_jobs_has_the_statistics_of_the_trace(source, rows, tmp_path):
    table, report = load_batch_tasks(HOUR if source == "real" else write_hour(tmp_path / "hour.csv"))
    assert report.layout == "one hour"
    assert (report.rows, report.jobs, report.kept_jobs) == (rows, 16_749, 12_000)
    assert (report.kept_tasks, report.raised) == (60_983, 2336)
    assert dropped(report) == {"independent task": 1271, "name cut": 7, "single task": 3471}
    assert np.percentile(table.sizes, [50, 75, 90, 95, 99]).tolist() == [3, 6, 10, 14, 25]
    chains = [all(len(row) <= 1 for row in preds(table, job)) for job in range(200)]
    assert np.mean(chains) == pytest.approx(0.6, abs=0.2)
    work = table.duration * table.plan_cpu
    assert np.percentile(work, [50, 90, 99]) == pytest.approx([800, 8300, 37_600], rel=0.05)
    assert np.diff(np.unique(table.arrival)).min() >= 1  # whole seconds, although 4.65 jobs arrive in each


@pytest.fixture(scope="module", params=["shipped", pytest.param("real", marks=needs_real_rows)])
def batch(request, tmp_path_factory):
    """Source, table and report of a file in the layout of `batch_task.csv`."""
    real = request.param == "real"
    path = BATCH if real else write_batch(tmp_path_factory.mktemp("batch") / "batch_task.csv")
    return request.param, *load_batch_tasks(path)


def test_batch_tasks_of_real_jobs_are_loaded(batch):
    source, table, report = batch
    assert report.layout == "batch_task"
    counts = {"shipped": (61_223, 12_240, 12_000), "real": (55_874, 2_120, 1_880)}
    assert (report.rows, report.jobs, report.kept_jobs) == counts[source]
    assert dropped(report) == {"name cut": 209, "not terminated": 30, "single task": 1}
    assert table.run_time.sum() < 0.7 * table.duration.sum()


def test_durations_along_the_longest_path_exceed_corrected_run_times(batch):
    table = batch[1]
    longest = {"duration": [], "run_time": []}
    for job in range(300):
        rows = slice(table.tasks[job], table.tasks[job + 1])
        for name, lengths in longest.items():
            lengths.append(upward_rank(preds(table, job), getattr(table, name)[rows], "preds").max())
    assert np.median(np.divide(longest["duration"], longest["run_time"])) > 1.5


@pytest.mark.parametrize("write, start", [(write_hour, 0), (write_batch, HOUR_START)])
def test_the_shipped_table_written_as_rows_is_loaded_unchanged(write, start, tmp_path):
    table, shipped = load_batch_tasks(write(tmp_path / "rows.csv"))[0], alibaba_hour()
    assert np.array_equal(table.arrival, shipped.arrival + start)
    for name in ("tasks", "preds", "pred", "duration", "plan_cpu", "plan_mem"):
        assert np.array_equal(getattr(table, name), getattr(shipped, name)), name
