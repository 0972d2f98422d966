"""Runs the loaders of traces on files under coverage-guided mutation, for a given time or until one of them fails.

    pip install atheris
    python tests/fuzz/atheris_traces.py -max_total_time=300

The flags are those of libFuzzer. `load_batch_tasks` and `usage_grid` read each input. An input is a failure if a loader
raises anything but a ValueError that names the file, returns an inconsistent table, or takes ten seconds.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["jaxcec.scenarios"]):
    from jaxcec.scenarios.alibaba import load_batch_tasks
    from jaxcec.scenarios.machine_usage import usage_grid
from helpers.plain_trace import check_invariants

SEEDS = (
    "M1,1,j_1,1,Terminated,10,20,100.00,0.5\nR2_1,1,j_1,1,Terminated,10,30,50.00,0.5\n",
    "task_name,instance_num,job_name,task_type,status,start_time,end_time,plan_cpu,plan_mem\nM1_2,1,j,1,Failed,1,,,\n",
    "R3_2_1_Stg4,1,j_1,1,Terminated,10,20,1e2,.5\nM2,,j_1,1,Terminated,10,20,1,1\nJ1,1,j_1,1,Terminated,1,2,3,4\n",
    "7,j_1,R2_1,20,50.0,0.3,9\r\n7,j_1,M1,10,100.0,0.2,1\r\n0,j_0,M1_2,0,50.0,0.2,1\n\n0,j_0,M2_1,3,50.0,0.2,1\n",
    '"task_name";"job_name";"arrival";"duration";"plan_cpu";"plan_mem";"instance_num"\n"M1";"a ""j""";7;1;2; 3 ;1\n',
    "machine,time,load\na,0,0.5\nb,10,\n",
    "m_1,0,40,90,,,43.0,33.1,5\nm_2,10,101,90,,,43.0,33.1,5\nm_1,60,-1,90,,,43.0,33.1,5\n",
)


def read(path: Path) -> None:
    """Read a file with both loaders; a ValueError must name the file."""
    for load in (lambda: check_invariants(*load_batch_tasks(path)), lambda: usage_grid(path, 10.0)):
        try:
            load()
        except ValueError as error:
            if str(path) not in str(error):
                raise


def main() -> None:
    """Run the fuzzer on mutations of `SEEDS`."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, path = Path(folder) / "corpus", Path(folder) / "trace.csv"
        corpus.mkdir()
        for i, seed in enumerate(SEEDS):
            (corpus / str(i)).write_text(seed)

        def one_input(content: bytes) -> None:
            path.write_bytes(content)
            read(path)

        atheris.Setup([*sys.argv, "-max_len=600", "-len_control=0", "-timeout=10", str(corpus)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
