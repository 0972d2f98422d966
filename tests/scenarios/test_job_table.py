"""Tables of jobs, the shipped one, and their conversion to services."""

import numpy as np
import pytest

from jaxcec.env import make_dags
from jaxcec.scenarios.job_table import JobTable, alibaba_hour, job_dags


def draw(table, *, split="train", num_dags=500, max_microservices=25, seed=0, **changes):
    """Draw services with the default scenario's settings."""
    settings = {"mean_load": 500.0, "mean_data": 500.0, "demand": (0.25, 0.75), "runtime": "registered"} | changes
    rng = np.random.default_rng(seed)
    return job_dags(table, rng, split, num_dags=num_dags, max_microservices=max_microservices, **settings)


@pytest.fixture(scope="module")
def hour():
    return alibaba_hour()


def two_jobs(**changes):
    """A table of two jobs: 0 -> 1, and three independent tasks."""
    fields = {
        "tasks": np.array([0, 2, 5], np.int32),
        "arrival": np.array([0, 1], np.float32),
        "preds": np.array([0, 0, 1, 1, 1, 1], np.int32),
        "pred": np.array([0], np.int32),
        "duration": np.array([1, 2, 3, 4, 5], np.float32),
        "run_time": np.ones(5, np.float32),
        "plan_cpu": np.full(5, 100, np.float32),
        "plan_mem": np.full(5, 0.3, np.float32),
    }
    return JobTable(**(fields | changes))


@pytest.mark.parametrize("run_time", [None, np.ones(5, np.float32)])
def test_save_and_load_keep_every_array_and_equal_tables_give_equal_bytes(tmp_path, run_time):
    table = two_jobs(run_time=run_time)
    table.save(tmp_path / "one.npz")
    table.save(tmp_path / "two.npz")
    loaded = JobTable.load(tmp_path / "one.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    for name, array in vars(table).items():
        assert np.array_equal(getattr(loaded, name), array)
    assert loaded.job_preds(0) == [[], [0]] and loaded.job_preds(1) == [[], [], []]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut short", b"not a table at all"])
def test_a_file_that_is_not_a_table_is_refused(tmp_path, content):
    path = tmp_path / "table.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"table.npz: not a job table"):
        JobTable.load(path)


def test_a_table_without_some_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "table.npz", tasks=np.zeros(1))
    with pytest.raises(ValueError, match=r"table.npz: not a job table"):
        JobTable.load(tmp_path / "table.npz")


def test_the_shipped_table_has_the_documented_size(hour):
    assert len(hour) == 12_000 and len(hour.duration) == 60_983 and hour.run_time is None
    assert hour.sizes.min() == 2 and hour.sizes.max() == 71


def test_splits_share_neither_jobs_nor_equal_jobs(hour):
    train, test = hour.split("train"), hour.split("test")
    assert (len(train), len(test)) == (9491, 2509)
    assert sorted([*train, *test]) == list(range(len(hour)))
    contents = [{hour._content(job) for job in jobs} for jobs in (train, test)]
    assert not contents[0] & contents[1]
    assert len(contents[0]) + len(contents[1]) == 8084  # the rest are duplicates


def test_a_job_keeps_its_split_in_another_table(hour):
    first = JobTable(
        tasks=hour.tasks[:101],
        arrival=hour.arrival[:100],
        preds=hour.preds,
        pred=hour.pred,
        duration=hour.duration,
        run_time=None,
        plan_cpu=hour.plan_cpu,
        plan_mem=hour.plan_mem,
    )
    assert first.split("test").tolist() == [job for job in hour.split("test") if job < 100]


def test_services_have_the_requested_means(hour):
    dags = draw(hour, num_dags=9491, max_microservices=100, mean_load=500.0, mean_data=300.0)
    assert np.concatenate([dag.load for dag in dags]).mean() == pytest.approx(500.0, rel=0.03)
    assert np.concatenate([dag.data for dag in dags]).mean() == pytest.approx(300.0, rel=0.01)
    demand = np.concatenate([dag.demand for dag in dags])
    assert demand.min() >= 0.25 and demand.max() <= 0.75
    assert demand.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)


def test_services_fit_into_the_bank_and_repeat_no_job(hour):
    dags = draw(hour, split="test")
    bank = make_dags(dags, 25)
    assert bank.size.max() <= 25 and (bank.load[bank.size[:, None] > np.arange(25)] > 0).all()
    assert len({id(dag.load.base) for dag in dags}) == 1 and len({dag.load.ctypes.data for dag in dags}) == 500


def test_equal_seeds_give_equal_services(hour):
    one, two = (draw(hour, num_dags=50, max_microservices=50, seed=3) for _ in range(2))
    assert all(a.preds == b.preds and np.array_equal(a.data, b.data) for a, b in zip(one, two, strict=True))


def test_loads_can_follow_corrected_run_times():
    table = two_jobs()
    split = "train" if len(table.split("train")) else "test"
    count = len(table.split(split))
    corrected = draw(table, split=split, num_dags=count, max_microservices=5, runtime="corrected")
    assert np.concatenate([dag.load for dag in corrected]) == pytest.approx(500.0)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_dags": 2509}, r"num_dags: got 2509; must be 1..2486, the test jobs of at most 25 microservices"),
        ({"num_dags": 0}, r"num_dags: got 0; must be 1..2486"),
        (
            {"max_microservices": 1},
            r"max_microservices: got 1; none of the 12000 jobs of the table is in the split test",
        ),
        ({"split": "eval"}, r"split: got 'eval'; must be one of train, test"),
        ({"runtime": "corrected"}, r"runtime: got 'corrected'; must be 'registered', because this table has no start"),
        ({"runtime": "real"}, r"runtime: got 'real'; must be one of registered, corrected"),
        ({"demand": (0.9, 0.1)}, r"demand: got \(0.9, 0.1\); must be \(low, high\)"),
    ],
)
def test_impossible_arguments_are_refused(hour, changes, message):
    with pytest.raises(ValueError, match=message):
        draw(hour, **{"num_dags": 10, "split": "test"} | changes)
