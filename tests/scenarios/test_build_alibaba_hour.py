"""The script that builds the shipped table, on the file it was built from and on rows written from the table."""

import hashlib
import runpy
import zipfile
from pathlib import Path

import pytest
from helpers.real_rows import HOUR, needs_real_rows, write_hour

from jaxcec.scenarios.job_table import JobTable, alibaba_hour

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "build_alibaba_hour.py"))


def check_built(path):
    """Compare a built table with the shipped one."""
    built, shipped = vars(JobTable.load(path)), vars(alibaba_hour())
    for name, array in built.items():
        assert (array is None and shipped[name] is None) or (array == shipped[name]).all(), name


def test_another_source_is_refused(tmp_path):
    (tmp_path / "tasks.csv").write_text("0,j_1,M1,1,50.0,0.2,1\n")
    with pytest.raises(ValueError, match=r"tasks.csv: sha256 .*; expected 3635e21b"):
        SCRIPT["build"](tmp_path / "tasks.csv", tmp_path / "table.npz")


@pytest.mark.parametrize("wheel", [False, True], ids=["csv", "wheel"])
def test_the_script_builds_the_shipped_table_from_its_own_rows(wheel, tmp_path, monkeypatch):
    source = write_hour(tmp_path / "tasks.csv")
    build = SCRIPT["build"]
    monkeypatch.setitem(build.__globals__, "SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    if wheel:
        with zipfile.ZipFile(tmp_path / "spar.whl", "w") as archive:
            archive.write(source, SCRIPT["MEMBER"])
        source = tmp_path / "spar.whl"
    report = build(source, tmp_path / "table.npz")
    assert report.path == "spar/data/samples/sample_tasks.csv of spar 0.0.7" and report.kept_jobs == 12_000
    check_built(tmp_path / "table.npz")


@needs_real_rows
def test_the_script_builds_the_shipped_table_from_the_rows_of_the_trace(tmp_path):
    SCRIPT["build"](HOUR, tmp_path / "table.npz")
    check_built(tmp_path / "table.npz")


def test_the_readme_has_the_checksum_of_the_shipped_table():
    data = ROOT / "jaxcec" / "scenarios" / "data"
    assert hashlib.sha256((data / "alibaba_hour.npz").read_bytes()).hexdigest() in (data / "README.md").read_text()
