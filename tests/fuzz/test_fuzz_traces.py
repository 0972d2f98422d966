"""The loaders of traces with random rows and bytes: a correct table, or a ValueError that names the file."""

import csv
import gzip
import io
import tarfile

import numpy as np
import pytest
from helpers.plain_trace import check_invariants, plain_load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcec.readers import trace_csv
from jaxcec.scenarios import machine_usage
from jaxcec.scenarios.alibaba import LAYOUTS, load_batch_tasks
from jaxcec.scenarios.machine_usage import LAYOUTS as USAGE
from jaxcec.scenarios.machine_usage import fit_usage, real_usage, usage_grid

BATCH, HOUR, MACHINES = LAYOUTS["batch_task"], LAYOUTS["one hour"], USAGE["machine_usage"]
EXAMPLES = pytest.mark.parametrize("examples", [60, pytest.param(2500, marks=pytest.mark.slow)])

tasks = st.builds(
    lambda letter, number, preds, suffix: "_".join([f"{letter}{number}", *map(str, preds)]) + suffix,
    st.sampled_from(["M", "R", "J", "Join", ""]),
    st.integers(0, 6) | st.integers(0, 10**10),
    st.lists(st.integers(0, 6), max_size=3),
    st.sampled_from(["", "", "", "", "_Stg1", "_Stg", "_", "_x", "_1" * 22, "\u0661"]),
) | st.sampled_from(["MergeTask", "task_MTIz==", "task_NDU2==", "", "\ufeffM1", "M1 "])
plain_names = st.builds(
    lambda number, preds: "_".join([f"M{number}", *map(str, preds)]),
    st.integers(1, 4),
    st.lists(st.integers(1, 4), max_size=2, unique=True),
)
numbers = st.sampled_from(["0", "1", "50", "100.00", "0.3", "", "-1", "7", "5e1", "1e15", "1e-60", "0.5", "+3"])
times = st.sampled_from(["10", "20", "20", "30", "30.25", "0", "", "-5", "86400"])
usual = st.just("50") | numbers
rows_of_tasks = st.fixed_dictionaries(
    {
        "task_name": plain_names | plain_names | plain_names | tasks,
        "instance_num": usual,
        "job_name": st.sampled_from(["j_1", "j_2", "j_10", "a job with a long name", "", "jé", 'a,"b"', "a;\nb\tc"]),
        "task_type": st.just("1"),
        "status": st.sampled_from(["Terminated"] * 15 + ["TERMINATED", " terminated ", "Failed", ""]),
        "start_time": st.just("10") | st.just("10") | times,
        "end_time": st.just("30") | st.just("30") | times,
        "plan_cpu": usual,
        "plan_mem": st.just("0.5") | usual,
    }
)
junk = st.sampled_from(
    ["nan", "inf", "1e16", "-1e300", " 1", "x", "1_0", "0x1", "\u0661", '"', "\x01", "\x00", "\r", ",", "\n"]
)


def many(examples):
    """Settings for a number of examples that may share files and take long."""
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=suppressed)


forms = st.fixed_dictionaries(
    {
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "separator": st.sampled_from(",,;\t"),
        "line_end": st.sampled_from(["\n", "\r\n"]),
        "blank": st.sampled_from(["", "", " ", "\t"]),
        "mark": st.booleans(),
        "packed": st.sampled_from(["", "", "gz", "tar", "tar.gz"]),
    }
)


def written(rows, columns, *, header, form):
    """Write rows as the text of a csv file, in one of `forms`; without a header, commas separate fields."""
    text, blank = io.StringIO(newline=""), form["blank"]
    separator = form["separator"] if header else ","
    writer = csv.writer(text, quoting=form["quoting"], delimiter=separator, lineterminator=form["line_end"])
    writer.writerows([columns] * header)
    writer.writerows([f"{blank}{row[name]}{blank}" for name in columns] for row in rows)
    return "\ufeff" * form["mark"] + text.getvalue()


def packed(text, kind):
    """Return the bytes of a text, compressed or in an archive or both."""
    content = text.encode()
    if kind.startswith("tar"):
        archive, member = io.BytesIO(), tarfile.TarInfo("batch_task.csv")
        member.size = len(content)
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(member, io.BytesIO(content))
        content = archive.getvalue()
    return gzip.compress(content, mtime=0) if kind.endswith("gz") else content


def load_or_refuse(path, content, load):
    """Return the result of a loader, or None if it raises a ValueError that names the file."""
    path.write_bytes(content)
    try:
        return load(path)
    except ValueError as error:
        assert type(error) is ValueError and str(path) in str(error) and len(str(error)) < 2000
        return None


@EXAMPLES
def test_the_loader_agrees_with_a_plain_one(examples, tmp_path, monkeypatch):
    @many(examples)
    @given(
        rows=st.lists(rows_of_tasks, min_size=1, max_size=14),
        order=st.permutations(BATCH),
        header=st.booleans(),
        form=forms,
        block=st.integers(20, 400),
    )
    def check(*, rows, order, header, form, block):
        monkeypatch.setattr(trace_csv, "_BLOCK", block)
        text = written(rows, order if header else BATCH, header=header, form=form)
        loaded = load_or_refuse(tmp_path / "batch_task.csv", packed(text, form["packed"]), load_batch_tasks)
        if text.startswith("\ufeff") and not form["mark"]:  # a byte order mark, at this place
            rows[0] = rows[0] | {"task_name": rows[0]["task_name"][1:]}
        dropped, kept = plain_load(rows)
        if loaded is None:
            assert not kept
            return
        table, report = loaded
        check_invariants(table, report)
        assert {reason: count for reason, count in report.dropped.items() if count} == dropped
        assert table.arrival.tolist() == np.float32([arrival for arrival, _ in kept]).tolist()
        columns = table.duration, table.run_time, table.plan_cpu, table.plan_mem
        for job, (_, plain) in enumerate(kept):
            values = np.stack(columns, axis=1)[table.tasks[job] : table.tasks[job + 1]].tolist()
            assert [(set(p), *v) for p, v in zip(table.job_preds(job), values, strict=True)] == plain

    check()


@EXAMPLES
@pytest.mark.parametrize("columns", [BATCH, HOUR], ids=["official", "hour"])
def test_damaged_traces_are_loaded_correctly_or_refused(examples, columns, tmp_path):
    rows = st.lists(rows_of_tasks.map(lambda row: row | {"arrival": row["start_time"], "duration": row["end_time"]}))
    cuts = st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=3) | junk.map(str.encode)), max_size=3
    )

    @many(examples)
    @given(rows=rows, header=st.booleans(), form=forms, cuts=cuts)
    def check(*, rows, header, form, cuts):
        content = damaged(packed(written(rows, columns, header=header, form=form), form["packed"]), cuts)
        loaded = load_or_refuse(tmp_path / "t.csv", content, load_batch_tasks)
        if loaded:
            check_invariants(*loaded)

    check()


def damaged(content, cuts):
    """Replace some bytes by others."""
    for where, length, new in cuts:
        at = round(where * len(content))
        content = content[:at] + new + content[at + length :]
    return content


@EXAMPLES
def test_random_bytes_are_refused(examples, tmp_path):
    @many(examples)
    @given(st.binary(max_size=300))
    def check(content):
        assert load_or_refuse(tmp_path / "t.csv", content, load_batch_tasks) is None
        assert load_or_refuse(tmp_path / "m.csv", content, lambda path: usage_grid(path, 10.0)) is None

    check()


@EXAMPLES
def test_machine_usage_is_read_correctly_or_refused(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(machine_usage, "_MOST_CELLS", 50_000)  # the real limit would take gigabytes and minutes
    values = st.sampled_from(["0", "10", "55.5", "100", "-1", "101", "", "1e15", "3600", "9"]) | junk
    times = st.integers(0, 900).map(str) | st.sampled_from(["", "-1", "1e9", "1e15", "86400"])
    row = st.tuples(st.sampled_from(["m_1", "m_2", "m_3", ""]), times, values)

    @many(examples)
    @given(
        rows=st.lists(row),
        frame=st.sampled_from([10.0, 60.0, 7.5, 0.0, -1.0, float("nan"), float("inf")]),
        frames=st.integers(-1, 4),
        own=st.sampled_from(["", "machine,time,load\n", "machine_id,time,load_percent\n"]),
    )
    def check(*, rows, frame, frames, own):
        path = tmp_path / "machine_usage.csv"
        others = "" if own else ",90,,,43.0,33.1,5"
        path.write_bytes((own + "".join(f"{name},{time},{cpu}{others}\n" for name, time, cpu in rows)).encode())
        for read in (
            lambda: usage_grid(path, frame)[1],
            lambda: real_usage(path, "train", num_frames=frames, frame=frame).load,
        ):
            try:
                loads = read()
            except ValueError as error:
                assert type(error) is ValueError and (str(path) in str(error) or "frame" in str(error))
            else:
                assert loads.size and np.nanmin(loads) >= 0 and np.nanmax(loads) <= 1
        try:
            process = fit_usage(path)
        except ValueError as error:
            assert type(error) is ValueError and str(path) in str(error)
        else:
            assert 0 <= process.mean <= 1 and np.isfinite([sd for sd, _ in process.components]).all()

    check()
