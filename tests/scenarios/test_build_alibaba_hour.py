import hashlib
import runpy
from pathlib import Path

import pytest
from helpers.real_rows import HOUR, needs_real_rows

from jaxcec.scenarios.job_table import JobTable, alibaba_hour

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "build_alibaba_hour.py"))


def test_another_source_is_refused(tmp_path):
    (tmp_path / "tasks.csv").write_text("0,j_1,M1,1,50.0,0.2,1\n")
    with pytest.raises(ValueError, match=r"tasks.csv: sha256 .*; expected 3635e21b"):
        SCRIPT["build"](tmp_path / "tasks.csv", tmp_path / "table.npz")


@needs_real_rows
def test_the_shipped_table_is_what_the_script_builds(tmp_path):
    SCRIPT["build"](HOUR, tmp_path / "table.npz")
    built, shipped = vars(JobTable.load(tmp_path / "table.npz")), vars(alibaba_hour())
    for name, array in built.items():
        assert (array is None and shipped[name] is None) or (array == shipped[name]).all(), name


def test_the_readme_names_the_sum_of_the_shipped_table():
    data = ROOT / "jaxcec" / "scenarios" / "data"
    assert hashlib.sha256((data / "alibaba_hour.npz").read_bytes()).hexdigest() in (data / "README.md").read_text()
