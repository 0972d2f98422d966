"""`load_batch_tasks` in plain Python, job by job, and the invariants of every job table."""

import graphlib

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"


def parse(name):
    """Number and predecessors of a task, or the reason why its name has none."""
    if name.startswith("task_"):
        return "independent task"
    if name == "MergeTask":
        return "MergeTask"
    if len(name) >= 50 or name.endswith("_"):
        return "name cut"
    first, *rest = name.split("_")
    number = first.lstrip(LETTERS)
    while rest and rest[-1].startswith("Stg") and is_number(rest[-1][3:], 50):
        rest.pop()
    if number == first or not all(is_number(part, 9) for part in (number, *rest)):
        return "name unknown"
    return int(number), {int(part) for part in rest}


def is_number(text, digits):
    return 1 <= len(text) <= digits and set(text) <= set(DIGITS)


def is_cyclic(preds):
    try:
        graphlib.TopologicalSorter(preds).prepare()
    except graphlib.CycleError:
        return True
    return False


def fault(job, rows):
    """The reason why a job is dropped, the first that applies, or None."""
    names = [parse(row["task_name"]) for row in rows]
    for reason in ("independent task", "MergeTask", "name cut", "name unknown"):
        if reason in names:
            return reason
    preds = dict(names)
    start, end, cpu, memory = (
        [float(row[name] or "0") for row in rows] for name in ("start_time", "end_time", "plan_cpu", "plan_mem")
    )
    faults = {
        "job without name": job == "",
        "task number repeated": len(preds) < len(rows),
        "not terminated": any(row["status"].lower() != "terminated" for row in rows),
        "time outside the trace": min(start + end) <= 0,
        "duration negative or missing": any(b < a for a, b in zip(start, end, strict=True)),
        "plan missing": min(np.float32(cpu + memory)) <= 0,
        "dependency missing": any(before - set(preds) for before in preds.values()),
        "cyclic": is_cyclic(preds),
        "single task": len(rows) == 1,
    }
    return next((reason for reason, wrong in faults.items() if wrong), None)


def plain_load(rows):
    """Number of dropped jobs by reason; arrival of each kept job and its tasks' predecessors, durations and plans."""
    by_job = {}
    for row in rows:
        row = {name: field.strip(" \t") for name, field in row.items()}
        by_job.setdefault(row["job_name"], []).append(row)
    dropped, kept = {}, []
    for job, tasks in by_job.items():
        reason = fault(job, tasks)
        if reason:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            kept.append((min(float(task["start_time"]) for task in tasks), job.encode(), tasks))
    return dropped, [(arrival, plain_tasks(tasks)) for arrival, _, tasks in sorted(kept, key=lambda job: job[:2])]


def plain_tasks(rows):
    parsed = sorted(((*parse(row["task_name"]), row) for row in rows), key=lambda task: task[0])
    position = {number: i for i, (number, _, _) in enumerate(parsed)}
    start = [float(row["start_time"]) for _, _, row in parsed]
    end = [float(row["end_time"]) for _, _, row in parsed]
    tasks = []
    for i, (_, before, row) in enumerate(parsed):
        preds = {position[number] for number in before}
        ready = max([start[i], *(end[pred] for pred in preds)])
        times = max(end[i] - start[i], 0.5), max(end[i] - ready, 0.5)
        tasks.append((preds, *np.float32([*times, float(row["plan_cpu"]), float(row["plan_mem"])]).tolist()))
    return tasks


def check_invariants(table, report):
    """Check that counts add up, numbers are finite and in range, and graphs are acyclic."""
    assert report.rows == report.kept_tasks + sum(report.dropped_rows.values())
    assert report.jobs == report.kept_jobs + sum(report.dropped.values())
    assert report.kept_jobs == len(table) == len(table.tasks) - 1 and report.kept_tasks == table.tasks[-1]
    assert 0 <= report.raised <= report.kept_tasks and table.preds[-1] == len(table.pred)
    assert (
        (np.diff(table.tasks) >= 2).all() and (np.diff(table.preds) >= 0).all() and (np.diff(table.arrival) >= 0).all()
    )
    for name, least in (("duration", 0.5), ("run_time", 0.5), ("plan_cpu", 1e-45), ("plan_mem", 1e-45), ("arrival", 0)):
        values = getattr(table, name)
        if values is not None:
            assert values.dtype == np.float32 and np.isfinite(values).all() and (values >= np.float32(least)).all(), (
                name
            )
    for job in range(len(table)):
        preds = table.job_preds(job)
        assert all(0 <= pred < len(preds) for row in preds for pred in row)
        assert all(len(set(row)) == len(row) for row in preds)
        assert not is_cyclic(dict(enumerate(preds)))
